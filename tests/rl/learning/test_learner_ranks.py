"""Two ranks of the learner are one: the same step, whether each holds the whole model or half of it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rewards.models.backbone import load_model
from rewards.models.encoding import Encoder
from rl.config.learner import LearnerConfig
from rl.learning.learner import PolicyLearner
from tests.fixtures.learner_config import learner_config
from tests.fixtures.learner_experiences import CHECKPOINT, largest_difference
from tests.fixtures.one_learner_rank import learned_rollouts
from tests.fixtures.ranks import run_alone, run_in_two_ranks
from tests.fixtures.rounding import assert_same_training

SCRIPT = Path(__file__).parents[2] / "fixtures" / "one_learner_rank.py"
STATE, ADAPTERS = "optimizer/state.safetensors", "adapters/adapter_model.safetensors"
SETTINGS: dict[str, dict[str, Any]] = {
    "ddp": {"sharding": "ddp"},
    "fsdp2": {
        "sharding": "fsdp2",
        "loss": "grpo",
        "correction": "sequence_truncate",
        "kl": 0.1,
        "reference_every": 2,
        "freeze_vision": True,
    },
    "fsdp2 with adapters": {"sharding": "fsdp2", "lora_rank": 4, "learning_rate": 1e-3, "kl": 0.1},
    "fsdp2 with text alone": {"sharding": "fsdp2", "text_alone": 11},
    "fsdp2 with pictures alone": {"sharding": "fsdp2", "text_alone": 0},
    "ddp with text alone": {"sharding": "ddp", "text_alone": 11},
}
CONTINUED: dict[str, Any] = {
    "reuse_continuations": True,
    "places": (3, 3),
    "micro_batch_tokens": 300,
    "gradient_checkpointing": True,
}
SETTINGS |= {f"{sharding} with continuations": {"sharding": sharding} | CONTINUED for sharding in ("ddp", "fsdp2")}
if find_spec("deepspeed"):  # whose installation wants a compiler, and PyTorch first: none of Sieve's requirements
    SETTINGS["deepspeed"] = {"sharding": "deepspeed"}


def values_of(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in ("seconds", "flops_utilisation")}


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process and two ranks made of all settings: folders ``one`` and ``two``, with one of each name."""
    folder = tmp_path_factory.mktemp("learned")
    run_alone(SCRIPT, {name: as_one(name) for name in SETTINGS}, folder / "one")
    apart = {"deepspeed"} & SETTINGS.keys()  # its plugin is for the whole of a process
    for names in (SETTINGS.keys() - apart, apart):
        if names:
            run_in_two_ranks(SCRIPT, {name: SETTINGS[name] for name in SETTINGS if name in names}, folder / "two")
    return folder


def as_one(name: str) -> dict[str, Any]:
    """Settings of a process by itself, which reads continuations in rows of their own."""
    rows = {"pack": False} if "places" in SETTINGS[name] else {}
    return SETTINGS[name] | rows | ({"sharding": "fsdp2"} if name == "deepspeed" else {})


def seen(folder: Path) -> list[dict[str, Any]]:
    """What each rank saw."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("rank-*.json"))]


def saved(folder: Path, adapters: bool = False) -> dict[str, torch.Tensor]:
    """The weights, or the adapters alone, by the names that the optimizer has for them."""
    if not adapters:
        return {name: value.detach() for name, value in load_model(str(folder), "float32", False).named_parameters()}
    kept = load_file(folder / ADAPTERS).items()
    return {n.removeprefix("base_model.model.").replace(".weight", ".default.weight"): value for n, value in kept}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_two_ranks_equal_one(name: str, learned: Path) -> None:
    one, two = learned / "one" / name, learned / "two" / name
    whole = as_one(name)
    ((alone,), (first, second)) = seen(one), seen(two)
    assert [values_of(row) for row in first["metrics"]] == [values_of(row) for row in second["metrics"]]
    assert first["logprobs"] == second["logprobs"]
    assert (alone["packs"], first["packs"]) == (whole.get("pack", True), name != "deepspeed")
    assert (first["skipped"], second["skipped"]) == (1, 1), "what one rank cannot learn from, none of them does"
    assert (first["tensors"] > 60, second["tensors"]) == (True, 0), "the first rank has the weights"
    for row, other in zip(alone["metrics"], first["metrics"], strict=True):
        # A gradient's length sums over a million weights: of it, the fifth digit.
        assert values_of(row) == pytest.approx(values_of(other), rel=1e-4, abs=1e-5)
    assert values_of(first["metrics"][1]) == pytest.approx(values_of(first["metrics"][2]), rel=1e-5, abs=1e-7)
    states = load_file(one / "saved" / STATE), load_file(two / "saved" / STATE)
    adapters, rate = "lora_rank" in whole, whole.get("learning_rate", LearnerConfig().learning_rate)
    assert_same_training(saved(one / "saved", adapters), saved(two / "saved", adapters), states, rate)
    for folder in (one, two):
        kept = load_model(str(folder / "saved"), "float32", False).state_dict()
        assert largest_difference(load_file(folder / "weights.safetensors"), kept) < 1e-6, "what the engines get"

    # What two ranks saved, one goes on from as they did.
    experiences = learned_rollouts(whole.pop("text_alone", 5), whole.pop("places", ()))
    settings = learner_config(micro_batch=2, **whole)
    learner = PolicyLearner(CHECKPOINT, Encoder(CHECKPOINT), settings)
    learner.load(two / "saved")
    metrics = learner.step(experiences)
    assert values_of(metrics) == pytest.approx(values_of(first["metrics"][1]), rel=1e-4, abs=1e-5)
