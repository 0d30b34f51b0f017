"""Where a completion states its final answer."""

from __future__ import annotations

import re

_MARKER = re.compile(r"\banswer\b\**\s*(?:is\b\s*:?|:)\**", re.IGNORECASE)
_BOX = r"\boxed"


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
