"""Verdicts of `multiple_choice`: what names one option, and what names none or several."""

from __future__ import annotations

import pytest

from rewards.verification.verifiers import multiple_choice

# ruff: noqa: RUF001
RIGHT = [
    (r"\boxed{E - text}", "E"),
    ("Answer: (B)12 cm", "B"),
    ("<answer>B</answer>", "B"),
    ("Answer：B", "B"),
    ("The correct option is B.", "B"),
    ("Answer: *B*", "B"),
    ("Answer: **B**", "B"),
    ("Answer: `B`", "B"),
    ("Answer: (B) 12 cm", "B"),
    ("Answer: B) 12 cm", "B"),
    ("Answer: B: 12 cm", "B"),
    ("Answer: B - 12 cm", "B"),
    ("Answer: B – 12 cm", "B"),
    ("Answer: B.12 cm", "B"),
    ("Answer: [B]", "B"),
    ("Answer: [[B]]", "B"),
    ("Answer：（B）", "B"),
    ("答案：B", "B"),
    ("答案选B", "B"),
    ("故选：B。", "B"),
    ("Ответ: B", "B"),
    ("The answer is (B), 12 cm.", "B"),
    ("The answer is B!", "B"),
    ("The correct answer is option (B).", "B"),
    ("The best choice is C", "C"),
    ("Answer: 12 cm (B)", "B"),
    ("Answer: D: Both A and B", "D"),
    ("Answer: D. None of the above", "D"),
    ("Answer: B, because A is wrong", "B"),
    ('{"answer": "B"}', "B"),
    ('{"answer": "B. 12 cm"}', "B"),
    ("#### B", "B"),
    ("Final Answer: B", "B"),
    ("Answer:\n\\[\n\\text{B}\n\\]", "B"),
    ("Answer:\n\n**B**", "B"),
    (r"\boxed{\mathrm{B}}", "B"),
    (r"\boxed{\text{(B)}}", "B"),
    (r"\boxed{(B)}", "B"),
    ("Reasoning...\n\n(B)", "B"),
    ("Answer: B (12 cm)", "B"),
    ("Answer: 12 cm", "B. 12 cm"),
    ("The answer is therefore B.", "B"),
    ("Answer: Option B: 12 cm", "B"),
    ("**Answer: (B) 12 cm**", "B"),
    ("Answer:\n```\nB\n```", "B"),
]
WRONG = [
    ("Answer: A or B", "A"),
    ("Answer: A or B", "B"),
    ("Answer: D, not B", "D"),
    ("Answer: D, not B", "B"),
    ("Answer: not B", "B"),
    ("Answer: (A) or (B)", "A"),
    ("Answer: both A and B", "A"),
    ("Answer: A and B", "B"),
    ("Answer: A, B", "A"),
    ("Answer: A/B", "A"),
    ("Answer: B or C", "B"),
    ("Answer: B rather than C", "B"),
    ("Answer: B (not C)", "B"),
    ("Answer: neither A nor B", "B"),
    ("Answer: A cat", "A"),
    ("Answer: Bird", "B"),
    ('{"answer": ["A", "B"]}', "A"),
    ("A. 1\nB. 2\nC. 3", "C"),
    ("Answer: E = 5", "E"),
    ("Answer: U.S.", "U"),
    ("Answer: e.g. this", "E"),
    ("Answer: A - B", "A"),
    ("Answer: B, C", "B"),
    ("Answer: A; B", "A"),
    ("Answer: A+B", "A"),
]


@pytest.mark.parametrize(("completion", "reference"), RIGHT)
def test_right(completion: str, reference: str) -> None:
    assert multiple_choice(completion, reference) is True


@pytest.mark.parametrize(("completion", "reference"), WRONG)
def test_wrong(completion: str, reference: str) -> None:
    assert multiple_choice(completion, reference) is False
