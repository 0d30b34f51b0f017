"""What a folder says of the MPRM that was saved in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rewards.files.json_text import read_json
from rewards.files.whole_file import content_of
from rewards.process_model.config import MPRMConfig

MPRM_FILE = "mprm.json"


@dataclass(frozen=True)
class SavedMPRM:
    """What stands in the file.

    Attributes:
        version: How often it had learned.
        checkpoint: What it was made from.
        settings: Its `MPRMConfig.identity`.
    """

    version: int
    checkpoint: str
    settings: dict[str, Any]


def read_saved(folder: Path) -> SavedMPRM:
    """What `rewards.process_model.mprm.MPRM.save` wrote.

    Raises:
        ValueError: It is missing, damaged or something else; one line that names the file.
    """
    file = folder / MPRM_FILE
    try:
        saved = msgspec.convert(read_json(content_of(file)), SavedMPRM)
        # Earlier versions kept more.
        MPRMConfig.model_validate({key: saved.settings[key] for key in MPRMConfig().identity()})
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{file} is damaged: allowed is what was saved with the weights") from None
    return saved
