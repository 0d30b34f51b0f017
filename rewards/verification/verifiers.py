"""Verifiers: is the final answer of a completion right? One function each, ``(completion, reference) -> bool``.

A user's own may say more: see `rewards.verification.verdict`.

They never raise, whatever a model writes, and say the same every time.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rewards.verification.latex import equal_expressions
from rewards.verification.quantity import agree, parse_quantity

Verifier = Callable[[str, str], bool]

_LAST_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:/\d+)?(?:\s*\\?%)?")
_OPTION = re.compile(r"(?:(?:the\s+)?(?:option|choice)\s+)?[(\[]?([A-Z])(?:[)\].:,;]+(?=\s|$)|(?=\s*$))", re.IGNORECASE)
_ANOTHER = re.compile(r"[)\].:;]*\s*(?:,|/|&|and\b|or\b)\s*[(\[]?[A-Z][)\].:]?\s*(?:$|,|/|&|and\b|or\b)", re.IGNORECASE)
_MARKER = re.compile(r"\banswer\b\**\s*(?:is\b\s*:?|:)\**", re.IGNORECASE)
_BOX = r"\boxed"


def exact(completion: str, reference: str) -> bool:
    """The text after the last ``Answer:`` equals the reference, up to surrounding white space.

    >>> exact("Step 1: 2 + 2 = 4\\nAnswer: 4", "4"), exact("4", "4")
    (True, False)
    """
    _, marker, answer = completion.rpartition("Answer:")
    return bool(marker) and answer.strip() == reference.strip()


def boxed(completion: str, reference: str) -> bool:
    r"""What is in the last ``\boxed{…}``, or the last number where nothing is boxed, equals the reference as text.

    >>> boxed(r"so \boxed{12} apples", "12"), boxed("that makes 7 or 12", "12")
    (True, True)
    """
    if r"\boxed" in completion:
        return boxed_text(completion) == reference.strip()
    found = re.findall(r"-?\d+(?:\.\d+)?", completion)
    return bool(found) and found[-1].strip() == reference.strip()


def numeric(completion: str, reference: str, tolerance: float = 1e-6, absolute_tolerance: float = 0.0) -> bool:
    r"""The final answer is the reference's number.

    The answer is in the last ``\boxed{…}``, else after the last ``Answer:`` or ``answer is``, else it is the last
    number of the completion. It must state one number and no other; for how it may be written see
    `rewards.verification.quantity`.

    Args:
        completion, reference: Texts.
        tolerance: Largest difference, as a share of the reference.
        absolute_tolerance: Largest difference, as it is; the larger of the two counts.

    >>> numeric("Answer: 1,250 kg", "1250"), numeric(r"so \boxed{\frac{1}{3}}", "0.3333333"), numeric("50 %", "0.5")
    (True, True, True)
    >>> numeric("Answer: 12 or 13", "12"), numeric("Answer: 12 cm", "12 m"), numeric("3.1", "3.14", tolerance=0.05)
    (False, False, True)
    """
    stated = final_answer(completion)
    if stated is None and r"\boxed" not in completion:
        numbers = _LAST_NUMBER.findall(completion)
        stated = numbers[-1] if numbers else None
    answer, right = parse_quantity(stated or ""), parse_quantity(reference)
    return answer is not None and right is not None and agree(answer, right, tolerance, absolute_tolerance)


def multiple_choice(completion: str, reference: str) -> bool:
    r"""The final answer is the reference's option.

    The answer is in the last ``\boxed{…}``, else after the last ``Answer:`` or ``answer is``, else the completion
    itself if it is a single line. An option is a letter in any case: ``B``, ``(B)``, ``[b]``, ``B.``, ``B)``,
    ``B: 12 cm``, ``option B``, ``**B**`` or ``\text{B}``. A letter that a word follows is none (``A cat``), and several
    options are no answer (``A or B``). Where the reference gives the option's text as well, ``B. 12 cm``, that text
    alone is right, too.

    >>> multiple_choice("so the answer is (B).", "B"), multiple_choice(r"\boxed{\text{B. 12 cm}}", "b")
    (True, True)
    >>> multiple_choice("Answer: 12 cm", "(B) 12 cm"), multiple_choice("Answer: A or B", "A")
    (True, False)
    """
    stated = final_answer(completion)
    if stated is None and r"\boxed" not in completion and "\n" not in completion.strip():
        stated = completion
    answer, right = _plain(stated or ""), _plain(reference)
    option, _ = _option(answer)
    right_option, right_text = _option(right)
    if option and right_option:
        return option == right_option
    return bool(right_text) and answer.casefold().rstrip(".") == right_text.casefold().rstrip(".")


def latex(completion: str, reference: str) -> bool:
    r"""The final answer equals the reference as a mathematical expression, as math-verify finds.

    The answer is in the last ``\boxed{…}``, else after the last ``Answer:`` or ``answer is``, else what math-verify
    takes for it. A comparison that takes too long counts as wrong; see `rewards.verification.latex`.

    >>> latex(r"so \boxed{\frac{2}{4}}", "0.5"), latex("Answer: x + 1", "1 + x"), latex(r"\boxed{x}", "y")
    (True, True, False)
    """
    stated = final_answer(completion)
    if stated is None and r"\boxed" not in completion:
        stated = completion
    return bool(stated and reference.strip()) and equal_expressions(stated or "", reference.strip())


def _plain(text: str) -> str:
    """Without the marks of LaTeX and Markdown around a text."""
    text = re.sub(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}", r"\1", text)
    return re.sub(r"\*\*|\$|\\[()]|[{}]", "", text).strip()


def _option(text: str) -> tuple[str, str]:
    """The letter of the option that a text begins with, in capitals, and the text behind it; empty if there is none."""
    match = _OPTION.match(text)
    if match is None or _ANOTHER.match(text, match.end(1)):
        return "", text if match is None else ""
    return match[1].upper(), text[match.end() :].strip()


VERIFIERS: dict[str, Verifier] = {
    "exact": exact,
    "boxed": boxed,
    "numeric": numeric,
    "multiple_choice": multiple_choice,
    "latex": latex,
}


def final_answer(completion: str) -> str | None:
    r"""What is in the last ``\boxed{…}``; where nothing is boxed, the rest of the line after the last ``Answer:`` or
    ``answer is``. None without either, or if the box is empty or never closed: an answer that cannot be read is none.

    >>> final_answer(r"Answer: 3, so \boxed{\frac{1}{2}} of it"), final_answer("The answer is 4\n(I think)")
    ('\\frac{1}{2}', '4')
    >>> final_answer("4") is final_answer(r"Answer: \boxed{4") is None
    True
    """
    if _BOX in completion:
        return boxed_text(completion)
    *_, last = (None, *_MARKER.finditer(completion))
    return (completion[last.end() :].strip().partition("\n")[0].strip() or None) if last else None


def boxed_text(completion: str) -> str | None:
    r"""What is in the last ``\boxed{…}``, with the braces within; None if there is none, or it is empty or not closed.

    >>> boxed_text(r"\boxed{1} or \boxed{x^{2}}"), boxed_text(r"\boxed{1} or \boxed{2")
    ('x^{2}', None)
    """
    _, found, rest = completion.rpartition(_BOX)
    rest = rest.lstrip()
    if not found or not rest.startswith("{"):
        return None
    depth = 0
    for place, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[1:place].strip() or None
    return None
