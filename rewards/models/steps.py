"""Where a rollout's written steps begin and end: found here, once, and used by annotator, MPRM and credit alike.

Steps may be tagged (VL-PRM, arXiv 2509.23250): what the image shows under one marker, what follows from it under the
other.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from rewards.records import StepSpan


@dataclass(frozen=True)
class Markers:
    """Regular expressions that tell steps of perception from steps of reasoning; None for none.

    A step that begins with a marker, white space aside, is of its kind. So are the untagged steps after it, up to the
    next marker, as in a section under a heading. Before any marker a step has no kind.
    """

    perception: str | None = None
    reasoning: str | None = None

    def find(self, text: str) -> tuple[str, int] | None:
        """The kind whose marker the text begins with, perception first, and where the marker ends."""
        for kind, marker in (("perception", self.perception), ("reasoning", self.reasoning)):
            if marker is not None and (match := re.match(rf"\s*(?:{marker})", text)):
                return kind, match.end()
        return None

    def kinds(self, steps: Iterable[str]) -> list[str]:
        """The kind of each step of one solution, from their texts.

        >>> Markers("See:", "Think:").kinds(["Hm.", "See: a cat", "on a mat", " Think: so 1"])
        ['', 'perception', 'perception', 'reasoning']
        """
        found = (self.find(step) for step in steps)
        return list(accumulate(found, lambda kind, tag: tag[0] if tag else kind, initial=""))[1:]


NO_MARKERS = Markers()


def step_spans(
    pieces: Sequence[str], separator: str, answer: str | None = None, markers: Markers = NO_MARKERS
) -> tuple[StepSpan, ...]:
    """Split a completion into steps.

    Args:
        pieces: The decoded text of each token, in order; their concatenation is the completion.
        separator: Regular expression of what stands between steps, for example a line break or a blank line.
        answer: Regular expression that a segment stating the final answer begins with; such a segment is not a step.
        markers: Which kind a step is of. A segment that is nothing but a marker, like a heading on a line of its own,
            is no step: it belongs to the one after it.

    Returns:
        One span a non-blank step. A separator belongs to the step before it, and so does the token that holds its last
        character; a step's last token is therefore the first place at which a left-to-right model knows that it ended.
        A step that shares all its tokens with the one before it has no span.

    >>> step_spans(["a", " b", "\\n", "c", "\\n", "Answer:", " 4"], r"\\n", r"Answer:")
    (StepSpan(start=0, end=3, kind=''), StepSpan(start=3, end=5, kind=''))
    """
    text = "".join(pieces)
    token_ends = list(accumulate(len(piece) for piece in pieces))
    bounds = [match.end() for match in re.finditer(f"(?:{separator})+", text)]

    spans: list[StepSpan] = []
    first_char, first_token, kind = 0, 0, ""
    for bound in [*bounds, len(text)]:
        segment = text[first_char:bound]
        if tag := markers.find(segment):
            kind = tag[0]
        if not segment[tag[1] if tag else 0 :].strip():
            # Blank or a mere tag: its tokens go to the step that comes next.
            first_char = bound
            continue
        end_token = bisect_left(token_ends, bound) + 1
        is_answer = answer is not None and re.match(rf"\s*(?:{answer})", segment) is not None
        if not is_answer and end_token > first_token:
            spans.append(StepSpan(first_token, end_token, kind))
        first_char, first_token = bound, end_token
    return tuple(spans)


def separator_tokens(pieces: Sequence[str], separator: str) -> np.ndarray:
    """Which tokens hold nothing but what stands between steps (T,), as booleans.

    A token that holds part of a step, too, is not one, and neither is a token without text.

    Args:
        pieces: The decoded text of each token, as for `step_spans`.
        separator: Likewise.

    >>> separator_tokens(["a", "\\n", "\\n", "b.\\n", ""], r"\\n").tolist()
    [False, True, True, False, False]
    """
    between = np.zeros(sum(map(len, pieces)), dtype=bool)
    for match in re.finditer(f"(?:{separator})+", "".join(pieces)):
        between[match.start() : match.end()] = True
    ends = accumulate(map(len, pieces))
    pairs = zip(pieces, ends, strict=True)
    return np.array([bool(piece) and bool(between[end - len(piece) : end].all()) for piece, end in pairs], dtype=bool)


def decode_pieces(token_ids: Sequence[int], decode: Callable[[list[int]], str], end: int | None = None) -> list[str]:
    """The text of each token on its own; the end-of-sequence token ``end`` counts as no text."""
    return ["" if token == end else decode([token]) for token in token_ids]
