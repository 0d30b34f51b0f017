"""What a checkpoint's folder may hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rl.errors import ConfigError
from rl.files.named_checkpoint import SHIPPED_POLICY, refuse_damaged


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
