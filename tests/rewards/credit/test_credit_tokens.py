"""Rewards of single tokens, tokens that only separate steps, and rules of one's own."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.credit.batch import ScoredBatch, apply_rule
from rewards.credit.placement import at_last_token, at_step_ends, rewards_to_go, without_separators
from rewards.credit.rules import CREDIT_RULES
from rewards.credit.token_rewards import TOKEN_REWARDS
from rewards.models.encoding import Encoder
from rewards.models.step_rule import rule_of_expression
from rewards.models.steps import separator_tokens
from rewards.models.token_text import TokenText
from rewards.users_code import UsersCodeError
from rl.files.named_checkpoint import SHIPPED_POLICY
from tests.fixtures.builders import a_rollout
from tests.fixtures.credit_cases import (
    CASES,
    Case,
    batch_of,
    simple,
)

pytestmark = pytest.mark.filterwarnings("error")


@settings(max_examples=60)
@given(CASES)
def test_token_rewards_fall_where_their_formulas_say(cases: list[Case]) -> None:
    batch = batch_of(cases)
    given_by = {name: rule(batch) for name, rule in TOKEN_REWARDS.items()}
    for i, (rollout, scores) in enumerate(zip(batch.rollouts, batch.scores, strict=True)):
        length = len(rollout.token_ids)
        first = [p[0] for r, p in zip(batch.rollouts, batch.scores, strict=True) if r.group == rollout.group and len(p)]
        before = sum(first) / len(first) if first else 0.0
        expected = {name: [0.0] * length for name in TOKEN_REWARDS}
        for span, score in zip(rollout.steps, scores, strict=True):
            expected["process"][span.end - 1] += score
            expected["progress"][span.end - 1] += score - before
            before = score
        if length:
            mean = sum(scores) / len(scores) if len(scores) else 0.0
            last = {"outcome": 0.0, "process": 0.0, "additive": mean, "progress": -before}
            for name, more in last.items():
                expected[name][-1] += rollout.outcome + more
        for name, rewards in given_by.items():
            assert rewards[i] == pytest.approx(np.array(expected[name]), abs=1e-9)


@settings(max_examples=60)
@given(CASES)
def test_rewards_for_progress_sum_to_the_outcome_whatever_the_scores(cases: list[Case]) -> None:
    """Within a group the sums differ as the outcomes do: the MPRM moves reward in time and makes none."""
    sums = [tokens.sum() for tokens in TOKEN_REWARDS["progress"](batch_of(cases))]
    starts: dict[int, float] = {}
    for case, total in zip(cases, sums, strict=True):
        if case.steps or case.tail:
            start = starts.setdefault(case.group, case.outcome - total)
            assert case.outcome - total == pytest.approx(start, abs=1e-9)


def test_process_rewards_pay_for_every_further_step() -> None:
    few, many = TOKEN_REWARDS["process"](simple([1.0, 1.0], [[0.2], [0.2] * 5]))
    assert many.sum() == pytest.approx(few.sum() + 0.8)


def test_placement() -> None:
    rollout = a_rollout([2, 1], tail=2)
    assert at_step_ends(rollout, [5.0, 7.0]).tolist() == [0, 5, 7, 0, 0]
    assert at_last_token(rollout, 3.0).tolist() == [0, 0, 0, 0, 3]
    assert at_last_token(a_rollout([], tail=0), 3.0).tolist() == []
    assert rewards_to_go(np.zeros(0)).tolist() == []


def separators(pieces: list[str], separator: str) -> np.ndarray:
    """Of tokens that each have a text of their own."""
    read = TokenText("".join(pieces), tuple(accumulate(map(len, pieces))))
    return separator_tokens(read, rule_of_expression(separator))


@pytest.mark.parametrize(
    ("pieces", "separator", "expected"),
    [
        ([], r"\n", ""),
        (["", ""], r"\n", ".."),
        (["a", "\n", "b", ""], r"\n", ".x.."),
        (["a\n", "b", "\n\n", "c"], r"\n", "..x."),
        (["a", "\n", "\n", "\n", "b"], r"\n\n", ".xx.."),
        (["a", "\n", "b", "\n", "\n"], r"\n\n", "...xx"),
        (["a", ".\n", "\n", "\nb"], r"\n\n", "..x."),
        (["a", "\n", "  ", "\n"], r"\n", ".x.x"),
        (["Step 1", "x", "Step 2"], r"(?=Step \d)", "..."),
        (["a", " ", "|", " ", "b"], r" \| ", ".xxx."),
    ],
)
def test_separator_tokens(pieces: list[str], separator: str, expected: str) -> None:
    assert "".join(".x"[int(mark)] for mark in separators(pieces, separator)) == expected


@settings(max_examples=100)
@given(st.lists(st.text("ab \n", max_size=3), max_size=10), st.sampled_from([r"\n", r"\n\n", r" ?\n"]))
def test_without_its_separator_tokens_a_text_has_lost_nothing_written(pieces: list[str], separator: str) -> None:
    """What is left out is separators; and where each character is a token, all of them."""
    marks = separators(pieces, separator)
    assert all(re.fullmatch(r"[ \n]+", piece) for piece, mark in zip(pieces, marks, strict=True) if mark)
    text = "".join(pieces)
    left = "".join(char for char, mark in zip(text, separators(list(text), separator), strict=True) if not mark)
    assert left == re.sub(separator, "", text)


def test_an_encoder_finds_the_separators_of_its_own_tokens() -> None:
    encoder = Encoder(str(SHIPPED_POLICY))
    text = "\n".join(["red 2", "blue 1", "Answer: 3"])
    tokens = [*encoder.tokens(text), encoder.end_token]
    marks = encoder.separators(tokens)
    assert marks.shape == (len(tokens),)
    assert encoder.decode([token for token, mark in zip(tokens, marks, strict=True) if mark]) == "\n\n"
    assert [marks[span.end - 1] for span in encoder.steps(tokens)] == [True, True]


def test_without_separators_changes_only_them() -> None:
    advantages = [np.array([1.0, 2.0, 3.0]), np.zeros(0)]
    masks = [np.array([True, False, True]), np.zeros(0, dtype=bool)]
    assert [tokens.tolist() for tokens in without_separators(advantages, masks)] == [[0.0, 2.0, 0.0], []]
    assert advantages[0].tolist() == [1.0, 2.0, 3.0]


BATCH = simple([1.0, 0.0], [[0.5], [0.7, 0.2]])


def test_a_rule_of_ones_own_is_a_function_of_the_batch() -> None:
    def last_step(batch: ScoredBatch) -> list[np.ndarray]:
        return batch.on_every_token(np.array([scores[-1] for scores in batch.scores]))

    found = apply_rule("mine", last_step, BATCH)
    assert [np.sign(tokens).tolist() for tokens in found] == [[1, 1], [-1, -1, -1]]
    assert [tokens.tolist() for tokens in apply_rule("outcome", CREDIT_RULES["outcome"], BATCH)] == [
        tokens.tolist() for tokens in CREDIT_RULES["outcome"](BATCH)
    ]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda batch: [np.zeros(2)], "mine gave 1 arrays for 2 rollouts; allowed is one a rollout"),
        (lambda batch: [1.0, 2.0], r"mine gave rollout 0 the shape \(\); allowed is one a token, \(2,\)"),
        (
            lambda batch: [np.zeros(2), np.full(3, np.nan)],
            "mine gave rollout 1 a number that is not finite; allowed are finite ones",
        ),
        (lambda batch: [batch.scores[5]], "mine failed: IndexError: list index out of range"),
        (lambda batch: None, "mine failed: TypeError: "),
    ],
)
def test_what_a_rule_may_not_do_is_said_in_one_line(rule, message: str) -> None:
    with pytest.raises(UsersCodeError, match=message) as caught:
        apply_rule("mine", rule, BATCH)
    assert "\n" not in str(caught.value)


def test_what_a_rule_does_to_its_batch_changes_nothing() -> None:
    def changes(batch: ScoredBatch) -> list[np.ndarray]:
        lengths = [len(rollout.token_ids) for rollout in batch.rollouts]
        batch.scores[0][:] = 7
        batch.rollouts.clear()  # type: ignore[attr-defined]
        return [np.zeros(length) for length in lengths]

    apply_rule("mine", changes, BATCH)
    assert len(BATCH.rollouts) == 2 and BATCH.scores[0].tolist() == [0.5]


def test_rollouts_without_tokens_are_fine_everywhere() -> None:
    batch = replace(BATCH, rollouts=[a_rollout([], tail=0)] * 2, scores=[np.zeros(0)] * 2)
    for name, rule in {**CREDIT_RULES, **TOKEN_REWARDS}.items():
        assert [len(tokens) for tokens in apply_rule(name, rule, batch)] == [0, 0]
