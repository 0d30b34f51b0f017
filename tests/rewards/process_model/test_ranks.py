"""Two ranks are one: the same losses, scores and weights, whether each holds the whole model or half of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.fixtures.ranks import run_alone, run_in_two_ranks

SCRIPT = Path(__file__).parents[2] / "fixtures" / "one_rank.py"
CASES = {
    f"{head}-{sharding}": {"head": head, "sharding": sharding}
    for head, sharding in (("token", "ddp"), ("beta", "fsdp2"))
}
FILES = ("model.safetensors", "beside_backbone.safetensors", "optimizer/state.safetensors")


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process and two ranks made of all cases: folders ``one`` and ``two``, with one of each name."""
    folder = tmp_path_factory.mktemp("learned")
    run_alone(SCRIPT, CASES, folder / "one")
    run_in_two_ranks(SCRIPT, CASES, folder / "two")
    return folder


def seen(folder: Path, rank: int = 0) -> dict[str, Any]:
    return json.loads((folder / f"rank-{rank}.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_ranks_equal_one(name: str, learned: Path) -> None:
    one, two = learned / "one" / name, learned / "two" / name
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
