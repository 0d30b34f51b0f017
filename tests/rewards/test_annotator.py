"""The annotator: what it asks the engines for, and what it makes of their answers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rewards.annotator import continuation_requests, count_correct
from rewards.records import Completion
from rewards.verifiers import exact
from tests.builders import a_completion, a_prompt, a_rollout

WORDS = {1: "Answer:", 2: " 4", 3: " 5", 4: "step\n", 5: "other\n"}


def decode(token_ids: Sequence[int]) -> str:
    return "".join(WORDS[token] for token in token_ids)


def test_a_request_for_each_step_with_the_tokens_up_to_its_end() -> None:
    prompts = [a_prompt("a"), a_prompt("b"), a_prompt("c")]
    rollouts = [a_rollout([1, 3], prompt="a"), a_rollout([], prompt="b", group=1), a_rollout([2], prompt="c", group=2)]
    requests = continuation_requests(rollouts, prompts, continuations=5, seed=0)
    assert [(request.prompt.id, request.prefix) for request in requests] == [
        ("a", (10,)),
        ("a", (10, 11, 12, 13)),
        ("c", (10, 11)),
    ]
    assert requests[0].prompt is prompts[0]  # images travel by reference
    assert {request.n for request in requests} == {5}


def test_the_tail_after_the_last_step_is_never_in_a_prefix() -> None:
    (request,) = continuation_requests([a_rollout([2], tail=3)], [a_prompt()], 1, 0)
    assert request.prefix == (10, 11)


def seeds(rollouts: list, names: list[str], seed: int = 0) -> list[int]:
    return [request.seed for request in continuation_requests(rollouts, [a_prompt(n) for n in names], 2, seed)]


def test_seeds_differ_where_prefixes_groups_prompts_or_runs_differ() -> None:
    base = a_rollout([1, 1], tokens=(4, 5, 1))
    found = [
        *seeds([base], ["a"]),
        *seeds([a_rollout([1, 1], tokens=(5, 4, 1))], ["a"]),
        *seeds([a_rollout([1, 1], tokens=(4, 5, 1), group=1)], ["a"]),
        *seeds([base], ["b"]),
        *seeds([base], ["a"], seed=1),
        # 45 + 4 and 4 + 54 are other prefixes than 4 + 5 + 4 although they read the same.
        *seeds([a_rollout([2], tokens=(45, 4))], ["a"]),
        *seeds([a_rollout([2], tokens=(4, 54))], ["a"]),
        *seeds([a_rollout([3], tokens=(4, 5, 4))], ["a"]),
    ]
    assert len(set(found)) == len(found)
    assert all(0 <= seed < 2**31 for seed in found)


def test_equal_prefixes_of_one_group_ask_for_the_same_samples() -> None:
    first, second = a_rollout([1, 1], tokens=(4, 5, 1)), a_rollout([1, 1], tokens=(4, 4, 1))
    (a, b), (c, d) = seeds([first], ["a"]), seeds([second], ["a"])
    assert a == c
    assert b != d
    assert seeds([second, first], ["a", "a"]) == [c, d, a, b]  # whoever else is asked for


def test_each_step_gets_the_verdicts_of_its_own_continuations() -> None:
    rollouts = [a_rollout([1, 1], tokens=(4, 5, 1, 2)), a_rollout([], tokens=(1, 3)), a_rollout([1], tokens=(4, 1, 2))]
    prompts = [a_prompt("a", answer="4"), a_prompt("b"), a_prompt("c", answer="5")]
    right, wrong = a_completion((1, 2), version=7), a_completion((5, 1, 3), version=7)
    counts = count_correct(rollouts, prompts, [[right, right], [right, wrong], [wrong, right]], decode, exact)
    assert [entry.correct.tolist() for entry in counts] == [[2, 1], [], [1]]
    assert [entry.sampled.tolist() for entry in counts] == [[2, 2], [], [2]]
    assert [entry.policy_version for entry in counts] == [7, 7, 7]


def test_the_verifier_reads_prefix_and_continuation_together() -> None:
    read: list[tuple[str, str]] = []

    def note(completion: str, reference: str) -> bool:
        read.append((completion, reference))
        return exact(completion, reference)

    rollout = a_rollout([1, 1], tokens=(4, 1, 3))
    counts = count_correct([rollout], [a_prompt()], [[a_completion((1, 2))], [a_completion((2,))]], decode, note)
    assert read == [("step\nAnswer: 4", "4"), ("step\nAnswer: 4", "4")]
    assert counts[0].correct.tolist() == [1, 1]


def test_continuations_that_were_cut_off_are_in_neither_count() -> None:
    right, wrong = a_completion((1, 2)), a_completion((1, 3))
    cut_right, cut = a_completion((1, 2), "length"), a_completion((5,), "length")
    rollout = a_rollout([1, 1, 1], tokens=(4, 5, 5))
    samples: list[list[Completion]] = [[right, cut_right, wrong], [cut, cut_right, cut], [cut, wrong, cut]]
    (counts,) = count_correct([rollout], [a_prompt()], samples, decode, exact)
    assert counts.correct.tolist() == [1, 0, 0]
    assert counts.sampled.tolist() == [2, 0, 1]  # nothing finished: missing, not wrong


def test_nothing_to_annotate_is_no_error() -> None:
    assert continuation_requests([], [], 4, 0) == []
    assert count_correct([], [], [], decode, exact) == []
    (counts,) = count_correct([a_rollout([])], [a_prompt()], [], decode, exact)
    assert counts.sampled.tolist() == []


def test_rollouts_without_their_prompt_are_refused() -> None:
    with pytest.raises(ValueError):
        continuation_requests([a_rollout()], [], 1, 0)
