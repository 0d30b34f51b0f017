"""PPO in two ranks is PPO in one: the same metrics, policy and critic, whatever the critic reads and the ranks hold."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rewards.models.backbone import load_model
from rl.config.learner import LearnerConfig, ValueConfig
from tests.fixtures.ranks import run_alone, run_in_two_ranks
from tests.fixtures.rounding import assert_same_training

SCRIPT = Path(__file__).parents[2] / "fixtures" / "one_ppo_rank.py"
BACKBONES, SHARDINGS = ("policy", "own"), ("ddp", "fsdp2")
STATE = "optimizer/state.safetensors"
METRICS = ("loss", "grad_norm", "entropy", "value_loss", "explained_variance", "advantage_std")


def seen(folder: Path, rank: int = 0) -> list[dict[str, Any]]:
    rows = json.loads((folder / f"rank-{rank}.json").read_text())
    return [{name: row[name] for name in METRICS} for row in rows]


def policy(folder: Path) -> dict[str, torch.Tensor]:
    """Its weights, by the names that the optimizer has for them."""
    return {name: value.detach() for name, value in load_model(str(folder), "float32", False).named_parameters()}


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process made of each thing that the critic reads, in rows of their own, and two ranks of that and each
    sharding, packed."""
    folder = tmp_path_factory.mktemp("learned")
    alone = {backbone: {"backbone": backbone, "sharding": "ddp", "pack": False} for backbone in BACKBONES}
    run_alone(SCRIPT, alone, folder / "one")
    both = itertools.product(BACKBONES, SHARDINGS)
    cases = {f"{read}-{sharding}": {"backbone": read, "sharding": sharding, "pack": True} for read, sharding in both}
    run_in_two_ranks(SCRIPT, cases, folder / "two")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("sharding", SHARDINGS)
def test_two_ranks_equal_one(backbone: str, sharding: str, learned: Path) -> None:
    alone, two = learned / "one" / backbone, learned / "two" / f"{backbone}-{sharding}"
    assert seen(two, 0) == seen(two, 1), "every rank sees the same"
    for row, other in zip(seen(alone), seen(two), strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-5)
    for folder in (alone, two):
        assert seen(folder)[1] == pytest.approx(seen(folder)[2], rel=1e-5), "a step after loading is the one it was"
    one, other = alone / "saved", two / "saved"
    states = load_file(one / STATE), load_file(other / STATE)
    assert_same_training(policy(one), policy(other), states, LearnerConfig().learning_rate)
    states = load_file(one / "critic" / STATE), load_file(other / "critic" / STATE)
    critics = (load_file(folder / "critic" / "critic.safetensors") for folder in (one, other))
    assert_same_training(*critics, states, ValueConfig().learning_rate)
