"""Where a rollout's written steps begin and end: found here, once, and used by annotator, MPRM and credit alike.

Steps may be tagged (VL-PRM, arXiv 2509.23250): what the image shows under one marker, what follows from it under the
other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from rewards.invisible import INVISIBLE
from rewards.models.named_rules import LINE
from rewards.models.sentences import STOPS
from rewards.models.step_rule import Gap, StepRule
from rewards.models.token_text import INCOMPLETE, TokenText
from rewards.records import Rollout, StepSpan
from rewards.timed_expressions import find_all, match_start


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
            if marker is not None and (match := match_start(rf"\s*(?:{marker})", text)):
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
SPACE, DRESS = r"\s*", rf"[\s*_#>`{INVISIBLE}]*?"
"""What may stand before an answer marker: white space, and what makes a text bold, a quote or a heading."""


def step_spans(
    read: TokenText, rule: StepRule = LINE, answer: str | None = None, markers: Markers = NO_MARKERS
) -> tuple[StepSpan, ...]:
    """Split a completion into steps.

    Args:
        read: The completion; see `rewards.models.token_text`.
        rule: Where in its text steps end.
        answer: Regular expression that a segment stating the final answer begins with; such a segment is not a step.
        markers: Which kind a step is of. A segment that is nothing but a marker, like a heading on a line of its own,
            is no step: it belongs to the one after it.

    Returns:
        One span a non-blank step. What separates belongs to the step before it, and so does the token that holds its
        last character; a step's last token is therefore the first place at which a left-to-right model knows that it
        ended. A token that holds characters of two steps, too, is the earlier one's last. A step that shares all its
        tokens with the one before it has no span. No token is in two spans, and those between or after spans hold the
        final answer, nothing but white space, or the end of the sequence.

    >>> tokens = TokenText("a b\\nc\\nAnswer: 4", (1, 3, 4, 5, 6, 13, 15))
    >>> step_spans(tokens, answer="Answer:")
    (StepSpan(start=0, end=3, kind=''), StepSpan(start=3, end=5, kind=''))
    """
    bounds = [gap.end for gap in gaps(read.text, rule, answer)]
    begins_answer = None if answer is None else f"{DRESS if rule.before_answer else SPACE}(?:{answer})"
    spans: list[StepSpan] = []
    first_char, first_token, kind = 0, 0, ""
    for bound in [*bounds, len(read.text)]:
        segment = read.text[first_char:bound]
        if tag := markers.find(segment):
            kind = tag[0]
        if not segment[tag[1] if tag else 0 :].strip():
            # Blank or a mere tag: its tokens go to the step that comes next.
            first_char = bound
            continue
        end_token = read.tokens_up_to(bound)
        is_answer = begins_answer is not None and match_start(begins_answer, segment) is not None
        if not is_answer and end_token > first_token:
            spans.append(StepSpan(first_token, end_token, kind))
        first_char, first_token = bound, end_token
    return tuple(spans)


def gaps(text: str, rule: StepRule, answer: str | None = None) -> list[Gap]:
    """Where steps end in a text, in order; see `StepRule`."""
    found = list(rule.gaps(text))
    if rule.before_answer and answer is not None:
        before = rf"(?:(?P<line>\s*\n)|(?<=[{STOPS}])[^\S\n]*)(?=[^\S\n]*{DRESS}(?:{answer}))"
        found += [Gap(m.start(), m.end("line") if m["line"] else m.start()) for m in find_all(before, text)]
    return sorted(found, key=lambda gap: gap.end)


def separator_tokens(read: TokenText, rule: StepRule = LINE, answer: str | None = None) -> np.ndarray:
    """Which tokens hold nothing but what stands between steps (T,), as booleans.

    A token that holds part of a step, too, is not one, and neither is a token without text.

    Args:
        read: The completion, as for `step_spans`.
        rule: Likewise.
        answer: Likewise.

    >>> separator_tokens(TokenText("a\\n\\nb.\\n", (1, 2, 3, 6, 6))).tolist()
    [False, True, True, False, False]
    """
    between = np.zeros(len(read.text), dtype=bool)
    for gap in gaps(read.text, rule, answer):
        between[gap.start : gap.end] = True
    bounds = pairwise((0, *read.ends))
    return np.array([start < end and bool(between[start:end].all()) for start, end in bounds], dtype=bool)


def step_texts(rollout: Rollout, decode: Callable[[Sequence[int]], str]) -> list[str]:
    """What each step of a rollout says; ``decode`` gives the text of tokens.

    A character that a step's last token begins is one of the step after it, which completes it.
    """

    def complete(end: int) -> str:
        return decode(rollout.token_ids[:end]).rstrip(INCOMPLETE)

    return [complete(span.end)[len(complete(span.start)) :] for span in rollout.steps]
