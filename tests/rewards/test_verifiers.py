"""Verifiers: what counts as the right final answer."""

from __future__ import annotations

import pytest

from rewards.verifiers import VERIFIERS, boxed, exact


@pytest.mark.parametrize(
    ("completion", "reference", "right"),
    [
        ("1: 2 + 2 = 4\nAnswer: 4", "4", True),
        ("Answer: 4 \n", " 4", True),
        ("Answer:4", "4", True),
        ("Answer: 5\nno, wait\nAnswer: 4", "4", True),
        ("Answer: 4\nno, wait\nAnswer: 5", "4", False),
        ("Answer: 14", "4", False),
        ("Answer: 4.0", "4", False),
        ("Answer: 4 apples", "4", False),
        ("Answer: a", "A", False),
        ("answer: 4", "4", False),
        ("4", "4", False),
        ("", "", False),
        ("Answer:", "4", False),
    ],
)
def test_exact(completion: str, reference: str, right: bool) -> None:
    assert exact(completion, reference) is right


@pytest.mark.parametrize(
    ("completion", "reference", "right"),
    [
        (r"so \boxed{12} apples", "12", True),
        (r"\boxed{ 12 }", "12 ", True),
        (r"\boxed{3}, or rather \boxed{12}", "12", True),
        (r"\boxed{12}, or rather \boxed{3}", "12", False),
        (r"\boxed{x+1}", "x+1", True),
        (r"\boxed{12} of the 30", "30", False),
        ("that makes 7 or 12", "12", True),
        ("that makes 12, not 7", "12", False),
        ("it is -3.5.", "-3.5", True),
        ("it is 3.5", "5", False),
        ("no number", "0", False),
        ("", "", False),
        # A box that cannot be read is no answer: its last digit must not pass for one, nor a box before it.
        (r"\boxed{\frac{1}{2}}", "2", False),
        (r"\boxed{2}, no, \boxed{\frac{1}{2}}", "2", False),
        (r"\boxed{12", "12", False),
    ],
)
def test_boxed(completion: str, reference: str, right: bool) -> None:
    assert boxed(completion, reference) is right


def test_verifiers_are_found_by_their_names() -> None:
    assert {"exact": exact, "boxed": boxed} == VERIFIERS
