"""Verifiers: what counts as the right final answer."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.verification.quantity import Quantity, parse_quantity
from rewards.verification.verifiers import VERIFIERS, boxed, exact, latex, multiple_choice, numeric


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
        ("answer: 4", "4", True),
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
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}", True),
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
        (r"\boxed{}", "", False),
    ],
)
def test_boxed(completion: str, reference: str, right: bool) -> None:
    assert boxed(completion, reference) is right


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("12", 12, ""),
        ("-12.50", -12.5, ""),
        ("−3", -3, ""),  # noqa: RUF001
        ("- 3", -3, ""),
        ("+3", 3, ""),
        (".5", 0.5, ""),
        ("12.", 12, ""),
        ("1,234,567.8", 1234567.8, ""),
        ("1{,}234", 1234, ""),
        (r"1\,234", 1234, ""),
        ("1\u202f234\u202f567", 1234567, ""),
        ("3/4", 0.75, ""),
        ("-3/4 cup", -0.75, "cup"),
        (r"\frac{3}{4}", 0.75, ""),
        (r"-\dfrac{3}{4}", -0.75, ""),
        (r"\frac34", 0.75, ""),
        ("1 3/4", 1.75, ""),
        (r"$2\frac{1}{2}$", 2.5, ""),
        ("1.5e-3", 0.0015, ""),
        (r"1.5 \times 10^{-3}", 0.0015, ""),
        ("2 × 10^4", 20000, ""),  # noqa: RUF001
        ("10^6", 1e6, ""),
        ("-10^{-2}", -0.01, ""),
        ("$5", 5, ""),
        (r"\$1,000", 1000, ""),
        ("€ 5", 5, ""),
        (r"45^\circ", 45, "°"),
        (r"45^{\circ}", 45, "°"),
        (r"5\text{ cm}", 5, "cm"),
        (r"5\,\mathrm{m/s^{2}}", 5, "m/s^2"),
        ("5 cm3", 5, "cm3"),
        ("5 s^-1", 5, "s^-1"),
        ("50%", 50, "%"),
        (r"50\%", 50, "%"),
        ("x = 3", 3, ""),
        ("6/2 = 3", 3, ""),
        (r"\pi \approx 3.14", 3.14, ""),
        ("about 12 apples.", 12, "apples"),
        ("x2 is 7", 7, ""),
        (r"\(7\)", 7, ""),
        ("**7**", 7, ""),
    ],
)
def test_numbers_as_they_are_written(text: str, value: float, unit: str) -> None:
    assert parse_quantity(text) == Quantity(pytest.approx(value), unit)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "none",
            "1,5",
            "1,23,4",
            "1.2.3",
            "12 or 13",
            "12-13",
            "5 - 3",
            "3 (of 4)",
            "1/0",
            "1 2/0",
            "1e999",
            "2^3",
        ),
        *("12 34", "5/3/2020", "12:30", "9" * 400, "1" * 501, "A12", "=", "x = ", "inf", "nan", "0x10", "1_000"),
    ],
)
def test_what_can_be_read_in_two_ways_is_no_number(text: str) -> None:
    assert parse_quantity(text) is None


@given(st.integers(-(10**12), 10**12), st.integers(0, 3))
def test_a_formatted_number_is_read_as_it_was(whole: int, digits: int) -> None:
    value = whole / 10**digits
    for text in (f"{value:,.{digits}f}", f"{value:.{digits}f}", f"Answer: {value:,.{digits}f} kg"):
        assert numeric(text, repr(value), tolerance=1e-12), text


@given(st.integers(-99, 99), st.integers(1, 99))
def test_a_fraction_is_its_value(top: int, bottom: int) -> None:
    value = Fraction(top, bottom)
    for text in (f"{top}/{bottom}", rf"\boxed{{\frac{{{top}}}{{{bottom}}}}}", f"Answer: {top} / {bottom}"):
        assert numeric(text, str(float(value)), tolerance=1e-12)


@given(st.floats(0.01, 1e6), st.floats(-0.2, 0.2), st.floats(0, 0.1), st.floats(0, 0.1))
def test_tolerance_is_relative_to_the_reference_or_absolute(
    reference: float, error: float, tolerance: float, absolute: float
) -> None:
    answer = reference * (1 + error)
    limit = max(tolerance * reference, absolute)
    if abs(abs(answer - reference) - limit) > 1e-6 * reference:  # not on the edge, where rounding decides
        right = abs(answer - reference) < limit
        assert numeric(f"Answer: {answer!r}", repr(reference), tolerance, absolute) is right


@pytest.mark.parametrize(
    ("completion", "reference", "right"),
    [
        ("Answer: 50%", "50%", True),
        ("Answer: 50", "50%", True),
        ("Answer: 0.5", "50%", True),
        ("Answer: 50 percent", "0.5", True),
        ("Answer: 50", "0.5", False),
        ("Answer: 5%", "50%", False),
        ("Answer: 12 cm", "12", True),
        ("Answer: 12", "12 cm", True),
        ("Answer: 12 cm long", "12 cm", True),
        ("Answer: 12 cm", "12 m", False),
        ("Answer: 12 %", "12 m", False),
        ("so 7, or 12", "12", True),
        ("so 7-12", "12", True),
        ("it was 3/4", "0.75", True),
        (r"\boxed{7}, that is 12", "12", False),
        (r"\boxed{seven} of 12", "12", False),
        (r"\boxed{12", "12", False),
        ("Answer: twelve", "12", False),
        ("Answer: 12", "twelve", False),
        ("", "", False),
    ],
)
def test_numeric(completion: str, reference: str, right: bool) -> None:
    assert numeric(completion, reference) is right


@pytest.mark.parametrize(
    ("completion", "reference", "right"),
    [
        *((form, "B", True) for form in ("B", "(B)", "b", "[B]", "B.", "B)", "B:", "**B**", "(B).", " B \n")),
        *((f"A.\nAnswer: {form}", "B", True) for form in ("B", "(B)", "B.", "B. 12 cm", "B, as shown", "option B")),
        (r"\boxed{B}", "B", True),
        (r"\boxed{\text{(B)}}", "(B)", True),
        (r"\boxed{\textbf{B. } 12}", "B", True),
        ("The answer is B because of A.", "B", False),  # a letter that a word follows may be a word
        ("The answer is: (B) because", "B", True),
        ("**Answer:** the choice (b)", "B.", True),
        ("Answer: B", "A", False),
        ("Answer: A or B", "A", False),
        ("Answer: (A) or (B)", "A", False),
        ("Answer: A, B", "A", False),
        ("Answer: A/B", "A", False),
        ("Answer: A & B", "A", False),
        ("Answer: A cat", "A", False),
        ("Answer: Bird", "B", False),
        ("A is wrong.\nB is right.", "B", False),
        ("A. is wrong\nso it is B", "A", False),
        (r"\boxed{A}, or Answer: B", "B", False),
        (r"\boxed{}Answer: B", "B", False),
        ("Answer: 12 cm", "B. 12 cm", True),
        ("Answer: 12 CM.", "(B) 12 cm", True),
        ("Answer: 13 cm", "B. 12 cm", False),
        ("Answer: A. 12 cm", "B. 12 cm", False),
        ("Answer: a red car", "A red car", True),
        ("", "B", False),
        ("", "", False),
        ("Answer: B", "", False),
    ],
)
def test_multiple_choice(completion: str, reference: str, right: bool) -> None:
    assert multiple_choice(completion, reference) is right


@pytest.mark.parametrize(
    ("completion", "reference", "right"),
    [
        (r"\boxed{\frac{2}{4}}", r"\frac{1}{2}", True),
        (r"\boxed{0.5}", r"$\frac{1}{2}$", True),
        (r"Answer: $2\sqrt2$", r"\sqrt{8}", True),
        ("Answer: (x+1)^2", "x^2 + 2x + 1", True),
        (r"so it is $\frac12$", "1/2", True),
        (r"\boxed{\{2, 1\}}", r"\{1, 2\}", True),
        (r"\boxed{[0, 1)}", "[0,1)", True),
        (r"\boxed{(2, 1)}", "(1, 2)", False),
        (r"\boxed{1,000}", "1000", True),
        (r"\boxed{x=3}", "3", True),
        (r"\boxed{50\%}", r"50\%", True),
        (r"\boxed{x^2}", "x^3", False),
        (r"\boxed{1}, no, \boxed{2}", "1", False),
        (r"\boxed{1", "1", False),
        (r"\boxed{}", "1", False),
        ("", "1", False),
        ("Answer: 1", "", False),
        (r"\boxed{\frac{1}{0}}", "1", False),
        (r"\boxed{\left(}", "1", False),
    ],
)
def test_latex(completion: str, reference: str, right: bool) -> None:
    assert latex(completion, reference) is right


def test_verifiers_are_found_by_their_names() -> None:
    assert {name: verifier.__name__ for name, verifier in VERIFIERS.items()} == {name: name for name in VERIFIERS}
    assert set(VERIFIERS) == {"exact", "boxed", "numeric", "multiple_choice", "latex"}
