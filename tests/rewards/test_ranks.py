"""Two ranks are one: the same losses, scores and weights, whether each holds the whole model or half of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

SCRIPT = Path(__file__).parent / "one_rank.py"
FILES = ("model.safetensors", "beside_backbone.safetensors", "optimizer/state.safetensors")


def run(launcher: list[str], head: str, sharding: str, folder: Path) -> None:
    folder.mkdir()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[2])}
    command = [sys.executable, *launcher, str(SCRIPT), head, sharding, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def seen(folder: Path, rank: int = 0) -> dict[str, Any]:
    return json.loads((folder / f"rank-{rank}.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("head", "sharding"), [("token", "ddp"), ("beta", "fsdp2")])
def test_two_ranks_equal_one(head: str, sharding: str, tmp_path: Path) -> None:
    one = tmp_path / "one"
    run([], head, sharding, one)
    two = tmp_path / sharding
    run(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"], head, sharding, two)
    assert seen(two, 0) == seen(two, 1), "every rank has every score"
    left, right = seen(one), seen(two)
    for row, other in zip(left["metrics"], right["metrics"], strict=True):
        # A gradient's length sums over a million weights: of it, the fifth digit.
        assert row == pytest.approx(other, rel=1e-4, abs=1e-5)
    for row, other in zip(left["scores"], right["scores"], strict=True):
        # A gradient's length sums over a million weights: of it, the fifth digit.
        assert row == pytest.approx(other, rel=1e-4, abs=1e-5)
    assert left["entropy"] == pytest.approx(right["entropy"], abs=1e-5)
    for name in FILES:
        for moment in ("saved", "again"):
            weights, others = load_file(one / moment / name), load_file(two / moment / name)
            assert weights.keys() == others.keys()
            for key, value in weights.items():
                assert value.shape == others[key].shape
                assert (value - others[key]).abs().max().item() < 1e-5, (moment, name, key)
