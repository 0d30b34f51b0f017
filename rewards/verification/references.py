"""Reference answers that a verifier cannot read as a whole: it compares them as text, which their table should know."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from rewards.verification.expression import parse_expression
from rewards.verification.extraction import reference_answer
from rewards.verification.latex import compare_expressions
from rewards.verification.options import options_of
from rewards.verification.quantity import parse_quantity
from rewards.verification.reading import read_option

SECONDS = 30.0
"""For one look at references."""
NAMED = 3
"""References that are named; the others are counted."""


def reads_whole(verifier: str, reference: str) -> bool:
    r"""Whether the verifier of that name reads the whole reference: as a number, an option, an expression.

    >>> [reads_whole("numeric", text) for text in ("12 cm", "x + 1")], reads_whole("latex", r"1, 2, \ldots, n")
    ([True, False], False)
    """
    read = _READS.get(verifier)
    text = reference_answer(reference)
    return bool(text) and (read is None or read(text))


def unreadable_line(verifier: str, references: Iterable[tuple[str, str]]) -> str | None:
    """One line on the references that the verifier cannot read whole; None where it reads all that it looked at.

    Args:
        verifier: Its name; one that is none of Sieve's reads everything.
        references: Where each stands, and its text. It looks at them for `SECONDS`.
    """
    if verifier not in _READS:
        return None
    began, looked_at, count = time.monotonic(), 0, 0
    named: list[str] = []
    known: dict[str, bool] = {}
    for place, reference in references:
        if time.monotonic() - began > SECONDS:
            break
        looked_at += 1
        if reference not in known:
            known[reference] = reads_whole(verifier, reference)
        if not known[reference]:
            count += 1
            if len(named) < NAMED:
                named.append(f"{place} {reference[:60]!r}")
    if not count:
        return None
    more = f", and {count - len(named):,} more" if count > len(named) else ""
    return (
        f"task.verifier {verifier} cannot read {count:,} of {looked_at:,} reference answers whole and compares them as"
        f" text: {'; '.join(named)}{more}"
    )


def _is_expression(text: str) -> bool:
    found = parse_expression(text)
    if found is None:
        return False
    return found.latex.isdecimal() or compare_expressions(found.latex, found.latex) == "equal"


_READS: dict[str, Callable[[str], bool]] = {
    "multiple_choice": lambda text: any(read_option(text)) or bool(options_of(text)),
    "numeric": lambda text: parse_quantity(text) is not None,
    "latex": _is_expression,
}
