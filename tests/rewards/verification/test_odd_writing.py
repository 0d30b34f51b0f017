"""Answers in look-alike letters, with separators of other countries, struck out, behind thoughts of other models; each
beside those that look alike and are wrong."""

# ruff: noqa: RUF001, RUF003

from __future__ import annotations

import pytest

from rewards.verification.verifiers import VERIFIERS

NUMBERS = ("numeric", "latex")
RIGHT = [
    *(("multiple_choice", f"Answer: {text}", "B") for text in ("В", "Β", "(В)", "В. a cat", "🅱️", "🄱", "ⓑ")),
    *(("multiple_choice", f"Answer: {text}", "A, C") for text in ("AC", "both A and C")),
    *(("multiple_choice", f"Answer: {text}", "ABD") for text in ("ABD", "A, B, D", "A、B、D")),
    ("multiple_choice", "Answer: Ⅳ", "iv"),
    *((name, f"Answer: {text}", "1234.56") for name in NUMBERS for text in ("1.234,56", "1 234,56", "1.234,56 €")),
    *((name, f"Answer: {text}", "1234567") for name in NUMBERS for text in ("1.234.567", "1’234’567")),
    ("latex", "Answer: (1.234,56)", "(1.234, 56)"),
    ("latex", "Answer: 0.125,3", "0.125, 3"),
    *(
        (name, rf"\boxed{{{text}}}", "0.75")
        for name in NUMBERS
        for text in (r"\frac3{4}", r"\frac{3}4", r"\nicefrac34")
    ),
    *((name, rf"\boxed{{{text}}}", "0.75") for name in NUMBERS for text in (r"\frac 3 4", r"\sfrac{3}{4}")),
    *((name, f"Answer: {text}", "0.001") for name in NUMBERS for text in ("10⁻³", "10^-3", "1x10^-3")),
    *((name, "Answer: 10¹²", "1e12") for name in NUMBERS),
    ("latex", "Answer: 2¹⁰", "1024"),
    *(
        (name, f"Answer: {text}", "5")
        for name in NUMBERS
        for text in ("5 EUR", "EUR 5", "5 €", "5th place", "≈ 5", "5️⃣")
    ),
    ("latex", "Answer: infinity", r"\infty"),
    *(
        (name, f"Answer: {text}", "13")
        for name in NUMBERS
        for text in ("~~12~~ 13", "<del>12</del><ins>13</ins>", "1̶ 13")
    ),
    *((name, text, "13") for name in NUMBERS for text in (r"$x~~=~~\boxed{13}$", r"\boxed{\cancel{2}13}")),
    *((name, text, "4") for name in NUMBERS for text in ("<s>Answer: 4</s>", "<CONCLUSION>4</CONCLUSION>")),
    *(
        (name, f"It is 4.{text}", "4")
        for name in NUMBERS
        for text in ('<tool_call>{"x": 3}</tool_call>', "\n<tool_call>3")
    ),
    *(
        (name, f"{opening}Answer: 3{closing}4", "4")
        for name in NUMBERS
        for opening, closing in (
            ("<seed:think>", "</seed:think>"),
            ("[THINK]", "[/THINK]"),
            ("<|begin_of_thought|>", "<|end_of_thought|>"),
            ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        )
    ),
]
WRONG = [
    *(("multiple_choice", f"Answer: {text}", "R") for text in ("Р", "P", "Я")),
    ("multiple_choice", "Ответ: B", "В"),  # the second of A, B, C is not the third of А, Б, В
    *(("multiple_choice", f"Answer: {text}", "A, C") for text in ("CA", "ac", "ACT", "ABC", "both")),
    ("multiple_choice", "Answer: A, C", "ACT"),
    *((name, f"Answer: {text}", "1234") for name in NUMBERS for text in ("1.234", "12_34")),
    *((name, "Answer: 0.125,3", "125.3") for name in NUMBERS),
    *((name, "Answer: 2¹⁰", reference) for name in NUMBERS for reference in ("2", "20", "210")),
    *((name, "Answer: 10⁻³", reference) for name in NUMBERS for reference in ("10", "1000", "7")),
    *((name, r"\boxed{\frac{1}{2}3}", "1/23") for name in NUMBERS),
    *((name, f"Answer: {text}", "5") for name in NUMBERS for text in ("up to 5", "5 at most", "hasta 5", "5th or 6th")),
    *(
        (name, f"Answer: {text}", "12")
        for name in NUMBERS
        for text in ("~~12~~", "<del>12</del> 13", "1̶2̶", r"\sout{12}")
    ),
    *((name, "<CONCLUSION>4", "4") for name in NUMBERS),
    *((name, text, "3") for name in NUMBERS for text in ('<tool_call>{"x": 3}</tool_call>', "<tool_call>3")),
    *(
        (name, f"{opening}Answer: 3", "3")
        for name in NUMBERS
        for opening in ("<thought>", "[THINK]", "<|begin_of_thought|>", "<|channel|>analysis<|message|>")
    ),
    ("latex", "Answer: 2024-01-15", "2008"),
]


@pytest.mark.parametrize(("verifier", "completion", "reference"), RIGHT)
def test_right(verifier: str, completion: str, reference: str) -> None:
    assert VERIFIERS[verifier](completion, reference)


@pytest.mark.parametrize(("verifier", "completion", "reference"), WRONG)
def test_wrong(verifier: str, completion: str, reference: str) -> None:
    assert not VERIFIERS[verifier](completion, reference)
