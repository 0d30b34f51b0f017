"""The objective: targets and weights as documented, and losses that agree with SciPy and with finite differences."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import comb
from scipy.stats import beta as beta_distribution
from scipy.stats import betabinom

from rewards.process_model.config import MPRMConfig
from rewards.process_model.labels import hard, soft
from rewards.process_model.objective import (
    Targets,
    beta_binomial_log_likelihood,
    make_targets,
    weighted_loss,
)
from rewards.records import Annotated, StepCounts, StepSpan
from tests.fixtures.builders import a_prompt, a_rollout, some_counts


def annotated(correct: list[int], sampled: list[int], kinds: list[str] | None = None) -> Annotated:
    rollout = a_rollout([2] * len(correct))
    if kinds:
        spans = [StepSpan(span.start, span.end, kind) for span, kind in zip(rollout.steps, kinds, strict=True)]
        rollout = dataclasses.replace(rollout, steps=tuple(spans))
    return Annotated(a_prompt(), rollout, some_counts(correct, sampled))


def test_missing_steps_weigh_nothing() -> None:
    targets = make_targets(annotated([3, 0, 0], [8, 0, 8]), hard, MPRMConfig())
    assert targets.target.tolist() == [1, 0, 0] and targets.weight.tolist() == [1, 0, 1]


def test_classes_and_perception_are_weighted() -> None:
    sample = annotated([3, 0, 5, 0], [8, 8, 8, 8], ["perception", "perception", "reasoning", ""])
    targets = make_targets(sample, hard, MPRMConfig(class_weights=(4.0, 0.5), perception_weight=3.0))
    assert targets.weight.tolist() == [1.5, 12.0, 0.5, 4.0]


def test_nothing_is_learned_after_the_first_error() -> None:
    targets = make_targets(annotated([3, 0, 5, 0], [8] * 4), hard, MPRMConfig(until_first_error=True))
    assert targets.weight.tolist() == [1, 1, 0, 0]
    missing_first = make_targets(annotated([0, 3, 0, 1], [0, 8, 8, 8]), hard, MPRMConfig(until_first_error=True))
    assert missing_first.weight.tolist() == [0, 1, 1, 0], "a missing step is no error"


def test_tau_moves_the_hard_label() -> None:
    sample = annotated([0, 1, 2, 8], [8] * 4)
    assert make_targets(sample, partial(hard, threshold=1 / 8), MPRMConfig()).target.tolist() == [0, 0, 1, 1]
    assert make_targets(sample, soft, MPRMConfig()).target.tolist() == [0, 1 / 8, 2 / 8, 1]


def test_the_loss_is_the_weighted_cross_entropy() -> None:
    rng = np.random.default_rng(0)
    target, weight, odds = rng.random(7), rng.random(7), rng.normal(size=7)
    plain = sum(
        w * -(t * np.log(1 / (1 + np.exp(-x))) + (1 - t) * np.log(1 - 1 / (1 + np.exp(-x))))
        for t, w, x in zip(target, weight, odds, strict=True)
    )
    parts = [
        Targets(target[:3], weight[:3], np.zeros(3), np.zeros(3)),
        Targets(target[3:], weight[3:], *np.zeros((2, 4))),
    ]
    assert weighted_loss(torch.tensor(odds).unsqueeze(1), parts).item() == pytest.approx(plain, rel=1e-12)


@pytest.mark.parametrize(("mean", "concentration"), [(0.5, 1.0), (0.9, 3.0), (0.03, 40.0)])
def test_the_beta_head_agrees_with_scipy(mean: float, concentration: float) -> None:
    outputs = torch.tensor([[np.log(mean / (1 - mean)), np.log(concentration)]] * 5, dtype=torch.float64)
    correct, sampled = torch.tensor([0, 1, 3, 8, 0.0]), torch.tensor([8, 8, 8, 8, 1.0])
    a, b = mean * concentration, (1 - mean) * concentration
    expected = [
        betabinom.logpmf(k, n, a, b) - np.log(comb(n, k))
        for k, n in zip(correct.tolist(), sampled.tolist(), strict=True)
    ]
    assert beta_binomial_log_likelihood(outputs, correct, sampled).tolist() == pytest.approx(expected, abs=1e-9)


def test_the_beta_head_is_right_for_sampling_that_stops_at_the_first_success() -> None:
    """K = 1 at the third try has probability integral of (1 - r)^2 r, by which it was stopped or not."""
    a, b = 0.6 * 5, 0.4 * 5
    by_hand = quad(lambda r: (1 - r) ** 2 * r * beta_distribution.pdf(r, a, b), 0, 1)[0]
    outputs = torch.tensor([[np.log(0.6 / 0.4), np.log(5.0)]], dtype=torch.float64)
    found = beta_binomial_log_likelihood(outputs, torch.tensor([1.0]), torch.tensor([3.0]))
    assert found.exp().item() == pytest.approx(by_hand, rel=1e-7)


def test_gradients_agree_with_finite_differences() -> None:
    torch.manual_seed(0)
    outputs = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    correct, sampled = torch.tensor([0.0, 1, 2, 8, 1, 0]), torch.tensor([8.0, 8, 8, 8, 1, 0])
    assert torch.autograd.gradcheck(beta_binomial_log_likelihood, (outputs, correct, sampled))


def test_the_beta_head_learns_the_mean_and_spread_of_success_rates() -> None:
    """Counts drawn with success rates from Beta(6, 2): the fitted distribution is that one."""
    rng = np.random.default_rng(1)
    rates = rng.beta(6, 2, 4000)
    correct = torch.tensor(rng.binomial(16, rates), dtype=torch.float64)
    outputs = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([outputs], max_iter=100)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = -beta_binomial_log_likelihood(outputs.expand(4000, 2), correct, torch.full((4000,), 16.0)).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.sigmoid(outputs[0, 0]).item() == pytest.approx(0.75, abs=0.01)
    assert outputs[0, 1].exp().item() == pytest.approx(8.0, rel=0.1)


def test_the_beta_head_stays_finite_however_sure_it_is() -> None:
    outputs = torch.tensor([[x, c] for x in (-80.0, -40, 40, 80) for c in (-9.0, 0, 20)], dtype=torch.float64)
    outputs.requires_grad_()
    for correct, sampled in ((0.0, 0.0), (0.0, 8.0), (4.0, 4.0)):
        found = beta_binomial_log_likelihood(outputs, torch.full((12,), correct), torch.full((12,), sampled))
        (gradient,) = torch.autograd.grad(found.sum(), outputs)
        assert found.isfinite().all() and gradient.isfinite().all()


def test_a_right_step_of_little_evidence_is_no_error() -> None:
    counts = StepCounts(np.array([0.25, 0.0, 0.25]), np.array([0.25, 0.25, 0.25]), 0)
    sample = dataclasses.replace(annotated([1, 0, 1], [1] * 3), counts=counts)
    targets = make_targets(sample, soft, MPRMConfig(class_weights=(4.0, 0.5), until_first_error=True))
    assert targets.target.tolist() == [1, 0, 1] and targets.weight.tolist() == [0.5, 4.0, 0]
