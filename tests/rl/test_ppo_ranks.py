"""PPO in two ranks is PPO in one: the same metrics, policy and critic, whatever the critic reads and the ranks hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

SCRIPT = Path(__file__).parent / "one_ppo_rank.py"
FILES = ("model.safetensors", "critic/critic.safetensors", "critic/optimizer/state.safetensors")
METRICS = ("loss", "grad_norm", "entropy", "value_loss", "explained_variance", "advantage_std")


def run(launcher: list[str], backbone: str, sharding: str, folder: Path) -> None:
    folder.mkdir()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[2])}
    command = [sys.executable, *launcher, str(SCRIPT), backbone, sharding, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def seen(folder: Path, rank: int = 0) -> list[dict[str, Any]]:
    rows = json.loads((folder / f"rank-{rank}.json").read_text())
    return [{name: row[name] for name in METRICS} for row in rows]


@pytest.fixture(scope="module", params=["policy", "own"])
def one(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the critic reads, and what one rank makes of it."""
    folder = tmp_path_factory.mktemp("ranks") / "one"
    run([], request.param, "ddp", folder)
    return request.param, folder


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp2"])
def test_two_ranks_equal_one(one: tuple[str, Path], sharding: str, tmp_path: Path) -> None:
    (backbone, alone), two = one, tmp_path / "two"
    run(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"], backbone, sharding, two)
    assert seen(two, 0) == seen(two, 1), "every rank sees the same"
    for row, other in zip(seen(alone), seen(two), strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-5)
    for folder in (alone, two):
        assert seen(folder)[1] == pytest.approx(seen(folder)[2], rel=1e-5), "a step after loading is the one it was"
    for name in FILES:
        weights, others = load_file(alone / "saved" / name), load_file(two / "saved" / name)
        assert weights.keys() == others.keys()
        for key, value in weights.items():
            assert value.shape == others[key].shape
            assert (value - others[key]).abs().max().item() < 1e-5, (name, key)
