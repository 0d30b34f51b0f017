"""No rank has more than its part, of a model or of its optimizer, while they are made, saved and loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rewards.models import backbone
from rl.files.named_checkpoint import SHIPPED_POLICY
from tests.fixtures.ranks import run_in_two_ranks

SCRIPT = Path(__file__).parents[2] / "fixtures" / "one_part_rank.py"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What each rank saw, by what it was at."""
    folder, cases = tmp_path_factory.mktemp("parts"), ("optimizer", "trees", "models")
    run_in_two_ranks(SCRIPT, {case: {} for case in cases}, folder)
    return {case: [json.loads((folder / case / f"rank-{rank}.json").read_text()) for rank in (0, 1)] for case in cases}


@pytest.mark.slow
def test_an_optimizer_is_loaded_in_parts(seen: dict[str, list[dict[str, Any]]]) -> None:
    """Of 66 GB of moments at 7B, all would be on every GPU."""
    for kind in (kind for rank in seen["optimizer"] for kind in rank.values()):
        assert kind["as_one"] and kind["equal"] and kind["extra"] == {"a": 1}
        assert kind["held"] and max(kind["held"]) <= kind["part"]
        assert 0.9 < kind["peak"] < 1.5, "its part alone is made; gathered, two more would be"


@pytest.mark.slow
def test_models_are_cut_before_they_are_on_a_gpu(seen: dict[str, list[dict[str, Any]]]) -> None:
    """Of 32B, the 134 GB of float32 have room on no GPU."""
    for rank in seen["models"]:
        assert rank["trainer_moves"] is False
        assert rank["shares"] == {name: pytest.approx(0.5, abs=0.01) for name in ("learner", "critic", "mprm")}


@pytest.mark.slow
def test_weights_are_gathered_one_after_another_as_they_leave(seen: dict[str, list[dict[str, Any]]]) -> None:
    """Of the second rank, which keeps none of them: the first one's copies are in its machine's own memory."""
    _, second = seen["models"]
    assert second["whole"] > 6, "then the largest one is far from all of them"
    assert second["peaks"].keys() == {"save", "object store", "nccl", "load"}
    for way in ("save", "object store", "nccl"):
        assert 1 <= second["peaks"][way] < 4, f"{way}: as many times the largest weight"


@pytest.mark.slow
def test_weights_come_back_in_parts(seen: dict[str, list[dict[str, Any]]]) -> None:
    """What is read lies in the machine's own memory; of it a rank makes its part, once more than it has it."""
    for rank in seen["models"]:
        assert rank["whole"] / 2 <= rank["peaks"]["load"] <= rank["whole"] / 2 + 1


@pytest.mark.slow
def test_ranks_agree_on_whether_their_model_reads_trees(seen: dict[str, list[dict[str, Any]]]) -> None:
    """They would else cut a step's rollouts into different micro-batches, and wait for one another for ever."""
    assert seen["trees"] == [{"whole": True, "broken": False}] * 2


@pytest.mark.parametrize(
    ("sharding", "ranks", "stays"), [("fsdp2", "2", True), ("fsdp2", "1", False), ("ddp", "2", False)]
)
def test_a_model_that_is_to_be_cut_stays_on_the_cpu(
    sharding: str, ranks: str, stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", ranks)
    monkeypatch.setattr(backbone, "device", lambda: "meta")
    parameter = next(backbone.load_model(SHIPPED_POLICY, sharding=sharding).parameters())
    assert parameter.device.type == ("cpu" if stays else "meta")
