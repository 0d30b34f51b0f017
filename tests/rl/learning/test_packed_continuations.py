"""Continuations in the rows of their rollouts: read once, and learned from as in rows of their own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from rewards.models.encoding import Encoder
from rewards.models.token_tree import find_stems, own_tokens
from rewards.records import Experience
from rl.config.learner import LearnerConfig
from rl.learning.learner import PolicyLearner
from rl.learning.micro_batches import choose_micro_batches
from rl.learning.rows import Row, loss_inputs
from rl.learning.statistics import advantage_statistics
from tests.fixtures.learner_config import learner_config
from tests.fixtures.learner_experiences import (
    CHECKPOINT,
    continuations_of,
    going_on,
    of_another_sampler,
    sampled_experiences,
)

pytestmark = pytest.mark.slow

GRADIENTS = {"float32": 3e-6, "float64": 1e-6}
"""How far two gradients may be apart, in parts of their length. In float32 rounding alone is more than 1e-6; in float64
norms and the head still compute in float32."""


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(CHECKPOINT)


@pytest.fixture(scope="module")
def grown() -> list[Experience]:
    """Twelve rollouts of three prompts, and what goes on from four places of each with the tokens of another one: twice
    from the same, from next to the end, and in the third prompt from rollouts that are not there."""
    rollouts = of_another_sampler(sampled_experiences())
    return rollouts[:9] + continuations_of(rollouts, (3, 3, 9, -1))


def stems_of(experiences: list[Experience]) -> list[Any]:
    prompts = [experience.prompt.id for experience in experiences]
    return find_stems(prompts, [len(e.prefix) for e in experiences], [e.path for e in experiences])


def test_each_continuation_goes_on_from_what_has_its_prefix(grown: list[Experience]) -> None:
    stems = stems_of(grown)
    assert 0 < sum(stem is None for stem in stems[9:]) < len(grown) / 2
    for experience, stem in zip(grown, stems, strict=True):
        if stem is not None:
            parent = grown[stem.completion]
            assert stems[stem.completion] is None and parent.prompt.id == experience.prompt.id
            assert stem.tokens == len(experience.prefix) and parent.path[: stem.tokens] == experience.prefix


def gradients(learner: PolicyLearner, rows: list[Row], packed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of all tokens that are learned from, and the gradient of the loss, as one vector each."""
    learner._model.train()
    learner._model.zero_grad()
    inputs = loss_inputs(learner._encoder, rows, learner._settings, torch.device("cpu"), packed)
    inputs["num_items_in_batch"] = torch.tensor(float(sum(len(row.experience.token_ids) for row in rows)))
    learner._trainer.compute_loss(learner._wrapped, inputs).backward()
    found = [p.grad.flatten().double() for _, p in sorted(learner._learning.items()) if p.grad is not None]
    return learner._trainer.seen[0][inputs["completion_mask"].bool()].detach(), torch.cat(found)


@pytest.mark.parametrize("dtype", GRADIENTS)
@pytest.mark.parametrize("keys", [{"loss": "dapo"}, {"loss": "cispo", "lora_rank": 4}], ids=lambda keys: keys["loss"])
def test_log_probabilities_and_gradients_are_those_of_rows(
    keys: dict[str, Any], dtype: str, encoder: Encoder, grown: list[Experience]
) -> None:
    learner = PolicyLearner(CHECKPOINT, encoder, learner_config(**keys))
    learner._model.to(getattr(torch, dtype))
    rows = [Row(experience) for experience in grown]
    logprobs, gradient = gradients(learner, rows, packed=False)
    others, another = gradients(learner, rows, packed=True)
    assert len(logprobs) == sum(len(experience.token_ids) for experience in grown)
    assert (logprobs - others).abs().max() <= 1e-5
    assert (gradient - another).norm() <= GRADIENTS[dtype] * gradient.norm()


