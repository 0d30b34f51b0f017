"""Step spans: every written step once, whatever the tokens look like."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.models.step_rule import rule_of_expression
from rewards.models.steps import NO_MARKERS, Markers, step_spans
from rewards.models.token_text import TokenText
from rewards.records import StepSpan

LINE, BLANK_LINE, ANSWER = r"\n", r"\n\n", "Answer:"


def spans_of(
    pieces: list[str], separator: str = LINE, answer: str | None = ANSWER, markers: Markers = NO_MARKERS
) -> tuple[StepSpan, ...]:
    """Of tokens that each have a text of their own."""
    read = TokenText("".join(pieces), tuple(itertools.accumulate(map(len, pieces))))
    return step_spans(read, rule_of_expression(separator), answer, markers)


def pairs(pieces: list[str], separator: str = LINE, answer: str | None = ANSWER) -> list[tuple[int, int]]:
    return [(span.start, span.end) for span in spans_of(pieces, separator, answer)]


@pytest.mark.parametrize(
    ("pieces", "separator", "expected"),
    [
        pytest.param([], LINE, [], id="empty completion"),
        pytest.param([""], LINE, [], id="only the end token"),
        pytest.param(["\n", " ", "\n"], LINE, [], id="blank completion"),
        pytest.param(["\n", "\n", "a", "\n"], LINE, [(0, 4)], id="leading blank lines go to the first step"),
        pytest.param(["a", "\n", "\n", "\n", "b", "\n"], LINE, [(0, 4), (4, 6)], id="a run of separators is one"),
        pytest.param(["a", "\n", "  ", "\n", "b"], LINE, [(0, 2), (2, 5)], id="a line of blanks goes to the next step"),
        pytest.param(["a", "\n", "b"], LINE, [(0, 2), (2, 3)], id="no trailing newline"),
        pytest.param(["a", "\n", "b", ""], LINE, [(0, 2), (2, 3)], id="the end token belongs to no step"),
        pytest.param(["a", "\n", "b", "\n", ""], LINE, [(0, 2), (2, 4)], id="the end token after a separator"),
        pytest.param(["a", "\n", "\n", "b"], BLANK_LINE, [(0, 3), (3, 4)], id="a separator of two tokens"),
        pytest.param(["a\n", "b\n", "\n", "c"], BLANK_LINE, [(0, 3), (3, 4)], id="one line break separates nothing"),
        pytest.param(["a.\n", "\nb", " c", "\n\n"], BLANK_LINE, [(0, 2), (2, 4)], id="its end shares a token"),
        pytest.param(["a\nb", "\n"], LINE, [(0, 1), (1, 2)], id="one token in two steps"),
        pytest.param(["a\nb\n"], LINE, [(0, 1)], id="one token that is two steps"),
        pytest.param(["a\nb\n", "c", "\n"], LINE, [(0, 1), (1, 3)], id="two steps in one token, then a third"),
        pytest.param(["a", "\n", "Answer:", " 4", "\n"], LINE, [(0, 2)], id="the answer is no step"),
        pytest.param(["a", "\n", " ", "Answer:", "4"], LINE, [(0, 2)], id="an indented answer"),
        pytest.param(["a", "\nAnswer:", " 4"], LINE, [(0, 2)], id="the answer begins in the last step's token"),
        pytest.param(["Answer:", " 4", "\n", "b"], LINE, [(3, 4)], id="a step after the answer"),
        pytest.param(["my ", "Answer:", " 4"], LINE, [(0, 3)], id="the marker inside a step"),
        pytest.param(["", "a", "", "\n", "", "b"], LINE, [(0, 4), (4, 6)], id="tokens without text"),
        pytest.param(["x", "Step 2", "y"], r"(?=Step \d)", [(0, 1), (1, 3)], id="a separator of no width"),
    ],
)
def test_spans(pieces: list[str], separator: str, expected: list[tuple[int, int]]) -> None:
    assert pairs(pieces, separator) == expected


def test_without_a_marker_the_last_segment_is_a_step() -> None:
    assert pairs(["a", "\n", "Answer:", " 4"], answer=None) == [(0, 2), (2, 4)]


VL_PRM = Markers(r"\[Visual Elements\]", r"\[Reasoning\]")
SEE, THINK = "[Visual Elements]", "[Reasoning]"


def kinds(pieces: list[str], markers: Markers = VL_PRM) -> list[tuple[int, int, str]]:
    return [(span.start, span.end, span.kind) for span in spans_of(pieces, LINE, ANSWER, markers)]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param(["a", "\n", "b"], [(0, 2, ""), (2, 3, "")], id="no marker, no kind"),
        pytest.param(
            [SEE, " a", "\n", THINK, " b"], [(0, 3, "perception"), (3, 5, "reasoning")], id="a tag on each step"
        ),
        pytest.param(
            ["a", "\n", SEE, " b", "\n", "c", "\n", " ", THINK, " d", "\n", "e"],
            [(0, 2, ""), (2, 5, "perception"), (5, 7, "perception"), (7, 11, "reasoning"), (11, 12, "reasoning")],
            id="untagged steps keep the kind of the last tag",
        ),
        pytest.param(
            [SEE, "\n", "a", "\n", "b", "\n", THINK, "\n", "\n", "c"],
            [(0, 4, "perception"), (4, 6, "perception"), (6, 10, "reasoning")],
            id="a tag alone on its line belongs to the next step",
        ),
        pytest.param([SEE, "\n", THINK, "\n", "a"], [(0, 5, "reasoning")], id="of two tags alone the last counts"),
        pytest.param(["a", "\n", SEE, "\n"], [(0, 2, "")], id="a tag alone at the end is no step"),
        pytest.param([THINK, "\n", "Answer:", " 4"], [], id="a tag alone before the answer"),
        pytest.param(
            [SEE, " a", "\n", "Answer:", " 4", "\n", "b"], [(0, 3, "perception"), (6, 7, "perception")], id="on"
        ),
        pytest.param(["a ", SEE, " b"], [(0, 3, "")], id="a tag inside a step is text"),
        pytest.param([SEE, THINK, " a"], [(0, 3, "perception")], id="the first of two tags on a line"),
        pytest.param(["[Visual", " Elements", "]\n", "a"], [(0, 4, "perception")], id="a tag of several tokens"),
    ],
)
def test_kinds(pieces: list[str], expected: list[tuple[int, int, str]]) -> None:
    assert kinds(pieces) == expected


def test_one_marker_or_none_may_be_given() -> None:
    text = [SEE, " a", "\n", THINK, " b"]
    assert [kind for *_, kind in kinds(text, Markers(perception=VL_PRM.perception))] == ["perception"] * 2
    assert [kind for *_, kind in kinds(text, Markers(reasoning=VL_PRM.reasoning))] == ["", "reasoning"]
    assert [kind for *_, kind in kinds(text, Markers())] == ["", ""]


def test_markers_are_alternatives_as_a_whole() -> None:
    assert kinds(["x", " a"], Markers("x|y", "x|z")) == [(0, 2, "perception")]
    assert kinds(["ay"], Markers("x|y")) == [(0, 1, "")]


TAGGED = st.lists(st.sampled_from([SEE, THINK, "a", " ", "\n", "\n\n", "[Reasoning] b\n", "Answer: 4"]), max_size=14)


@settings(max_examples=300)
@given(TAGGED)
def test_kinds_are_those_of_a_slow_reading_line_by_line(pieces: list[str]) -> None:
    """One token a character; every line that is neither blank, nor a mere tag, nor an answer is a step."""
    text, kind, expected = "".join(pieces), "", list[str]()
    for line in text.split("\n"):
        line = line.strip()
        for name, tag in (("perception", SEE), ("reasoning", THINK)):
            if line.startswith(tag):
                kind, rest = name, line.removeprefix(tag).strip()
                break
        else:
            rest = line
        if rest and not line.startswith("Answer:"):
            expected.append(kind)
    assert [kind for *_, kind in kinds(list(text))] == expected


@settings(max_examples=100)
@given(TAGGED)
def test_without_tags_alone_on_a_line_markers_move_no_span(pieces: list[str]) -> None:
    text = list(re.sub(r"(?m)^\s*\[[A-Za-z ]+\]\s*$", "x", "".join(pieces)))
    bare = [StepSpan(span.start, span.end) for span in spans_of(text, LINE, ANSWER, VL_PRM)]
    assert bare == list(spans_of(text, LINE, ANSWER))


PIECES = st.lists(
    st.sampled_from(
        ["a", "bc", "\n", "\n\n", " ", "", "d\n", "\ne", "f\ng", "h\ni\n", "Answer:", "\nAnswer: 4", "wer"]
    ),
    max_size=14,
)


@settings(max_examples=300)
@given(PIECES, st.sampled_from([LINE, BLANK_LINE]))
def test_spans_are_ordered_and_leave_out_nothing_but_answers(pieces: list[str], separator: str) -> None:
    spans = spans_of(pieces, separator, ANSWER)
    assert all(0 <= span.start < span.end <= len(pieces) for span in spans)
    assert all(before.end <= after.start for before, after in itertools.pairwise(spans))

    # Slow and plain: give every character its segment by walking the text, and its token by counting.
    text = "".join(pieces)
    token_of = [token for token, piece in enumerate(pieces) for _ in piece]
    covered = {token for span in spans for token in range(span.start, span.end)}
    parts = re.split(f"((?:{separator})+)", text)
    segments = [body + mark for body, mark in zip(parts[::2], [*parts[1::2], ""], strict=True)]
    position, steps, answers = 0, 0, set[int]()
    for segment in segments:
        places = range(position, position + len(segment))
        tokens, written = {token_of[i] for i in places}, {token_of[i] for i in places if not text[i].isspace()}
        position += len(segment)
        if segment.strip().startswith(ANSWER):
            answers |= tokens
        elif segment.strip():
            steps += 1
            assert written <= covered | answers
    assert len(spans) <= steps
    if all(len(piece) <= 1 or "\n" not in piece.rstrip("\n") for piece in pieces):  # no token in two steps
        assert len(spans) == steps


@settings(max_examples=100)
@given(st.text("ab \n", max_size=20))
def test_one_token_a_character_gives_the_lines_of_the_text(text: str) -> None:
    written = ["".join(text[span.start : span.end]).strip() for span in spans_of(list(text), LINE, None)]
    assert written == [line.strip() for line in text.split("\n") if line.strip()]


@settings(max_examples=100)
@given(st.text("ab \n", max_size=20), st.text("ab \n", max_size=8))
def test_what_follows_changes_no_finished_step(text: str, more: str) -> None:
    """A step's score may depend on nothing after it, and neither may its span."""
    finished = [span for span in spans_of(list(text), LINE, None) if text[span.end - 1 : span.end] == "\n"]
    if more.startswith("\n"):
        more = "a" + more
    assert list(spans_of(list(text + more), LINE, None))[: len(finished)] == finished
