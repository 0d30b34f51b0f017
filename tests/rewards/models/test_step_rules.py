"""Named rules of steps: what ends one, what only looks so, and that what is written later moves nothing."""

# ruff: noqa: RUF001

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import timed_expressions
from rewards.models.named_rules import RULES
from rewards.models.step_rule import StepRule, rule_of_expression, rule_of_function
from rewards.models.steps import Markers, gaps, separator_tokens, step_spans
from rewards.models.token_text import TokenText
from rewards.users_code import UsersCodeError


def of_characters(text: str) -> TokenText:
    return TokenText(text, tuple(range(1, len(text) + 1)))


def steps(text: str, rule: StepRule, answer: str | None = "Answer:") -> list[str]:
    """The steps of a text whose every character is a token."""
    return [text[span.start : span.end].strip() for span in step_spans(of_characters(text), rule, answer)]


NUMBERED = [
    ("1. Look.\n2. Count.\n3. Add.", ["1. Look.", "2. Count.", "3. Add."]),
    ("1. Look.\n\n2. Count.", ["1. Look.", "2. Count."]),
    ("1) a\n2) b", ["1) a", "2) b"]),
    ("(1) a\n(2) b", ["(1) a", "(2) b"]),
    ("（1）看\n（2）数", ["（1）看", "（2）数"]),
    ("1.首先看图\n2.然后数", ["1.首先看图", "2.然后数"]),
    ("一、看图\n二、数数", ["一、看图", "二、数数"]),
    ("1: red 1\n2: blue 2", ["1: red 1", "2: blue 2"]),
    ("① a\n② b", ["① a", "② b"]),
    ("1\ufe0f\u20e3 a\n2\ufe0f\u20e3 b", ["1\ufe0f\u20e3 a", "2\ufe0f\u20e3 b"]),
    ("**1. Look**\nIt is red.\n**2. Count**\nThree.", ["**1. Look**\nIt is red.", "**2. Count**\nThree."]),
    ("**1.** Look\n**2.** Count", ["**1.** Look", "**2.** Count"]),
    (
        "## Step 1: Look\n\nIt is red.\n\n## Step 2: Count\n\nThree.",
        ["## Step 1: Look\n\nIt is red.", "## Step 2: Count\n\nThree."],
    ),
    ("### Observation\nRed.\n### Reasoning\nSo 3.", ["### Observation\nRed.", "### Reasoning\nSo 3."]),
    ("[1] a\n[2] b", ["[1] a", "[2] b"]),
    ("<b>Step 1:</b> a\n<b>Step 2:</b> b", ["<b>Step 1:</b> a", "<b>Step 2:</b> b"]),
    ("\\textbf{Step 1:} a. \\textbf{Step 2:} b", ["\\textbf{Step 1:} a.", "\\textbf{Step 2:} b"]),
    ("<step 1> a\n<step 2> b", ["<step 1> a", "<step 2> b"]),
    ("Step I: a\nStep II: b\nin step i: c", ["Step I: a", "Step II: b\nin step i: c"]),
    ("گام ۱: a\nگام ۲: b", ["گام ۱: a", "گام ۲: b"]),
    ("1. lépés: a\n2. lépés: b", ["1. lépés: a", "2. lépés: b"]),
    ("\u2066\u200d1. a\n\u2066\u200d2. b", ["\u2066\u200d1. a", "\u2066\u200d2. b"]),
    ("Let us see.\n1. a\n2. b", ["Let us see.", "1. a", "2. b"]),
    ("1. a:\n   1. detail\n   - more\n2. b", ["1. a:\n   1. detail\n   - more", "2. b"]),
    ("Step 1: a. Step 2: b. Step 3: c", ["Step 1: a.", "Step 2: b.", "Step 3: c"]),
    ("Step 1: 3 red Step 2: 4 blue", ["Step 1: 3 red", "Step 2: 4 blue"]),
    ("Red, then **Step 2:** blue", ["Red, then", "**Step 2:** blue"]),
    ("Step 1 – Look\nStep 2 – Count", ["Step 1 – Look", "Step 2 – Count"]),
    ("STEP 1. a\nstep 2. b", ["STEP 1. a", "step 2. b"]),
    ("Step one: a\nStep two: b", ["Step one: a", "Step two: b"]),
    ("- Step 1: a\n- Step 2: b", ["- Step 1: a", "- Step 2: b"]),
    ("步骤1：看图。步骤2：数。", ["步骤1：看图。", "步骤2：数。"]),
    ("第一步：看图。\n第二步：数。", ["第一步：看图。", "第二步：数。"]),
    ("【步骤1】看图。【步骤2】数。", ["【步骤1】看图。", "【步骤2】数。"]),
    ("【步骤1】看图【步骤2】数", ["【步骤1】看图", "【步骤2】数"]),
    ("red**Step 2:** blue", ["red", "**Step 2:** blue"]),
    ("Step-1: a\nStep #2: b", ["Step-1: a", "Step #2: b"]),
    ("Шаг 1: круг.\nШаг 2: три.", ["Шаг 1: круг.", "Шаг 2: три."]),
    ("1단계: 보기. 2단계: 세기.", ["1단계: 보기.", "2단계: 세기."]),
    ("चरण 1: देखें।\nचरण २: गिनें।", ["चरण 1: देखें।", "चरण २: गिनें।"]),
    ("الخطوة ١: انظر. الخطوة ٢: عد.", ["الخطوة ١: انظر.", "الخطوة ٢: عد."]),
    ("Étape 1 : voir\nÉtape 2 : compter", ["Étape 1 : voir", "Étape 2 : compter"]),
    ("E\u0301tape 1 : voir\nE\u0301tape 2 : compter", ["E\u0301tape 1 : voir", "E\u0301tape 2 : compter"]),
    ("\u200fالخطوة 1: انظر\n\u200fالخطوة 2: عد", ["\u200fالخطوة 1: انظر", "\u200fالخطوة 2: عد"]),
    ("\u200f١. انظر\n\u200f٢. عد\n\u200fAnswer: ٤", ["\u200f١. انظر", "\u200f٢. عد"]),
    ("\ufeffStep 1: a\n\u200bStep 2: b", ["\ufeffStep 1: a", "\u200bStep 2: b"]),
    ("1. a\n2. b\nAnswer: 4", ["1. a", "2. b"]),
    ("Step 1: a. Step 2: b. Answer: 4", ["Step 1: a.", "Step 2: b."]),
    ("1. a\n**Answer:** 4", ["1. a"]),
    # What only looks like the beginning of a step.
    ("It is 2.5 cm\n2.5 cm it is", ["It is 2.5 cm\n2.5 cm it is"]),
    ("The time is\n12:30 now", ["The time is\n12:30 now"]),
    ("As in Step 1: 3, and see Step 2: 4", ["As in Step 1: 3, and see Step 2: 4"]),
    ("Step 1 and Step 2 are done", ["Step 1 and Step 2 are done"]),
    ("as in[Step 1] and[Step 2", ["as in[Step 1] and[Step 2"]),
    ("The footstep 2: loud", ["The footstep 2: loud"]),
    ("So x =\n23.", ["So x =\n23."]),
    ("First\n\nsecond\n\nthird", ["First\n\nsecond\n\nthird"]),
    ("In 2024. Then\n2024. It", ["In 2024. Then\n2024. It"]),
    ("a #1 and\n#tag b", ["a #1 and\n#tag b"]),
    ("- a\n- b\n* c", ["- a\n- b\n* c"]),
]