@pytest.mark.parametrize("cut", [{}, {"micro_batch": 7}, {"micro_batch_tokens": 300}, {"mini_batches": 3}], ids=str)
def test_a_step_is_that_of_rows_however_it_is_cut(
    cut: dict[str, Any], encoder: Encoder, grown: list[Experience]
) -> None:
    keys = cut | {"reuse_continuations": True, "correction": "token_truncate", "kl": 0.1}
    learners = [PolicyLearner(CHECKPOINT, encoder, learner_config(pack=pack, **keys)) for pack in (False, True)]
    metrics, others = (learner.step(grown) for learner in learners)
    for name in metrics.keys() - {"seconds", "flops_utilisation"}:
        assert metrics[name] == pytest.approx(others[name], rel=1e-4, abs=1e-6), name


def test_a_continuation_costs_its_own_tokens(encoder: Encoder) -> None:
    (rollout, *_), found = sampled_experiences(), []
    learner = PolicyLearner(CHECKPOINT, encoder)
    embeddings = learner._model.get_input_embeddings()
    embeddings.register_forward_hook(lambda module, given, states: found.append(states.shape[:2].numel()))
    learner.step([rollout])
    learner.step([rollout, *[going_on(rollout, tokens) for tokens in (3, 3, 9)]])
    assert found[1] - found[0] == sum(len(rollout.token_ids) - tokens for tokens in (3, 3, 9))


@pytest.mark.parametrize("most", [150, 300, 10**6])
def test_micro_batches_count_what_is_read(most: int, encoder: Encoder, grown: list[Experience]) -> None:
    heads = [encoder.head_length(experience.prompt) for experience in grown]
    batches = choose_micro_batches(grown, heads, LearnerConfig(micro_batch_tokens=most), 1, packed=True)
    assert sorted(place for batch in batches for place in batch) == list(range(len(grown)))
    for batch in batches:
        here = [grown[place] for place in batch]
        bodies: dict[str, int] = {}
        for experience, own in zip(here, own_tokens([e.path for e in here], stems_of(here)), strict=True):
            bodies[experience.prompt.id] = bodies.get(experience.prompt.id, 0) + len(own)
        head = max(heads[place] for place in batch)
        assert len(batch) == 1 or len(bodies) * (head + max(bodies.values())) <= most
    assert len(batches) == 1 or most < 10**6
    for batch in choose_micro_batches(grown, heads, LearnerConfig(micro_batch_tokens=most), 1, packed=False):
        row = max(heads[place] for place in batch) + max(len(grown[place].path) for place in batch)
        assert len(batch) == 1 or len(batch) * row <= most, "in rows of their own"


@pytest.mark.parametrize("correction", ["none", "token_truncate"])
@pytest.mark.parametrize("pack", [False, True])
def test_what_is_said_of_tokens_is_said_of_rollouts(
    correction: str, pack: bool, encoder: Encoder, grown: list[Experience]
) -> None:
    """In the second step the policy has left its reference. What is learned from is both."""
    keys = {"reuse_continuations": True, "correction": correction, "kl": 0.1, "learning_rate": 1e-4}
    one, other = (PolicyLearner(CHECKPOINT, encoder, learner_config(pack=pack, **keys)) for _ in range(2))
    for learner in (one, other):
        learner.step(grown[:9])
    alone, both = one.step(grown[:9]), other.step(grown)
    for name in ("entropy", "kl", "clipped" if correction == "none" else "importance_weight"):
        assert alone[name] > 0 and both[name] == pytest.approx(alone[name], rel=1e-4), name
    assert both["grad_norm"] != pytest.approx(alone["grad_norm"], rel=0.1)
    nothing = one.step(grown[9:])
    assert math.isnan(nothing["entropy"]) and nothing["grad_norm"] > 0


def test_continuations_are_told_apart_and_counted_even_if_there_are_none(grown: list[Experience]) -> None:
    told = advantage_statistics(grown, True)
    theirs = np.concatenate([experience.advantages for experience in grown[9:]])
    assert told["continuation_tokens"] == len(theirs)
    assert told["continuation_advantage"] == pytest.approx(np.abs(theirs).mean())
    none = advantage_statistics(grown[:9], True)
    assert (none["continuation_tokens"], none["continuation_share"]) == (0, 0)
    assert not any(name.startswith("continuation") for name in advantage_statistics(grown[:9], False))
