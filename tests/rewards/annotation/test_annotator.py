"""The annotator: what it asks the engines for, what it makes of their answers, and what it says they cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.annotation.annotator import Annotation
from rewards.annotation.budgets import make_budget
from rewards.annotation.evidence import Evidence
from rewards.records import Completion, Rollout, SamplingRequest
from rewards.verification.verifiers import exact
from tests.fixtures.builders import a_completion, a_prompt, a_rollout
from tests.fixtures.simulated_engine import (
    RIGHT,
    WRONG,
    SimulatedEngine,
    annotation_of,
    decode,
    finish,
    found,
)


def test_a_request_for_each_step_with_the_tokens_up_to_its_end() -> None:
    prompts = [a_prompt("a"), a_prompt("b"), a_prompt("c")]
    rollouts = [a_rollout([1, 3], prompt="a"), a_rollout([], prompt="b", group=1), a_rollout([2], prompt="c", group=2)]
    requests = annotation_of(rollouts, make_budget("fixed", 5), prompts).requests()
    assert [(request.prompt.id, request.prefix) for request in requests] == [
        ("a", (10,)),
        ("a", (10, 11, 12, 13)),
        ("c", (10, 11)),
    ]
    assert requests[0].prompt is prompts[0]  # images travel by reference
    assert {request.n for request in requests} == {5}


def seeds(rollouts: Sequence[Rollout], seed: int = 0) -> list[int]:
    return [request.seed for request in annotation_of(rollouts, make_budget("fixed", 2), seed=seed).requests()]


def test_seeds_differ_where_prefixes_groups_prompts_or_runs_differ() -> None:
    base = a_rollout([1, 1], tokens=(4, 5, 1))
    all_seeds = [
        *seeds([base]),
        *seeds([a_rollout([1, 1], tokens=(5, 4, 1))]),
        *seeds([a_rollout([1, 1], tokens=(4, 5, 1), group=1)]),
        *seeds([a_rollout([1, 1], tokens=(4, 5, 1), prompt="b")]),
        *seeds([base], seed=1),
        # 45 + 4 and 4 + 54 are other prefixes than 4 + 5 + 4 although they read the same.
        *seeds([a_rollout([2], tokens=(45, 4))]),
        *seeds([a_rollout([2], tokens=(4, 54))]),
        *seeds([a_rollout([3], tokens=(4, 5, 4))]),
    ]
    assert len(set(all_seeds)) == len(all_seeds)
    assert all(0 <= seed < 2**31 for seed in all_seeds)


def test_equal_prefixes_that_are_not_shared_have_seeds_of_their_own() -> None:
    """One seed would buy the same continuations again, and count them as further evidence."""
    first, second, other = (a_rollout([1, 1], tokens=tokens) for tokens in ((4, 5, 1), (4, 4, 1), (5, 4, 1)))
    all_seeds = seeds([first, second, first, other])
    assert len(set(all_seeds)) == len(all_seeds)
    assert all_seeds[:2] == seeds([first]) and all_seeds[-2:] == seeds([other]), "whoever else is in the batch"


def test_every_round_asks_with_a_seed_of_its_own() -> None:
    engine = SimulatedEngine(lambda request: 0.0)
    finish(annotation_of([a_rollout([1, 1])], make_budget("first_success", 16)), engine)
    asked = [request for round_ in engine.rounds for request in round_]
    assert [request.n for request in asked] == [1, 1, 1, 1, 2, 2, 4, 4, 8, 8]
    assert len({request.seed for request in asked}) == len(asked)


def by_length(request: SamplingRequest) -> float:
    return 1 / (1 + len(request.prefix))


@pytest.mark.parametrize("name", ["fixed", "first_success", "sequential"])
@pytest.mark.parametrize("first_error", ["ignore", "stop", "search"])
def test_counts_do_not_depend_on_the_batch_nor_on_the_number_of_engines(name: str, first_error: str) -> None:
    rollouts = [a_rollout([1] * steps, prompt=f"p{i}", group=i) for i, steps in enumerate((3, 0, 5, 1, 4))]
    budget = make_budget(name, 8, first_error=first_error)  # type: ignore[arg-type]
    together = finish(annotation_of(rollouts, budget), SimulatedEngine(by_length))
    alone = [finish(annotation_of([rollout], budget), SimulatedEngine(by_length)) for rollout in reversed(rollouts)]
    assert found(together) == [row for annotation in reversed(alone) for row in found(annotation)]

    divided = annotation_of(rollouts, budget)
    engines = [SimulatedEngine(by_length), SimulatedEngine(by_length)]
    while requests := divided.requests():
        divided.receive([engines[len(request.prefix) % 2].sample([request])[0] for request in requests])
    assert found(divided) == found(together)


def test_each_step_gets_the_verdicts_of_its_own_continuations() -> None:
    rollouts = [a_rollout([1, 1], prompt="a"), a_rollout([], prompt="b", tail=2), a_rollout([1], prompt="c")]
    prompts = [a_prompt("a", answer="4"), a_prompt("b"), a_prompt("c", answer="5")]
    annotation = annotation_of(rollouts, make_budget("fixed", 2), prompts)
    right, wrong = a_completion(RIGHT, version=7), a_completion(WRONG, version=7)
    annotation.requests()
    annotation.receive([[right, right], [right, wrong], [wrong, right]])
    assert annotation.requests() == []
    assert found(annotation) == [([2, 1], [2, 2]), ([], []), ([1], [2])]
    assert [counts.policy_version for counts in annotation.counts()] == [7, 7, 7]


def test_continuations_that_are_judged_already_count_the_same() -> None:
    """What was sampled of each step, handed in again round by round, makes the same counts for the same cost."""
    rollouts = [a_rollout([1, 1, 1], prompt="a"), a_rollout([], prompt="b", tail=2), a_rollout([1, 2], prompt="a")]
    budget = make_budget("sequential", 8, share_prefixes=True)
    first = finish(annotation_of(rollouts, budget), SimulatedEngine(by_length, truncated=0.1, version=3))
    known = first.continuations()
    assert known[0][0] is known[2][0] and known[1] == [], "the two begin alike"
    prefixes = {(entry.rollout, entry.tokens): entry.continuations for entry in first.continued()}
    assert prefixes == {(0, 1): known[0][0], (0, 2): known[0][1], (0, 3): known[0][2]}, "each prefix once"
    assert all(len(sample.completion.token_ids) == sample.tokens for s in prefixes.values() for sample in s)
    again, asked = annotation_of(rollouts, budget), Counter[tuple[int, int]]()
    while requests := again.requests():
        answers = []
        for request, (place, step) in zip(requests, again.places(), strict=True):
            assert request.prefix == rollouts[place].token_ids[: rollouts[place].steps[step].end]
            before = asked[place, step]
            asked[place, step] += request.n
            answers.append(known[place][step][before : before + request.n])
        again.count(answers)
    assert found(again) == found(first) and again.cost() == first.cost()
    assert again.continuations() == known and {sample.policy_version for sample in known[0][0]} == {3}


def test_the_verifier_reads_prefix_and_continuation_together() -> None:
    read: list[tuple[str, str]] = []

    def note(completion: str, reference: str) -> bool:
        read.append((completion, reference))
        return exact(completion, reference)

    rollout = a_rollout([1, 1], tokens=(9, 1, 3))
    annotation = Annotation([rollout], [a_prompt()], make_budget("fixed", 1), decode, note, 0)
    annotation.requests()
    annotation.receive([[a_completion((1, 2))], [a_completion((2,))]])
    assert read == [("<9>Answer: 4", "4"), ("<9>Answer: 4", "4")]
    assert found(annotation) == [([1, 1], [1, 1])]


def test_continuations_that_were_cut_off_are_in_neither_count() -> None:
    right, wrong = a_completion(RIGHT), a_completion(WRONG)
    cut_right, cut = a_completion(RIGHT, "length"), a_completion((5,), "length")
    annotation = annotation_of([a_rollout([1, 1, 1])], make_budget("fixed", 3))
    annotation.requests()
    annotation.receive([[right, cut_right, wrong], [cut, cut_right, cut], [cut, wrong, cut]])
    assert found(annotation) == [([1, 0, 0], [2, 0, 1])]  # nothing finished: missing, not wrong
    assert annotation.cost().truncated == 6


@pytest.mark.parametrize("name", ["fixed", "first_success", "sequential", "triage"])
@pytest.mark.parametrize("first_error", ["ignore", "stop", "search"])
def test_steps_whose_continuations_never_finish_end_as_missing(name: str, first_error: str) -> None:
    budget = make_budget(name, 8, first_error=first_error, rank=lambda e: -e.lengths)  # type: ignore[arg-type]
    engine = SimulatedEngine(lambda request: 1.0, truncated=1.0)
    annotation = finish(annotation_of([a_rollout([1, 2, 1])], budget), engine)
    assert found(annotation) == [([0, 0, 0], [0, 0, 0])]
    cost = annotation.cost()
    assert cost.truncated == cost.continuations == 24


def test_the_version_is_that_of_the_oldest_weights_or_of_the_rollout() -> None:
    annotation = annotation_of([a_rollout([1], version=3)], make_budget("first_success", 2, outcome_weight=1.0))
    assert annotation.requests() == []  # its own outcome is a success
    assert annotation.counts()[0].policy_version == 3
    annotation = annotation_of([a_rollout([1])], make_budget("first_success", 2))
    for version in (9, 8):
        annotation.requests()
        annotation.receive([[a_completion(WRONG, version=version)]])
    assert annotation.counts()[0].policy_version == 8


def test_nothing_to_annotate_is_no_error() -> None:
    for rollouts in ([], [a_rollout([])]):
        annotation = annotation_of(rollouts, make_budget("fixed", 4, share_prefixes=True))
        assert annotation.requests() == []
        assert [counts.sampled.tolist() for counts in annotation.counts()] == [[] for _ in rollouts]
        cost = annotation.cost(1.0)
        assert (cost.continuations, cost.rounds, cost.saved_continuations, cost.saved_tokens) == (0, 0, 0, 0)
        assert np.isnan(cost.saved_seconds)


def test_rollouts_without_their_prompt_and_answers_without_their_request_are_refused() -> None:
    with pytest.raises(ValueError):
        annotation_of([a_rollout()], make_budget("fixed", 1), prompts=[])
    annotation = annotation_of([a_rollout()], make_budget("fixed", 1))
    annotation.requests()
    with pytest.raises(ValueError):
        annotation.receive([])


def test_success_rates_are_found() -> None:
    """4,000 samples of a known rate: the standard error is below 0.008."""
    annotation = finish(annotation_of([a_rollout([1, 1, 1])], make_budget("fixed", 4000)), SimulatedEngine(by_length))
    (counts,) = annotation.counts()
    assert counts.correct / counts.sampled == pytest.approx([1 / 2, 1 / 3, 1 / 4], abs=0.03)


# Triage


def test_triage_probes_all_and_labels_the_best_of_each_source() -> None:
    rollouts = [a_rollout([1, 1], source=source, prompt=f"{source}{i}") for source in "ab" for i in range(4)]
    seen: list[Evidence] = []

    def rank(evidence: Evidence) -> np.ndarray:
        seen.append(evidence)
        return np.array([1.0, 4.0, 3.0, 2.0, 5.0, np.nan, 5.0, 5.0])

    budget = make_budget("triage", 8, probe=3, triage_ratio=0.5, rank=rank)
    engine = SimulatedEngine(lambda request: 1.0)
    annotation = finish(annotation_of(rollouts, budget), engine)
    assert [{request.n for request in round_} for round_ in engine.rounds] == [{3}, {5}]
    assert len(engine.rounds[0]) == 16
    assert len(seen) == 1
    assert seen[0].sampled.tolist() == [3] * 16
    # Two of four, and one of three that can be ranked, the first among equals.
    assert annotation.chosen.tolist() == [False, True, True, False, True, False, False, False]
    expected = [([8, 8], [8, 8]) if chosen else ([0, 0], [0, 0]) for chosen in annotation.chosen]
    assert found(annotation) == expected
    assert annotation.cost().continuations == 16 * 3 + 6 * 5


def test_triage_without_a_probe_chooses_at_once_and_labels_by_any_policy() -> None:
    rollouts = [a_rollout([1, 1], outcome=outcome, prompt=f"p{outcome}") for outcome in (1.0, 0.0)]
    budget = make_budget(
        "triage", 8, probe=0, triage_ratio=0.5, triage_policy="first_success", rank=lambda evidence: -evidence.outcome
    )
    engine = SimulatedEngine(lambda request: 1.0)
    annotation = annotation_of(rollouts, budget)
    assert not annotation.chosen.any()
    assert found(finish(annotation, engine)) == [([0, 0], [0, 0]), ([1, 1], [1, 1])]
    assert len(engine.rounds) == 1


# The cost


def test_the_bill_adds_up() -> None:
    rollout = a_rollout([1, 2], tail=4)
    annotation = annotation_of([rollout], make_budget("first_success", 4, first_error="stop"))
    annotation.requests()
    annotation.receive([[a_completion((5, 5, 5), "length")]])
    annotation.requests()
    annotation.receive([[a_completion((1, 3))]])
    annotation.requests()
    annotation.receive([[a_completion(WRONG), a_completion((5, 1, 3))]])
    assert annotation.requests() == []
    cost = annotation.cost(seconds=2.0)
    assert (cost.continuations, cost.tokens, cost.truncated, cost.rounds) == (4, 3 + 2 + 2 + 3, 1, 3)
    # Step 1 was sampled, 2.5 tokens in the mean; of step 2 only the rollout's own rest is known, 4 tokens.
    assert (cost.fixed_continuations, cost.fixed_tokens) == (8, 4 * 2.5 + 4 * 4)
    assert (cost.saved_continuations, cost.saved_tokens) == (4, 16)
    assert cost.saved_seconds == pytest.approx(2.0 * 16 / 10)


def test_fixed_saves_nothing_against_itself() -> None:
    rollouts = [a_rollout([1, 2, 1]), a_rollout([3], group=1)]
    cost = finish(annotation_of(rollouts, make_budget("fixed", 7)), SimulatedEngine(by_length)).cost(3.0)
    assert (cost.saved_continuations, cost.saved_tokens, cost.saved_seconds) == (0, 0, 0)
    assert (cost.continuations, cost.tokens, cost.rounds) == (28, 56, 1)


# Everything at once


@settings(max_examples=150)
@given(
    st.lists(st.lists(st.sampled_from([4, 5]), max_size=5), max_size=6),
    st.sampled_from(["fixed", "first_success", "sequential", "triage"]),
    st.sampled_from(["ignore", "stop", "search"]),
    st.booleans(),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.0, 0.3]),
    st.integers(1, 9),
)
def test_any_budget_ends_within_its_limits(
    step_tokens: list[list[int]],
    name: str,
    first_error: str,
    share: bool,
    weight: float,
    truncated: float,
    most: int,
) -> None:
    """Ragged batches, rollouts without steps, prefixes in common: every node at most N times, every count in range."""
    rollouts = [
        a_rollout([1] * len(tokens), tokens=(*tokens, 1, 2), outcome=float(i % 2))
        for i, tokens in enumerate(step_tokens)
    ]
    budget = make_budget(
        name,
        most,
        first_error=first_error,  # type: ignore[arg-type]
        outcome_weight=weight,
        share_prefixes=share,
        probe=min(2, most),
        rank=lambda evidence: evidence.lengths.astype(float),
    )
    engine = SimulatedEngine(lambda request: 0.3, truncated)
    annotation = finish(annotation_of(rollouts, budget), engine)
    places = len({tuple(r.token_ids[: s.end]) for r in rollouts for s in r.steps})
    steps = sum(len(rollout.steps) for rollout in rollouts)
    cost = annotation.cost()
    assert cost.continuations <= most * (places if share else steps)
    for rollout, counts in zip(rollouts, annotation.counts(), strict=True):
        assert len(counts.correct) == len(counts.sampled) == len(rollout.steps)
        assert ((counts.correct >= 0) & (counts.correct <= counts.sampled)).all()
        assert (counts.sampled <= most + weight * len(rollouts)).all()
    prefixes = [[r.prefix for r in round_] for round_ in engine.rounds]
    order = [rollout.token_ids[: span.end] for rollout in rollouts for span in rollout.steps]
    for round_ in prefixes:
        remaining = iter(order)
        assert all(prefix in remaining for prefix in round_), "requests follow rollout and step order"


def test_a_completion_of_another_round_is_refused() -> None:
    annotation = annotation_of([a_rollout([1])], make_budget("fixed", 1))
    samples: list[list[Completion]] = [[a_completion(RIGHT)]]
    annotation.requests()
    annotation.receive(samples)
    with pytest.raises(ValueError):
        annotation.receive(samples)