@pytest.mark.parametrize(("text", "expected"), NUMBERED)
def test_numbered(text: str, expected: list[str]) -> None:
    assert steps(text, RULES["numbered"]) == expected


SENTENCES = [
    ("هذا صحيح.\u200f نعم.", ["هذا صحيح.\u200f", "نعم."]),
    ("I see it. It is red! Is it? Yes.", ["I see it.", "It is red!", "Is it?", "Yes."]),
    ("One.\n\nTwo.\nThree", ["One.", "Two.", "Three"]),
    ("No stop\nbut a line", ["No stop", "but a line"]),
    ("**Done.** Next (so it is.) Then “No.” End", ["**Done.**", "Next (so it is.)", "Then “No.”", "End"]),
    ("图中有圆。它是红的！对吗？对", ["图中有圆。", "它是红的！", "对吗？", "对"]),
    ("「赤い。」そして青い。", ["「赤い。」", "そして青い。"]),
    ("빨갛다. 세 개다.", ["빨갛다.", "세 개다."]),
    ("هل هو أحمر؟ نعم. انتهى", ["هل هو أحمر؟", "نعم.", "انتهى"]),
    ("یہ سرخ ہے۔ ہاں۔", ["یہ سرخ ہے۔", "ہاں۔"]),
    ("यह लाल है। हाँ॥ ठीक", ["यह लाल है।", "हाँ॥", "ठीक"]),
    ("Круг красный. Их три, т.е. больше двух. Да", ["Круг красный.", "Их три, т.е. больше двух.", "Да"]),
    ("So 2 + 3 = 5. Answer: 5", ["So 2 + 3 = 5."]),
    ("It is 5. 6 more follow.", ["It is 5.", "6 more follow."]),
    ("The option is B. So it is.", ["The option is B.", "So it is."]),
    ("The answer is no. Then stop.", ["The answer is no.", "Then stop."]),
    ("Well... Let me see… Yes", ["Well...", "Let me see…", "Yes"]),
    ("1. Look at it. 2. Count.", ["1. Look at it.", "2. Count."]),
    ("Step 1. Look. Step 2. Count.", ["Step 1. Look.", "Step 2. Count."]),
    ("1. **Look** at it:\n- a cat\n- a dog", ["1. **Look** at it:", "- a cat", "- a dog"]),
    # What ends no sentence.
    ("It is 2.5 cm, i.e. 25 mm, e.g. here", ["It is 2.5 cm, i.e. 25 mm, e.g. here"]),
    ("See Fig. 3 and Eq. (2), No. 5", ["See Fig. 3 and Eq. (2), No. 5"]),
    ("Dr. Who vs. Mr. Bean", ["Dr. Who vs. Mr. Bean"]),
    ("So 3! = 6 and 4! + 1", ["So 3! = 6 and 4! + 1"]),
    ("see example.com and f.x", ["see example.com and f.x"]),
    ("he stopped ... then went on", ["he stopped ... then went on"]),
    ("B. 12 cm", ["B. 12 cm"]),
    ("Ein Fall, z.B. Kreise, d.h. Ringe", ["Ein Fall, z.B. Kreise, d.h. Ringe"]),
    ("Vgl. z. B. Abb. 3. Gut.\u200d Ja.", ["Vgl. z. B. Abb. 3.", "Gut.\u200d", "Ja."]),
]


