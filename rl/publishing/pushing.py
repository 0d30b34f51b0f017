"""Onto the hub, or a server that speaks its protocol (``HF_ENDPOINT``)."""

from __future__ import annotations

from pathlib import Path

from httpx import HTTPError
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from rl.errors import ConfigError


def check_repository(repository: str) -> None:
    """Whether it can be the name of one, and there is a token to write with; cheap, and to be asked first.

    Raises:
        ConfigError: It cannot, or there is none.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError:
        owned = False
    else:
        owned = "/" in repository
    if not owned:
        raise ConfigError(f"REPO {repository!r}: allowed is OWNER/NAME, as on the hub")
    if get_token() is None:
        raise ConfigError("there is no token for the hub; allowed is one from `hf auth login`, or in HF_TOKEN")


def push(folder: Path, repository: str, message: str, public: bool) -> str:
    """Upload all files of a folder as one commit, into a repository that is made if it is not there; gives its address.

    Raises:
        ConfigError: The token may not.
        OSError: The hub cannot be reached, or fails.
    """
    hub = HfApi()
    try:
        address = hub.create_repo(repository, private=not public, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise ConfigError(f"REPO {repository}: the token may not write there: {_line(error)}") from None
        raise OSError(_line(error)) from None
    except HTTPError as error:  # of the network, before there was an answer
        raise OSError(f"{hub.endpoint} cannot be reached: {_line(error)}") from None
    return str(address)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
