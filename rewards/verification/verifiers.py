"""Verifiers: is the final answer of a completion right? One function each, ``(completion, reference) -> bool``.

They never raise, whatever a model writes, and say the same every time. Where the answer stands is the same for all of
them, see `rewards.verification.extraction`; a reference may be written in the same ways.

A user's own may say more: see `rewards.verification.verdict`.
"""

from __future__ import annotations

from collections.abc import Callable

from rewards.verification.decoration import same_text
from rewards.verification.expression import Expression, parse_expression
from rewards.verification.extraction import FinalAnswer, reference_answer
from rewards.verification.latex import compare_expressions
from rewards.verification.options import numeral_of, options_of, same_option
from rewards.verification.quantity import agree, units_agree
from rewards.verification.reading import exclaimed, read_answer, read_expressions, read_numbers, read_option

Verifier = Callable[[str, str], bool]


def exact(completion: str, reference: str) -> bool:
    """The final answer equals the reference as text, up to decoration around it.

    >>> exact("Step 1: 2 + 2 = 4\\nAnswer: 4", "4"), exact("Answer: 4.0", "4"), exact("4", "4")
    (True, False, False)
    """
    answer = read_answer("exact", completion)
    return answer is not None and answer.text == reference_answer(reference)


def boxed(completion: str, reference: str) -> bool:
    r"""The final answer, or the last number where none is stated, equals the reference as text.

    >>> boxed(r"so \boxed{12} apples", "12"), boxed("that makes 7 or 12", "12")
    (True, True)
    """
    answer = read_answer("boxed", completion)
    return answer is not None and answer.text == reference_answer(reference)


def numeric(completion: str, reference: str, tolerance: float = 1e-6, absolute_tolerance: float = 0.0) -> bool:
    r"""The final answer, or the last number where none is stated, is the reference's number.

    It must state one number and no other; for how it may be written see `rewards.verification.quantity`. Where one of
    the two is no number, they are compared as text.

    Args:
        completion, reference: Texts.
        tolerance: Largest difference, as a share of the reference.
        absolute_tolerance: Largest difference, as it is; the larger of the two counts.

    >>> numeric("Answer: 1,250 kg", "1250"), numeric(r"so \boxed{\frac{1}{3}}", "0.3333333"), numeric("50 %", "0.5")
    (True, True, True)
    >>> numeric("Answer: 12 or 13", "12"), numeric("Answer: 12 cm", "12 m"), numeric("3.1", "3.14", tolerance=0.05)
    (False, False, True)
    """
    answer, right = read_answer("numeric", completion), reference_answer(reference)
    if answer is None:
        return False
    numbers, right_numbers = read_numbers(answer), read_numbers(FinalAnswer(right))
    if not numbers or not right_numbers:
        return same_text(answer.text, right)
    return any(agree(number, right_numbers[0], tolerance, absolute_tolerance) for number in numbers)


def multiple_choice(completion: str, reference: str) -> bool:
    r"""The final answer is the reference's option.

    Where none is stated it is the completion itself if that is a single line, else the last line if there is nothing
    but an option in it. For how an option may be written see `rewards.verification.options`; several are no answer
    (``A or B``), unless the reference is several (``A, C``). Where the reference gives the option's text as well,
    ``B. 12 cm``, that text alone is right, too.

    >>> multiple_choice("so the answer is (B).", "B"), multiple_choice(r"\boxed{\text{B. 12 cm}}", "b")
    (True, True)
    >>> multiple_choice("Answer: 12 cm", "(B) 12 cm"), multiple_choice("Answer: A or B", "A")
    (True, False)
    """
    answer, right = read_answer("multiple_choice", completion), reference_answer(reference)
    if answer is None:
        return False
    option, text = read_option(answer.text)
    right_option, right_text = read_option(right)
    if option and right_option:
        return same_option(option, right_option)
    if numeral := numeral_of(right, alone=True):
        return numeral == numeral_of(answer.text)
    if options_of(right) or options_of(answer.text):  # then those of the other are letters, and no word
        return options_of(right, together=True) == options_of(answer.text, together=True)
    return same_text(text, right_text)


def latex(completion: str, reference: str) -> bool:
    r"""The final answer equals the reference as a mathematical expression, as math-verify finds.

    Where none is stated it is the last maths between marks, else the last number. Answer and reference must be
    expressions as a whole; where one is not, they are compared as text. Decimals agree within a millionth of their
    value, and units as those of `numeric`. A comparison that takes too long counts as wrong; see
    `rewards.verification.latex`.

    >>> latex(r"so \boxed{\frac{2}{4}}", "0.5"), latex("Answer: x + 1.", "1 + x"), latex(r"\boxed{x}", "y")
    (True, True, False)
    """
    answer, right = read_answer("latex", completion), reference_answer(reference)
    if answer is None:
        return False
    if same_text(answer.text, right):
        return True
    expected = parse_expression(right)
    return expected is not None and any(_is_expression(reading, expected) for reading in exclaimed(answer))


def _is_expression(answer: FinalAnswer, expected: Expression) -> bool:
    for found in read_expressions(answer):
        if not units_agree(found.unit, expected.unit):
            return False
        verdict = compare_expressions(found.latex, expected.latex)
        if verdict == "different" and (found.unit == "%") != (expected.unit == "%"):
            one, other = (_hundredth(each) for each in (found, expected))
            verdict = compare_expressions(one, other)
        if verdict != "unreadable answer":
            return verdict == "equal"
    return False


def _hundredth(expression: Expression) -> str:
    return rf"\frac{{{expression.latex}}}{{100}}" if expression.unit == "%" else expression.latex


VERIFIERS: dict[str, Verifier] = {
    "exact": exact,
    "boxed": boxed,
    "numeric": numeric,
    "multiple_choice": multiple_choice,
    "latex": latex,
}
