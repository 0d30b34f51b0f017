"""Two ranks are one: the same losses, scores, gradients and weights, whether each holds the whole model or half."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rewards.models.backbone import load_model
from rewards.process_model.mprm import BACKBONE, BESIDE_FILE
from tests.fixtures.one_rank import LEARNING_RATE
from tests.fixtures.ranks import run_alone, run_in_two_ranks
from tests.fixtures.rounding import assert_same_training

SCRIPT = Path(__file__).parents[2] / "fixtures" / "one_rank.py"
CASES: dict[str, dict[str, Any]] = {
    f"{head}-{sharding}": {"head": head, "sharding": sharding}
    for head, sharding in (("token", "ddp"), ("beta", "fsdp2"))
}
CASES |= {f"{case['sharding']}-mixed": {**case, "text_alone": 5} for case in [*CASES.values()]}
CASES["fsdp2-text"] = {"head": "token", "sharding": "fsdp2", "text_alone": 11}
STATE = "optimizer/state.safetensors"


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process and two ranks made of all cases: folders ``one`` and ``two``, with one of each name."""
    folder = tmp_path_factory.mktemp("learned")
    run_alone(SCRIPT, CASES, folder / "one")
    run_in_two_ranks(SCRIPT, CASES, folder / "two")
    return folder


def seen(folder: Path, rank: int = 0) -> dict[str, Any]:
    return json.loads((folder / f"rank-{rank}.json").read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All that learns, by the names that the optimizer has for it."""
    backbone = load_model(str(folder), "float32", False).named_parameters()
    return {BACKBONE + name: value.detach() for name, value in backbone} | load_file(folder / BESIDE_FILE)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_ranks_equal_one(name: str, learned: Path) -> None:
    one, two = learned / "one" / name, learned / "two" / name
    left, right, other = seen(one), seen(two), seen(two, 1)
    assert all(right[what] == other[what] for what in ("metrics", "scores")), "every rank has every score"
    for row, same in zip(left["metrics"], right["metrics"], strict=True):
        # A gradient's length sums over a million weights: of it, the fifth digit.
        assert row == pytest.approx(same, rel=1e-4, abs=1e-5)
    for scores, others in zip(left["scores"], right["scores"], strict=True):
        assert scores == pytest.approx(others, rel=1e-4, abs=1e-5)
    for rank in (right, other):
        assert left["entropy"] == pytest.approx(rank["entropy"], abs=1e-5)
    for moment in ("saved", "again"):
        folders = one / moment, two / moment
        states = load_file(folders[0] / STATE), load_file(folders[1] / STATE)
        assert_same_training(weights(folders[0]), weights(folders[1]), states, LEARNING_RATE)
