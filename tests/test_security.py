"""What a stranger's files can do to a machine: nothing. And what is secret stays so."""

from __future__ import annotations

import ast
import os
import pickle
import shutil
from pathlib import Path

import psutil
import pytest
import torch
import yaml

import rl
from rewards.files.images import (
    MOST_PIXELS,
    OutsideFolderError,
    UnreadableImageError,
    image_path,
    read_image,
)
from rewards.models.backbone import load_model
from rewards.models.encoding import Encoder
from rl.config import Config, load_config, save_config
from rl.errors import ConfigError
from rl.files.named_checkpoint import SHIPPED_POLICY, refuse_damaged
from tests.fixtures.builders import an_image
from tests.fixtures.wrong_files import bomb, encoded

ROOT = Path(rl.__file__).parent.parent
SOURCES = sorted(file for folder in ("rl", "rewards", "selection") for file in (ROOT / folder).rglob("*.py"))
UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {
    "torch.load",
    "np.load",
    "numpy.load",
    "pd.read_pickle",
    "yaml.unsafe_load",
    "eval",
    "exec",
    "os.system",
}
MODELS = ("AutoModelForImageTextToText",)


def names_of(tree: ast.AST) -> set[str]:
    """Modules that are imported, and functions that are called, as the code spells them."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Call):
            found.add(ast.unparse(node.func))
    return found


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_unpickles_or_runs_text(file: Path) -> None:
    assert names_of(ast.parse(file.read_text(encoding="utf-8"))) & (UNSAFE_MODULES | UNSAFE_CALLS) == set()


def test_code_of_checkpoints_is_off_and_weights_are_safetensors_wherever_models_are_opened() -> None:
    opened = 0
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".from_pretrained"):
                opened += 1
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("trust_remote_code", "False") != "True", file
                if ast.unparse(node.func).startswith(MODELS):
                    assert given.get("use_safetensors") == "True", file
            elif isinstance(node, ast.arg) and node.arg == "trust_remote_code" and node.annotation is None:
                raise AssertionError(f"{file}: an untyped trust_remote_code")
    assert opened >= 4
    assert Config().policy.trust_remote_code is False


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self.sign), 0o777)


def test_pickles_in_a_checkpoint_are_never_opened(tmp_path: Path) -> None:
    sign, checkpoint = tmp_path / "sprung", tmp_path / "checkpoint"
    shutil.copytree(SHIPPED_POLICY, checkpoint)
    trap = pickle.dumps(Trap(sign))
    for name in ("pytorch_model.bin", "model.pt", "optimizer.pt", "training_args.bin", "scheduler.pt", "tokenizer.pkl"):
        (checkpoint / name).write_bytes(trap)
    torch.save(Trap(sign), checkpoint / "adapter_model.bin")
    load_model(checkpoint)
    Encoder(str(checkpoint))
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        load_model(checkpoint)
    with pytest.raises(ConfigError, match=r"holds no \*\.safetensors"):
        refuse_damaged("policy.checkpoint", checkpoint)
    assert not sign.exists()
    pickle.loads(trap)
    assert sign.exists(), "the trap works"


def test_image_paths_stay_in_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    (folder / "images").mkdir(parents=True)
    an_image().save(tmp_path / "outside.png")
    an_image().save(folder / "images" / "inside.png")
    (folder / "out.png").symlink_to(tmp_path / "outside.png")
    (folder / "in.png").symlink_to("images/inside.png")
    (folder / "parent").symlink_to(tmp_path)
    inside = ("images/inside.png", "images/../images/inside.png", "in.png", str(folder / "images" / "inside.png"))
    for name in inside:
        assert read_image(image_path(folder, name)).size == an_image().size
    for name in ("../outside.png", "images/../../outside.png", str(tmp_path / "outside.png"), "out.png", "/etc/passwd"):
        with pytest.raises(OutsideFolderError, match="lies outside of"):
            image_path(folder, name)
    with pytest.raises(OutsideFolderError):
        image_path(folder, "parent/outside.png")


def test_decompression_bombs_are_refused_by_their_head() -> None:
    for side in (10_000, 20_000, 60_000):
        assert len(bomb(side)) < 100
        before = psutil.Process().memory_info().rss
        with pytest.raises(UnreadableImageError, match=f"{MOST_PIXELS:,} pixels"):
            read_image(bomb(side))
        assert psutil.Process().memory_info().rss - before < 50e6
    assert read_image(encoded(an_image(), "PNG")).size == an_image().size


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        (f"judge: {{endpoint: 'https://me:{SECRET}@judge/v1', model: m}}", []),
        (f"judge: {{endpoint: 'https://{SECRET}@judge/v1', model: m}}", []),
        (f"judge: {{endpoint: 'https://judge/v1?api_key={SECRET}', model: m}}", []),
        (f"judge: {{api_key_env: sk-{SECRET}}}", []),
        (f"judge: {{api_key: {SECRET}}}", []),
        (f"hf_token: {SECRET}", []),
        ("{}", [f"judge.endpoint=http://a:{SECRET}@b"]),
        ("{}", [f"judge.api_key_env={SECRET}"]),
        ("{}", [f"judge.endpoint.x=[http://a:{SECRET}@b"]),
        ("{}", [f"judge.api_key={SECRET}"]),
    ],
)
def test_secrets_are_refused_and_not_repeated(text: str, overrides: list[str], tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "experiment.yaml", overrides)
    assert SECRET not in str(caught.value)


def test_a_run_keeps_the_name_of_the_key_and_not_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIEVE_JUDGE_KEY", SECRET)
    (tmp_path / "experiment.yaml").write_text("{}")
    overrides = ["judge.endpoint=https://judge/v1", "judge.model=m", "judge.api_key_env=SIEVE_JUDGE_KEY"]
    save_config(load_config(tmp_path / "experiment.yaml", overrides), tmp_path / "config.yaml")
    written = (tmp_path / "config.yaml").read_text()
    assert yaml.safe_load(written)["judge"]["api_key_env"] == "SIEVE_JUDGE_KEY" and SECRET not in written
