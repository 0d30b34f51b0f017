"""Budget policies against closed forms and SciPy, and triage's choice against a slow version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rewards.annotation.annotator import Annotation
from rewards.annotation.budgets import Triage, first_success, fixed, make_budget, sequential
from rewards.annotation.evidence import Evidence
from rewards.verification.verifiers import exact
from rl.config.labels import AnnotationConfig
from tests.fixtures.builders import a_prompt, a_rollout
from tests.fixtures.simulated_engine import SimulatedEngine, decode, finish


def evidence_of(
    correct: Sequence[float], sampled: Sequence[float], asked: Sequence[int] | None = None, **others: Any
) -> Evidence:
    """One-step rollouts with these counts."""
    size = len(correct)
    values: dict[str, Any] = {
        "lengths": np.ones(size, dtype=np.int64),
        "source": np.array(["total"] * size, dtype=object),
        "asked": np.array(sampled if asked is None else asked, dtype=np.int64),
        "correct": np.array(correct, dtype=float),
        "sampled": np.array(sampled, dtype=float),
    }
    zeros = {name: np.zeros(size) for name in ("passing_correct", "passing", "outcome")}
    return Evidence(**values | zeros | {"group_correct": np.zeros(size), "group_sampled": np.zeros(size)} | others)


def test_fixed_asks_for_what_is_missing() -> None:
    assert fixed(evidence_of([0, 1, 0], [0, 3, 7], asked=[0, 4, 8]), 8).tolist() == [8, 4, 0]


def test_first_success_asks_in_growing_chunks_until_one_is_right() -> None:
    asked = [0, 1, 2, 4, 8, 16]
    assert first_success(evidence_of([0] * 6, asked), 16).tolist() == [1, 1, 2, 4, 8, 0]
    assert first_success(evidence_of([0] * 6, asked), 10).tolist() == [1, 1, 2, 4, 2, 0]
    assert first_success(evidence_of([1] * 5, [1, 2, 4, 8, 16]), 16).tolist() == [0] * 5


def test_what_was_cut_off_was_asked_for() -> None:
    """Otherwise a step whose continuations never finish would be asked for without end."""
    assert first_success(evidence_of([0, 0], [0, 0], asked=[4, 16]), 16).tolist() == [4, 0]


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_a_right_outcome_is_a_success_if_it_counts(weight: float) -> None:
    passing = {"passing": np.array([1.0, 1.0]), "passing_correct": np.array([1.0, 0.0]), "outcome_weight": weight}
    more = first_success(evidence_of([0, 0], [0, 0], **passing), 4)
    assert more.tolist() == ([0, 1] if weight else [1, 1])


def mean_samples(rate: float, most: int) -> float:
    """What first_success asks for, over 4,000 steps of that success rate."""
    rollouts = [a_rollout([1], group=i) for i in range(4000)]
    prompts = [a_prompt()] * len(rollouts)
    annotation = Annotation(rollouts, prompts, make_budget("first_success", most), decode, exact, 0)
    cost = finish(annotation, SimulatedEngine(lambda request: rate)).cost()
    return cost.continuations / len(rollouts)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.05, 0.3, 0.86])
def test_first_success_costs_what_the_closed_form_says(rate: float) -> None:
    """One by one, (1 - (1 - r)^N) / r; N = 2 is two chunks of one. Chunks that double cost less than twice that."""
    one_by_one = (1 - (1 - rate) ** 2) / rate
    assert mean_samples(rate, 2) == pytest.approx(one_by_one, abs=0.04)
    # A chunk is asked for if all before it were wrong.
    doubling = sum(size * (1 - rate) ** before for before, size in [(0, 1), (1, 1), (2, 2), (4, 4), (8, 8)])
    standard_error = 16 / np.sqrt(4000)
    assert mean_samples(rate, 16) == pytest.approx(doubling, abs=3 * standard_error)
    assert doubling < 2 * (1 - (1 - rate) ** 16) / rate


@given(
    st.integers(0, 16),
    st.integers(0, 16),
    st.floats(0.01, 0.45),
    st.floats(0.0, 0.9),
    st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)),
)
def test_sequential_decides_as_scipys_posterior_does(
    correct: int, wrong: int, error: float, threshold: float, prior: tuple[float, float]
) -> None:
    above = stats.beta(prior[0] + correct, prior[1] + wrong).sf(threshold)
    if min(abs(above - error), abs(above - 1 + error)) < 1e-9:
        return  # on the edge, rounding decides
    more = sequential(evidence_of([correct], [correct + wrong]), 40, error, threshold, prior)
    decided = above < error or (above > 1 - error and correct > 0)
    assert (more[0] == 0) == decided


def test_sequential_is_wrong_about_as_seldom_as_it_was_told() -> None:
    """Rates drawn from the prior: among steps settled before N, at most the error is on the wrong side of tau."""
    generator = np.random.default_rng(0)
    rates = generator.beta(0.5, 0.5, size=3000)
    rollouts = [a_rollout([1], group=i, tokens=(i + 10, 1)) for i in range(len(rates))]
    budget = make_budget("sequential", 32, error=0.1, threshold=0.3, prior=(0.5, 0.5))
    annotation = Annotation(rollouts, [a_prompt()] * len(rollouts), budget, decode, exact, 0)
    finish(annotation, SimulatedEngine(lambda request: float(rates[request.prefix[0] - 10])))
    correct, sampled = (np.concatenate([getattr(c, n) for c in annotation.counts()]) for n in ("correct", "sampled"))
    settled = sampled < 32
    says_right = stats.beta(0.5 + correct, 0.5 + sampled - correct).sf(0.3) > 0.5
    mistaken = (says_right != (rates > 0.3))[settled]
    assert settled.mean() > 0.8
    assert 0.005 < mistaken.mean() < 0.1


def best_of_each_source(scores: Sequence[float], sources: Sequence[str], ratio: float) -> list[bool]:
    """The slow version: sort the places of each source, take the first ones."""
    chosen = [False] * len(scores)
    for source in set(sources):
        places = [i for i, name in enumerate(sources) if name == source and not np.isnan(scores[i])]
        places.sort(key=lambda i: (-scores[i], i))
        for i in places[: max(1, int(len(places) * ratio))]:
            chosen[i] = True
    return chosen


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.2, float("nan")]), st.sampled_from("abc")), max_size=30),
    st.floats(0.01, 1),
)
def test_triage_takes_the_best_of_each_source(rows: list[tuple[float, str]], ratio: float) -> None:
    scores, sources = [row[0] for row in rows], [row[1] for row in rows]
    evidence = evidence_of([0] * len(rows), [0] * len(rows), source=np.array(sources, dtype=object))
    chosen = Triage(0, ratio, lambda _: np.array(scores)).choose(evidence)
    assert chosen.tolist() == best_of_each_source(scores, sources, ratio)


def test_names_that_stand_for_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="'second_success' is no budget; allowed are fixed, first_success, sequential"):
        make_budget("second_success", 4)
    with pytest.raises(ValueError, match="ranks rollouts"):
        make_budget("triage", 4)
    with pytest.raises(ValueError, match="'triage' is no budget"):
        make_budget("triage", 4, triage_policy="triage", rank=lambda evidence: evidence.outcome)


DEFAULTS = AnnotationConfig()
SURE = {name: getattr(DEFAULTS, name) for name in ("continuations", "error", "threshold", "prior")}


@pytest.mark.parametrize(
    ("correct", "asked", "more"),
    [(0, 1, 1), (0, 2, 2), (0, 4, 0), (1, 1, 0), (1, 2, 2), (2, 2, 0), (1, 4, 4), (2, 4, 0), (1, 8, 0)],
)
def test_both_decisions_of_sequential_act_within_its_default_number(correct: int, asked: int, more: int) -> None:
    evidence = evidence_of([correct], [asked])
    assert sequential(evidence, **SURE).tolist() == [more]
    assert make_budget("sequential", DEFAULTS.continuations).policy(evidence).tolist() == [more]
