"""Adapters alone travel from learner to engine, which keeps the weights that it started with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rl.engines.adapter_files import RANKS, room_for_rank, write_adapters
from tests.fixtures.policy_families import (
    PROMPTS,
    TOLERANCE,
    Policy,
    largest_difference,
    scored,
    some_experiences,
)
from tests.fixtures.tiny_families import FAMILIES, write_tiny_checkpoint

pytestmark = pytest.mark.slow

RANK = 3


@pytest.fixture(scope="module", params=FAMILIES)
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Policy]:
    folder = write_tiny_checkpoint(request.param, tmp_path_factory.mktemp(request.param))
    with Policy.of(request.param, folder, lora_rank=RANK) as policy:
        yield policy


def test_the_engine_follows_the_adapters_and_answers_as_with_merged_weights(policy: Policy) -> None:
    learner = policy.learner(lora_rank=RANK)
    policy.engine.load_adapters(learner.adapters(), 0)
    for version in (1, 2):
        rows = policy.sampled(PROMPTS, seed=version)
        assert largest_difference(rows, scored(learner, rows)) < TOLERANCE
        learner.step(some_experiences(rows))
        assert largest_difference(rows, scored(learner, rows)) > 10 * TOLERANCE, "the update must be visible"
        assert policy.engine.load_adapters(learner.adapters(), version) == version
    rows = policy.sampled(PROMPTS, seed=9)
    assert {sample.policy_version for _, sample in rows} == {2}
    assert largest_difference(rows, scored(learner, rows)) < TOLERANCE

    policy.engine.load_weights(learner.checkpoint_weights(), 3)
    merged = policy.sampled(PROMPTS, seed=9)
    assert largest_difference(merged, scored(learner, merged)) < TOLERANCE, "or the adapters counted twice"
    policy.engine.load_weights(policy.learner().checkpoint_weights(), 4)


def test_adapters_of_several_ranks_are_refused(tmp_path: Path) -> None:
    adapters = {f"layer{rank}.lora_A.weight": torch.zeros(rank, 4) for rank in (2, 4)}
    with pytest.raises(ValueError, match=r"adapters of ranks \[2, 4\]: allowed is one rank for all"):
        write_adapters(adapters, tmp_path)


@pytest.mark.parametrize(("rank", "room"), [(1, 1), (2, 8), (16, 16), (17, 32), (512, 512)])
def test_room_is_made_for_the_rank_in_a_size_that_vllm_knows(rank: int, room: int) -> None:
    from vllm.config import LoRAConfig

    assert room_for_rank(rank) == room == LoRAConfig(max_lora_rank=room).max_lora_rank


def test_a_rank_that_vllm_has_no_room_for_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lora_rank is 513: .* allowed is at most 512"):
        room_for_rank(RANKS[-1] + 1)