@pytest.mark.parametrize(("text", "expected"), SENTENCES)
def test_sentence(text: str, expected: list[str]) -> None:
    assert steps(text, RULES["sentence"]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One.\n\nTwo.\n\n\n\nThree.", ["One.", "Two.", "Three."]),
        ("One.\n \t\nTwo.\r\n\r\nThree.", ["One.", "Two.", "Three."]),
        ("One.\n\u3000\nTwo.", ["One.", "Two."]),
        ("We have:\n\n$$x$$\n\nso", ["We have:", "$$x$$", "so"]),
        ("One\nstill one\n\nAnswer: 4", ["One\nstill one"]),
        ("One\nAnswer: 4", ["One"]),
        ("One\n\n> **Answer:** 4", ["One"]),
        ("One\nstill one. Two", ["One\nstill one. Two"]),
        ("The answer: 4 is\nno Answer", ["The answer: 4 is\nno Answer"]),
    ],
)
def test_blank_line(text: str, expected: list[str]) -> None:
    assert steps(text, RULES["blank_line"]) == expected


def test_line_is_what_the_default_has_always_been() -> None:
    text = "1: red\n\n\n2: blue\n  Answer: 3\n**Answer:** 4"
    assert (
        steps(text, RULES["line"]) == steps(text, rule_of_expression(r"\n")) == ["1: red", "2: blue", "**Answer:** 4"]
    )
    assert RULES["line"].until == "\n" and RULES["blank_line"].until == "\n\n"
    assert [rule.between for rule in RULES.values()] == ["\n", "\n\n", "\n", "\n"]


WRITTEN = st.lists(
    st.sampled_from(
        [
            "1. ",
            "2) ",
            "Step 3: ",
            "a",
            "B. ",
            "c.",
            " ",
            "\n",
            "\n\n",
            "。",
            "步骤2：",
            "Answer: 4",
            "## ",
            "**",
            "5.5",
            "é",
            "!",
        ]
    ),
    max_size=16,
)


@settings(max_examples=300)
@given(WRITTEN, st.sampled_from(sorted(RULES)), st.integers(0, 40))
def test_what_is_written_later_moves_no_step_but_the_last(pieces: list[str], rule: str, cut: int) -> None:
    text = "".join(pieces)
    whole, begun = (step_spans(of_characters(t), RULES[rule], "Answer:") for t in (text, text[:cut]))
    assert whole[: max(len(begun) - 1, 0)] == begun[:-1]


