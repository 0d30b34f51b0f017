"""Answers in the spellings of more people and languages, in look-alike letters, struck out, behind thoughts of other
models; each beside those that look alike and are wrong."""

# ruff: noqa: RUF001, RUF003

from __future__ import annotations

import pytest

from rewards.verification.verifiers import VERIFIERS

NUMBERS = ("numeric", "latex")
RIGHT = [
    *(
        ("numeric", text, "71/6")
        for text in ("11 5/6", "so it is 11 5/6", r"it is 11\frac{5}{6}", r"so $11\frac{5}{6}$")
    ),
    *(("numeric", text, "300000000") for text in ("Answer: 3×10⁸", "3 x 10^8", "so 3×10^8", "it is about 3e8")),
    *(("numeric", f"Answer: {text}", "1234567") for text in ("1.234.567", "1'234'567", "12,34,567", "1 234 567")),
    ("numeric", "Answer: 1.234,56", "1234.56"),
    ("numeric", "Answer: ٣٫٥", "3.5"),
    *(
        ("numeric", f"Answer: 7{text}", "7")
        for text in (", approximately", " (approximately)", ", roughly", ", exactly")
    ),
    *(
        ("numeric", text, "42")
        for text in ("Answer:\n\n> 42", "The answer is:\n> **42**", "**Answer**\n> 42", "Ans: 42")
    ),
    *(
        ("numeric", text, "42")
        for text in ("정답은 42입니다.", "答えは42です。", "Đáp án: 42", "উত্তর: 42", "उत्तर: 42।")
    ),
    *(("numeric", f"Answer: 42{text}", "42") for text in ("</s>", "<|im_end|>", " 🎉")),
    ("numeric", "Answer: 5 kilometers per hour", "5 km/h"),
    *((name, r"Answer: $0.\overline{3}$", "1/3") for name in ("numeric", "latex")),
    *((name, "Answer: 1/6", r"0.1\overline{6}") for name in ("numeric", "latex")),
    *(
        ("latex", rf"\boxed{{{text}}}", "1/2")
        for text in (r"\textcolor{red}{1/2}", r"\color{blue} 1/2", r"\underline{1/2}")
    ),
    ("latex", r"\boxed{x \equiv 3 \pmod{5}}", r"x \equiv 3 \pmod 5"),
    ("latex", r"\boxed{x \equiv 3 \pmod{5}}", r"x \equiv 3 (\text{mod } 5)"),
    ("latex", r"\boxed{\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"),
    *(("latex", rf"\boxed{{{text}}}", "-1") for text in (r"e^{i\pi}", "i^2")),
    *(("latex", rf"\boxed{{{text}}}", r"(3, \infty)") for text in ("x > 3", r"(3,\infty)")),
    ("latex", r"\boxed{+\infty}", r"\infty"),
    ("latex", r"$\boxed{1}, \boxed{2}$", "1, 2"),
    *(
        ("multiple_choice", text, "B")
        for text in ("Answer: B | 12", "| B |", "Answer: 【B】", "Option B is correct.", "Ⓑ")
    ),
    *(("multiple_choice", text, "Б") for text in ("Ответ: (б)", "Ответ: Б) 12 см")),
    *(("multiple_choice", f"Answer: {text}", "2") for text in ("2", "(2)", "2. a cat", "(2) 12 cm")),
    ("multiple_choice", "정답: ②번", "②"),
    *(
        ("latex", f"Answer: {text}", "1/2")
        for text in (r"\sin(30^\circ)", r"\cos 60^{\circ}", "cos(60°)", r"\frac{\tan 45^\circ}{2}")
    ),
    ("latex", r"\boxed{10 \sin{30^\circ}}", "5"),
    ("latex", "The answer is 42!", "42"),
    *((name, "The answer is 42, which is even.", "42") for name in ("numeric", "latex")),
    *(("numeric", rf"The area is {text}.", "42") for text in (r"\(42\ \text{cm}^2\)", "42 cm^2", "42 cm²")),
    ("numeric", "so it is 10^2", "100"),
    ("latex", "The answer is 5!", "120"),
    *((name, "Answer: 11⅚", "71/6") for name in ("numeric", "latex")),
    *((name, r"Answer: 12 m s^{-1}", "12 m/s") for name in ("numeric", "latex")),
    ("latex", r"\boxed{12 \frac{\text{m}}{\text{s}}}", "12 m/s"),
    *(
        (name, rf"\boxed{{{text}}}", "12")
        for name in ("numeric", "latex")
        for text in (
            r"\Large{12}",
            r"\rm 12",
            r"{\bf 12}",
            r"\emph{12}",
            r"\framebox{12}",
            r"12 \tag{1}",
            "<u>12</u>",
            "„12“",
        )
    ),
    *(("numeric", f"Answer: {text}", "12") for text in ("12 [cm]", "• 12", "🎯 12", "<|box_start|>12<|box_end|>")),
    *(("numeric", f"Answer: {text}", "0.75") for text in (r"{3 \over 4}", r"3 \div 4", r"\bigl(0.75\bigr)")),
    ("numeric", "Answer: 1 500,5", "1500.5"),
    ("numeric", "Answer: 25 ℃", "25 °C"),
    *(
        ("multiple_choice", text, "B")
        for text in (
            "Answer: ⒝",
            "【答案】B",
        )
    ),
    *(
        ("multiple_choice", text, "B")
        for text in ("正确选项是B。", "Die Antwort lautet B.", "La risposta corretta è B.", "Đáp án đúng là B")
    ),
    *(("multiple_choice", f"Answer: {text}", "A, C") for text in ("A, C", "C, A", "A and C", "(A), (C)")),
    ("exact", '{"answer": "one\\nby one"}', "one\nby one"),
    ("exact", "<answer>one\r\ntwo</answer>", "one\ntwo"),
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
    *(("numeric", f"Answer: {text}", "71/6") for text in ("11", "5/6", "11-5/6")),
    ("numeric", "Answer: 12 34", "1234"),
    ("numeric", "Answer: 1.234", "1234"),
    ("numeric", "Answer: 7, about 8", "7"),
    ("numeric", "Answer: > 42", "42"),
    ("numeric", r"$\boxed{1}, \boxed{2}$", "2"),
    ("numeric", "we computed 10 - 3", "-3"),
    *((name, "Answer: 0.3", r"0.\overline{3}") for name in ("numeric", "latex")),
    *(("latex", rf"\boxed{{{text}}}", r"\infty") for text in ("5", "0.5", r"-\infty")),
    ("latex", r"\boxed{(1, 5)}", r"(1, \infty)"),
    ("latex", r"\boxed{(0, \infty)}", r"(-\infty, \infty)"),
    *(("latex", rf"\boxed{{{text}}}", "101_2") for text in ("101", "101_3", "5")),
    *(
        ("latex", rf"\boxed{{{text}}}", r"x \equiv 3 \pmod{5}")
        for text in (r"x \equiv 3 \pmod{7}", r"x \equiv 2 \pmod 5", "3")
    ),
    ("latex", r"\boxed{\begin{pmatrix} 1 & 2 \\ 3 & 5 \end{pmatrix}}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"),
    ("latex", r"\boxed{1 - 2i}", "1 + 2i"),
    *(("latex", rf"\boxed{{{text}}}", r"(3, \infty)") for text in ("x < 3", r"x \geq 3")),
    *(("multiple_choice", text, "B") for text in ("Answer: not (B)", "Answer: B | C", r"\boxed{A} or \boxed{B}")),
    *(("multiple_choice", f"Answer: {text}", "2") for text in ("2 or 3", "(2), (3)", "2.5", "23", "2 cm")),
    ("multiple_choice", "Option B is correct, but C is better", "B"),
    ("multiple_choice", "Ответ: А или Б", "Б"),
    *(
        ("multiple_choice", f"Answer: {text}", "A")
        for text in ("(A) is wrong, (B)", "A is incorrect", "A is not the answer")
    ),
    *(("multiple_choice", f"Answer: {text}", "A, C") for text in ("A", "A, B", "A, B, C", "A or C", "C")),
    ("multiple_choice", "Answer: A, C", "A"),
    ("multiple_choice", "Answer: ACT", "CAT"),
    *(("latex", f"Answer: {text}", r"\cos 60^\circ") for text in ("-0.95241298", r"\cos 60", "60", r"\cos 61^\circ")),
    *((name, text, "42") for name in ("numeric", "latex") for text in (r"\boxed{42!}", "The answer is 43!")),
    *(("numeric", f"Answer: {text}", "6") for text in ("6 dozen", "6 doubled", "over 6", "log_2 6")),
    ("numeric", "The area is 42 cm^2.", "2"),
    *((name, "The answer is 42 or 43, which is odd.", "42") for name in ("numeric", "latex")),
    *((name, r"Answer: 12 m s^{-2}", "12 m/s") for name in ("numeric", "latex")),
    ("latex", r"\boxed{12 \frac{\text{m}}{\text{h}}}", "12 m/s"),
    ("numeric", "Answer: 1 500,5", "1500"),
    ("numeric", "Answer: 25 ℃", "25 ℉"),
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
