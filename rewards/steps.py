"""Where a rollout's written steps begin and end: found here, once, and used by annotator, MPRM and credit alike."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate

from rewards.records import StepSpan


def step_spans(pieces: Sequence[str], separator: str, answer: str | None = None) -> tuple[StepSpan, ...]:
    """Split a completion into steps.

    Args:
        pieces: The decoded text of each token, in order; their concatenation is the completion.
        separator: Regular expression of what stands between steps, for example a line break or a blank line.
        answer: Regular expression that a segment stating the final answer begins with; such a segment is not a step.

    Returns:
        One span a non-blank step. A separator belongs to the step before it, and so does the token that holds its last
        character; a step's last token is therefore the first place at which a left-to-right model knows that it ended.
        A step that shares all its tokens with the one before it has no span.

    >>> step_spans(["a", " b", "\\n", "c", "\\n", "Answer:", " 4"], r"\\n", r"Answer:")
    (StepSpan(start=0, end=3), StepSpan(start=3, end=5))
    """
    text = "".join(pieces)
    token_ends = list(accumulate(len(piece) for piece in pieces))
    bounds = [match.end() for match in re.finditer(f"(?:{separator})+", text)]

    spans: list[StepSpan] = []
    first_char, first_token = 0, 0
    for bound in [*bounds, len(text)]:
        segment = text[first_char:bound]
        if not segment.strip():
            continue
        end_token = bisect_left(token_ends, bound) + 1
        is_answer = answer is not None and re.match(rf"\s*(?:{answer})", segment) is not None
        if not is_answer and end_token > first_token:
            spans.append(StepSpan(first_token, end_token))
        first_char, first_token = bound, end_token
    return tuple(spans)


def decode_pieces(token_ids: Sequence[int], decode: Callable[[list[int]], str], end: int | None = None) -> list[str]:
    """The text of each token on its own; the end-of-sequence token ``end`` counts as no text."""
    return ["" if token == end else decode([token]) for token in token_ids]
