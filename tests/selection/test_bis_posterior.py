"""BIS under a posterior: against its definition by numerical integration, its three promises, and its limit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta, binom, spearmanr

from selection.bis import balanced_information, step_statistics
from selection.bis_posterior import PRIOR, THRESHOLD, posterior_balanced_information
from tests.fixtures.builders import some_candidates, some_counts

STEP = st.integers(0, 8).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
STEPS = st.lists(STEP, min_size=1, max_size=5)


def score(correct: list[int], sampled: list[int] | int, alpha: float = 0.05, **options: object) -> float:
    found = posterior_balanced_information(some_candidates([some_counts(correct, sampled)]), alpha, **options)  # type: ignore[arg-type]
    return float(found[0])


def by_integration(steps: list[tuple[int, int]], alpha: float, prior: tuple[float, float], tau: float) -> float:
    """The definition, pair by pair and integral by integral."""
    labelled = [(k, beta(prior[0] + k, prior[1] + n - k)) for k, n in steps if n]
    above = [(k, quad(rate.pdf, tau, 1)[0]) for k, rate in labelled]
    shown = [quad(lambda r, rate=rate: r * rate.pdf(r), tau, 1)[0] for k, rate in labelled if k > 0]
    pairs = sum(p * (1 - q) for k, p in above for j, q in above if k > 0 and j == 0)
    negatives = [1 - q for k, q in above if k == 0]
    reliability = np.mean(shown) if shown else np.prod(negatives)
    return float((pairs / len(labelled) ** 2 + alpha) * reliability)


@settings(max_examples=30)
@given(STEPS, st.floats(0, 0.5), st.floats(1, 4), st.floats(1, 4), st.floats(0.01, 0.5))
def test_it_is_its_definition(steps: list[tuple[int, int]], alpha: float, a: float, b: float, tau: float) -> None:
    assume(any(n for _, n in steps))
    found = score([k for k, _ in steps], [n for _, n in steps], alpha, prior=(a, b), threshold=tau)
    assert found == pytest.approx(by_integration(steps, alpha, (a, b), tau), abs=1e-6)


def test_more_samples_at_equal_rates_are_worth_more() -> None:
    values = [score([n // 2, n // 2, 0], n) for n in (2, 4, 8, 16, 64, 256)]
    assert values == sorted(values) and len(set(values)) == len(values)
    assert score([8], 16) > 1.2 * score([2], 4)


def test_a_lucky_success_does_not_look_reliable() -> None:
    """At a true rate of 0.05, what labelled steps look like in the mean: published R is 0.27, this one is nearer."""
    rate, n = 0.05, 4
    lucky = np.arange(1, n + 1)
    chances = binom.pmf(lucky, n, rate) / (1 - binom.pmf(0, n, rate))
    published = float(chances @ (lucky / n))
    posterior = float(chances @ [score([k], n, alpha=1.0) for k in lucky])
    assert published == pytest.approx(0.27, abs=0.005)
    assert posterior < 0.85 * published
    assert score([1], 4) < 0.9 * score([4], 16)


def test_all_negative_rollouts_no_longer_tie_with_the_surest_ones() -> None:
    for n in (2, 4, 8, 16):
        assert score([0] * 5, n) < score([n] * 5, n)
    assert score([0] * 5, 4) < 0.15 * 0.05 < score([0] * 5, 16) < 0.5 * 0.05  # published: 0.05
    assert score([0] * 5, 4) < score([0] * 5, 16) < score([0] * 5, 1000) <= 0.05


def test_hopeless_prompts_do_not_fill_the_budget() -> None:
    """A weak policy, 4 samples a step: half the prompts hopeless, a third solved surely, a sixth with a late error."""
    generator = np.random.default_rng(0)
    rates = np.repeat([[0.01] * 5, [0.9] * 5, [0.8, 0.8, 0.8, 0.03, 0.03]], [300, 200, 100], axis=0)
    candidates = some_candidates([some_counts(row, 4) for row in generator.binomial(4, rates)])
    published = balanced_information(step_statistics(candidates), 0.2)
    posterior = posterior_balanced_information(candidates, 0.2)
    hopeless = [np.mean(np.argsort(-scores, kind="stable")[:200] < 300) for scores in (published, posterior)]
    assert hopeless[0] > 0.4
    assert hopeless[1] < 0.05


@settings(max_examples=50)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.875, 1.0]), min_size=1, max_size=6), st.floats(0, 0.3))
def test_it_tends_to_the_published_score(rates: list[float], alpha: float) -> None:
    errors = []
    for n in (80, 8_000, 800_000):
        candidates = some_candidates([some_counts([round(rate * n) for rate in rates], n)])
        published = balanced_information(step_statistics(candidates), alpha)
        errors.append(abs(posterior_balanced_information(candidates, alpha) - published).item())
    assert errors[2] < 1e-3
    assert errors[2] <= errors[0]


def test_what_is_believed_of_a_prompt_is_the_mean_of_the_prior() -> None:
    """Three rollouts alike, of a hard prompt, of an easy one, and of one that nobody believes anything of."""
    counts = [some_counts([3, 1, 0, 0], [4, 4, 4, 0])] * 3
    known = replace(some_candidates(counts), chance=np.array([0.1, 0.8, np.nan]))
    hard, easy, unknown = posterior_balanced_information(known, 0.05)
    assert hard == pytest.approx(score([3, 1, 0], 4, prior=(0.3, 2.7)))  # 0.1 and 0.9 of 0.5 + 2.5
    assert easy == pytest.approx(score([3, 1, 0], 4, prior=(0.5, 0.125)))  # 0.8 and 0.2 of 0.5 / 0.8
    assert unknown == score([3, 1, 0], 4) and len({hard, easy, unknown}) == 3
    usual = replace(some_candidates(counts[:1]), chance=np.array([PRIOR[0] / sum(PRIOR)]))
    assert posterior_balanced_information(usual, 0.05) == pytest.approx([unknown])


@pytest.mark.parametrize("likely", [(0.7, 0.7), (0.5, 2.0), (2.0, 0.7)])
def test_knowing_prompts_ranks_better_than_knowing_none(likely: tuple[float, float]) -> None:
    """Answers slip at some step, for good; their scores beside what these are worth, given the true success rates."""
    generator = np.random.default_rng(0)
    chance = generator.beta(*likely, size=2000)
    slipped = generator.random((2000, 5)) > chance[:, None] ** (1 / 5)
    on_track = np.logical_and.accumulate(~slipped, axis=1)
    rates = np.where(on_track, chance[:, None] ** (np.arange(4, -1, -1) / 5), 0.01)
    right = generator.binomial(4, rates)
    candidates = some_candidates([some_counts(row, 4) for row in right])
    truly, positive = rates > THRESHOLD, right > 0
    mixture = (positive & truly).sum(1) * (~positive & ~truly).sum(1) / 25
    shown = np.where(positive & truly, rates, 0).sum(1) / np.maximum(positive.sum(1), 1)
    worth = (mixture + 0.05) * np.where(positive.any(1), shown, ~truly.any(1))
    known = replace(candidates, chance=np.clip(chance, 1e-6, 1 - 1e-6))
    scores = [posterior_balanced_information(each, 0.05) for each in (candidates, known)]
    constant, by_prompt = ((spearmanr(each, worth)[0], np.square(each - worth).mean()) for each in scores)
    assert by_prompt[0] > constant[0] + 0.02 and by_prompt[1] < constant[1]
    best = [worth[np.argsort(-each, kind="stable")[:500]].mean() for each in scores]
    assert best[1] > 0.98 * best[0]


def test_missing_steps_and_neighbours_change_nothing() -> None:
    batch = [some_counts([3, 0, 0], [8, 8, 0]), some_counts([0], 0), some_counts([0, 0])]
    together = posterior_balanced_information(some_candidates(batch), 0.05)
    assert together[0] == score([3, 0], 8)
    assert np.isnan(together[1])
    assert together[2] == score([0, 0], 8)


def test_it_lies_where_bis_lies() -> None:
    a, b = PRIOR
    assert a < b and 0 < THRESHOLD < 1
    everything = [some_counts([k, j], n) for n in (1, 4, 16) for k in range(n + 1) for j in range(n + 1)]
    values = posterior_balanced_information(some_candidates(everything), 0.05)
    assert ((values > 0) & (values <= 0.30)).all()
