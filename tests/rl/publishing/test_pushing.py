"""`sieve push` against a server that stands in for the hub."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from safetensors.torch import load
from typer.testing import CliRunner

from rl.cli import app
from tests.fixtures.chat_server import free_port
from tests.fixtures.hub_server import TOKEN, Hub, hub_server
from tests.fixtures.saved_run import write_saved_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    write_saved_run(run)
    return run


def push(*arguments: object) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["push", *map(str, arguments)])
    return found.exit_code, found.stderr if found.exit_code else found.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("part", "options"), [("policy", []), ("mprm", ["--public"])])
def test_a_model_and_its_card_are_one_commit(
    part: str, options: list[str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_server() as hub:
        hub.stand_in(monkeypatch)
        code, said = push(run, "me/my-model", "--part", part, *options)
    assert code == 0 and said == f"{run}/checkpoints/step-2/{part} is at {hub.endpoint}/me/my-model\n"
    (created,) = hub.created
    visibility = "public" if options else "private"
    assert (created["organization"], created["name"], created["visibility"]) == ("me", "my-model", visibility)
    files = hub.files["me/my-model"]
    saved = {path.name: path.read_bytes() for path in (run / "checkpoints/step-2" / part).iterdir() if path.is_file()}
    assert files.keys() == saved.keys() | {"README.md"}
    assert [name for name in saved if files[name] != saved[name]] == ([] if part == "policy" else ["mprm.json"])
    assert load(files["model.safetensors"]), "weights arrive as they are"
    assert yaml.safe_load(files["README.md"].decode().split("---")[1])["model-index"][0]["name"] == "me/my-model"
    assert hub.messages == [f"{part} after step 2"]


@pytest.mark.slow
@pytest.mark.parametrize(("status", "code", "words"), [(403, 2, "the token may not write there"), (418, 1, "418")])
def test_a_hub_that_does_not_take_it(
    status: int, code: int, words: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_server(status) as hub:
        hub.stand_in(monkeypatch)
        found, said = push(run, "other/my-model")
    assert found == code and words in said and said.count("\n") == 1, said
    assert hub.files == {}


@pytest.mark.slow
def test_a_hub_that_is_not_there(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    Hub(address).stand_in(monkeypatch)
    code, said = push(run, "me/my-model")
    assert code == 1 and f"{address} cannot be reached" in said and said.count("\n") == 1, said


@pytest.mark.parametrize("repository", ["my-model", "no owner", "a/b/c", "me/", "../../etc", ""])
def test_what_is_no_repository(repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    code, said = push(tmp_path, repository)
    assert code == 2 and "allowed is OWNER/NAME" in said and said.count("\n") == 1, said


def test_without_a_token_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    code, said = push(tmp_path, "me/my-model")
    assert code == 2 and "there is no token for the hub" in said and said.count("\n") == 1, said