@settings(max_examples=300)
@given(WRITTEN, st.sampled_from(sorted(RULES)), st.data())
def test_every_written_token_is_in_one_step_or_the_answer(pieces: list[str], rule: str, data: st.DataObject) -> None:
    text = "".join(pieces)
    ends = sorted(data.draw(st.sets(st.integers(1, max(len(text), 1)), max_size=20)) | {len(text)}) if text else []
    read = TokenText(text, tuple(min(end, len(text)) for end in ends))
    spans = step_spans(read, RULES[rule])
    assert all(span.start < span.end for span in spans)
    assert all(before.end == after.start for before, after in pairwise(spans)), (
        "without an answer there is nothing between"
    )
    covered = {token for span in spans for token in range(span.start, span.end)}
    bounds = (0, *read.ends)
    left = "".join(text[bounds[token] : bounds[token + 1]] for token in range(len(ends)) if token not in covered)
    assert not left.strip()
    marks = separator_tokens(read, RULES[rule])
    assert not "".join(text[bounds[i] : bounds[i + 1]] for i in range(len(ends)) if marks[i]).strip()


def test_steps_of_a_users_function() -> None:
    rule = rule_of_function("mine:cut", lambda text: [match.end() for match in re.finditer(r"\s*;\s*", text)])
    assert steps("a; b;c\nAnswer: 3", rule) == ["a;", "b;", "c"]
    assert rule.until is None and [(gap.start, gap.end) for gap in gaps("a; b", rule)] == [(2, 3)]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda text: [10**5000], "mine:cut failed: ValueError: Exceeds the limit"),
        (lambda text: [5, 3], r"mine:cut gave \[5, 3\] for a text of 6 characters; allowed are places in it"),
        (lambda text: [3, 3], "each once, in order"),
        (lambda text: [99], r"gave \[99\]"),
        (lambda text: [-1], r"gave \[-1\]"),
        (lambda text: None, "mine:cut failed: TypeError"),
        (lambda text: ["here"], "mine:cut failed: ValueError"),
        (lambda text: text.nothing, "mine:cut failed: AttributeError"),
    ],
)
def test_a_users_function_that_fails_is_named(function: object, reason: str) -> None:
    with pytest.raises(UsersCodeError, match=reason):
        steps("abc\ndf", rule_of_function("mine:cut", function))  # type: ignore[arg-type]


FOR_EVER = "(?:x|xx)+[yz]"


@pytest.mark.parametrize(
    ("rule", "answer", "markers"),
    [
        (rule_of_expression(FOR_EVER), None, Markers()),
        (RULES["line"], FOR_EVER, Markers()),
        (RULES["line"], None, Markers(reasoning=FOR_EVER)),
    ],
)
def test_an_expression_that_tries_too_many_ways_is_named(
    rule: StepRule, answer: str | None, markers: Markers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timed_expressions, "SECONDS", 0.1)
    told = r"^the regular expression '.*x\|xx.*' takes more than 0.1 s on a text of 60 characters; allowed is"
    with pytest.raises(UsersCodeError, match=told):
        step_spans(of_characters("x" * 60), rule, answer, markers)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        pytest.param((1, 4, 5, 6), [(0, 2), (2, 4)], id="a full stop with its blank line"),
        pytest.param((1, 2, 4, 5, 6), [(0, 3), (3, 5)], id="apart"),
        pytest.param((1, 5, 6), [(0, 2), (2, 3)], id="with the next word, too: it is the earlier step's last"),
        pytest.param((6,), [(0, 1)], id="all of it in one token: one step"),
    ],
)
def test_what_a_token_of_two_steps_belongs_to(ends: tuple[int, ...], expected: list[tuple[int, int]]) -> None:
    spans = step_spans(TokenText("a.\n\nbc", ends), RULES["blank_line"])
    assert [(span.start, span.end) for span in spans] == expected


def test_kinds_go_on_through_named_steps() -> None:
    text = "[See] A dot. Two dots. [Think] So 3."
    spans = step_spans(of_characters(text), RULES["sentence"], markers=Markers(r"\[See\]", r"\[Think\]"))
    assert [span.kind for span in spans] == ["perception", "perception", "reasoning"]
