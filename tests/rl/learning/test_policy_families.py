"""Qwen2.5-VL, InternVL and Gemma 3 as policies, in their own classes with tiny random weights.

They sample in vLLM, learn in TRL, and sample again with what they learned: pictures of several sizes in one batch,
prompts with one, two and no picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pytest
import torch

from rewards.models.encoding import Encoder
from rewards.records import Completion, Prompt
from rl.learning.learner import PolicyLearner
from tests.fixtures.policy_families import (
    PROMPTS,
    TEXT_ONLY,
    TOLERANCE,
    Policy,
    largest_difference,
    scored,
    some_experiences,
)
from tests.fixtures.tiny_families import FAMILIES, write_tiny_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=FAMILIES)
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Policy]:
    with Policy.of(
        request.param, write_tiny_checkpoint(request.param, tmp_path_factory.mktemp(request.param))
    ) as policy:
        yield policy


def difference(learner: PolicyLearner, rows: Sequence[tuple[Prompt, Completion]]) -> float:
    return largest_difference(rows, scored(learner, rows))


@torch.no_grad()
def forget(model: torch.nn.Module) -> None:
    """Leave nothing of an engine's weights."""
    for parameter in model.parameters():
        parameter.fill_(math.nan)


def test_engine_and_learner_agree_before_and_after_an_update(policy: Policy) -> None:
    learner = policy.learner()
    policy.engine.load_weights(learner.checkpoint_weights(), 0)
    before = policy.sampled(PROMPTS, seed=1)
    assert difference(learner, before) < TOLERANCE

    learner.step(some_experiences(before))
    assert difference(learner, before) > 10 * TOLERANCE, "the update must change the policy visibly"
    policy.engine._llm.apply_model(forget)  # as one that has slept
    assert policy.engine.load_weights(learner.checkpoint_weights(), 1) == 1
    after = policy.sampled(PROMPTS, seed=2)
    assert {sample.policy_version for _, sample in after} == {1}
    assert difference(learner, after) < TOLERANCE


def test_a_row_reads_the_same_alone_as_among_others(policy: Policy) -> None:
    """Each must get its own pictures, and all parts of them."""
    learner = policy.learner()
    policy.engine.load_weights(learner.checkpoint_weights(), 0)
    rows = policy.sampled(PROMPTS, seed=3)
    for row in rows[::3]:
        assert difference(learner, [row]) < TOLERANCE


def test_an_update_moves_the_vision_tower_and_the_engine_sees_it(policy: Policy) -> None:
    """Were a part of the names unknown to the engine, it would go on with what it has, without a word."""
    learner = policy.learner()
    start = learner.checkpoint_weights()
    learner.step(some_experiences(policy.sampled(PROMPTS, seed=4)))
    weights = learner.checkpoint_weights()
    tower = {name: tensor for name, tensor in weights.items() if "visual" in name or "vision" in name}
    assert any(not torch.equal(tensor, start[name]) for name, tensor in tower.items())
    policy.engine.load_weights(start | tower, 2)
    rows = policy.sampled(PROMPTS[:2], seed=5)
    assert difference(policy.learner(), rows) > 10 * TOLERANCE


def test_the_engine_attends_as_transformers_does_but_for_gemma_on_a_cpu(policy: Policy) -> None:
    """Gemma looks at a picture both ways, vLLM's attention on a CPU one way: an update there corrects for it."""
    learner = policy.learner(Encoder(policy.checkpoint))
    policy.engine.load_weights(learner.checkpoint_weights(), 0)
    assert difference(learner, policy.sampled(TEXT_ONLY, seed=6)) < TOLERANCE
    one_way = policy.family == "gemma3" and not torch.cuda.is_available()
    found = difference(learner, policy.sampled(PROMPTS[:2], seed=6))
    assert found > 10 * TOLERANCE if one_way else found < TOLERANCE
