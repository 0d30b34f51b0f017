"""What a checkpoint's folder may hold."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers.models.smolvlm import processing_smolvlm

from rl.config import Config
from rl.errors import ConfigError
from rl.files.named_checkpoint import SHIPPED_POLICY, make_encoder, refuse_damaged


@pytest.mark.parametrize("part", ["p.bin", "../elsewhere.safetensors", "/tmp/x.safetensors", "a/b.safetensors", ""])
def test_an_index_names_safetensors_beside_it_and_nothing_else(part: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(SHIPPED_POLICY, folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "model.safetensors"}}))
    refuse_damaged("policy.checkpoint", folder)
    (tmp_path / "elsewhere.safetensors").write_bytes(b"")
    (folder / "p.bin").write_bytes(b"")
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "model.safetensors", "a": part}}))
    with pytest.raises(ConfigError, match=r"names .*: allowed are \*\.safetensors beside it"):
        refuse_damaged("policy.checkpoint", folder)


@pytest.mark.parametrize("name", ["model.safetensors", "chat_template.jinja", "config.json"])
@pytest.mark.parametrize("put", [os.mkfifo, lambda place: place.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_what_would_be_waited_for_or_never_ends_is_no_part_of_a_checkpoint(
    name: str, put: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(SHIPPED_POLICY, folder)
    (folder / name).unlink()
    put(folder / name)
    with pytest.raises(ConfigError, match=rf"{name} is damaged: it is no regular file"):
        refuse_damaged("policy.checkpoint", folder)


def test_a_processor_that_lacks_a_package_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SmolVLM's writes the lengths of videos in words; the package that it does so with is installed with Sieve."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(SHIPPED_POLICY, folder)
    settings = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps(settings | {"processor_class": "SmolVLMProcessor"}))
    assert processing_smolvlm.num2words(2) == "two"
    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    with pytest.raises(ConfigError) as caught:
        make_encoder(Config.model_validate({"policy": {"checkpoint": str(folder)}}))
    said = str(caught.value)
    assert said.startswith(f"policy.checkpoint: the processor of '{folder}' lacks a package: ") and "num2words" in said
