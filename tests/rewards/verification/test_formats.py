"""Every format that an answer may be in, for every verifier: one order of extraction, and what stands around it."""

# ruff: noqa: RUF001

from __future__ import annotations

import pytest

from rewards.verification.decoration import same_text, undecorated
from rewards.verification.extraction import FinalAnswer, boxed_text, final_answer, reference_answer
from rewards.verification.verifiers import VERIFIERS

ANSWERS = {  # verifier: (an answer, its reference, another reference)
    "exact": ("Paris", "Paris", "Rome"),
    "boxed": ("Paris", "Paris", "Rome"),
    "numeric": ("12", "12.0", "13"),
    "multiple_choice": ("(B)", "B", "C"),
    "latex": (r"\frac{1}{2}", "0.5", "0.25"),
}
FORMATS = [
    *("Answer: {}", "Answer:{}", "**Answer:** {}", "**Answer: {}**", "*Answer*: {}", "`Answer: {}`", "ANSWER: {}"),
    *("The answer is {}.", "the answer is: {}", "So the final answer is {}.", "The correct answer is therefore {}."),
    *("The answer to the question is {}.", "Final Answer: {}", "**Final Answer:** {}", "My answer should be {}."),
    *(
        "Final Answer: The final answer is {}. I hope it is correct.",
        "The correct option is {}.",
        "Answer: {}\n(I think)",
    ),
    *(
        "Answer：{}",
        "Ответ: {}",
        "**Ответ:** {}",
        "答案：{}",
        "答案是{}。",
        "最终答案为：{}",
        "정답: {}",
        "Respuesta: {}",
    ),
    *("Réponse : {}", "Antwort: {}", "الإجابة: {}", "उत्तर: {}", "答え: {}", "所以答案是 {}"),
    *(
        r"\boxed{{{}}}",
        r"so \boxed{{{}}}.",
        r"$\boxed{{{}}}$",
        r"\fbox{{{}}}",
        r"\boxed {{{}}}",
        r"\boxed{{\boxed{{{}}}}}",
    ),
    *(r"\[\boxed{{{}}}\]", r"\boxed{{{}.}}", r"\boxed{{**{}**}}", r"\boxed{{`{}`}}", r"\boxed{{ {}, }}"),
    *(
        "<answer>{}</answer>",
        "<answer>\n{}\n</answer>",
        "<think>Answer: 7</think><answer>{}</answer>",
        "<ANSWER> {} </ANSWER>",
    ),
    *(
        "<think>\\boxed{{7}}</think>\nAnswer: {}",
        "it is 7</think>\n\n**Answer:** {}",
        "<answer>The answer is {}.</answer>",
    ),
    *(r"<answer>\boxed{{{}}}</answer>", r"<answer>$\boxed{{{}}}$.</answer>", "<|begin_of_box|>{}<|end_of_box|>"),
    *("Step 1: so\n#### {}", "#### {}\n", "a\n\n####  {}  \n\n"),
    *("Answer:\n{}", "Answer:\n\n\n{}", "Answer:\n\\[\n{}\n\\]", "Answer:\n$$\n{}\n$$\nas said", "Answer: \\[ {} \\]"),
    *(
        "Answer:\n```\n{}\n```",
        "Answer:\n```text\n{}\n```\nDone.",
        "The answer is:\n\n\\[\n{}\n\\]\n",
        "Answer: $$\n{}\n$$",
    ),
    *(
        "### Answer\n{}",
        "## Final Answer\n\n{}",
        "**Final Answer**\n\n{}",
        "**Answer**\n\\[\n{}\n\\]",
        "### Answer:\n**{}**",
    ),
    *(
        "Answer: this one:\n\\[\n{}\n\\]",
        "The answer is given by\n\\[\n{}\n\\]",
        "Answer:\n\\begin{{equation}}\n{}\n\\end{{equation}}",
    ),
]
ENDS = [
    *(
        "{}.",
        "{},",
        "{};",
        "{}:",
        "{} .",
        "**{}**",
        "**{}**.",
        "**{}.**",
        "*{}*",
        "__{}__",
        "_{}_",
        "`{}`",
        "`{}`.",
        "``{}``",
    ),
    *(
        "${}$",
        "${}$.",
        "$${}$$",
        r"\({}\)",
        r"\({}\).",
        r"\[{}\]",
        "**${}$**",
        r"**\({}\).**",
        '"{}"',
        "'{}'",
        "“{}”",
        "«{}»",
    ),
    *(
        r"\text{{{}}}",
        r"\textbf{{{}}}",
        r"\mathbf{{{}}}",
        r"\boldsymbol{{{}}}",
        r"\displaystyle {}",
        r"{} \\",
        r"\,{}\,",
        "{}。",
    ),
    *("{}\u200b", "~{}~", "= {}", "{} ✅", "${}$!", "**{}**!"),
]
JSON = [
    *(
        '{{"answer": "{}"}}',
        '{{"reason": "7?", "answer": "{}"}}',
        '```json\n{{"answer": "{}"}}\n```',
        '{{"final_answer": "{}"}}',
    ),
    *(
        "{{'answer': '{}'}}",
        '{{"Answer": "{}", "sure": true}}',
        '{{"out": {{"answer": "{}"}}}}',
        '{{"answer": ["{}"]}}',
    ),
    *(
        'so it is {{"answer" : "{}"}}.',
        r'{{"thought": "\\boxed{{7}}", "answer": "{}"}}',
        '<answer>{{"answer": "{}"}}</answer>',
    ),
    r'{{"answer": "\\boxed{{{}}}"}}',
]


@pytest.mark.parametrize("form", [*FORMATS, *(f"Answer: {end}" for end in ENDS)])
@pytest.mark.parametrize("name", ANSWERS)
def test_every_verifier_finds_the_answer(name: str, form: str) -> None:
    answer, reference, other = ANSWERS[name]
    assert VERIFIERS[name](form.format(answer), reference) is True
    assert VERIFIERS[name](form.format(answer), other) is False


@pytest.mark.parametrize("form", JSON)
@pytest.mark.parametrize("name", ANSWERS)
def test_every_verifier_reads_json(name: str, form: str) -> None:
    answer, reference, other = ANSWERS[name]
    for written in {answer, answer.replace("\\", "\\\\")}:  # as JSON has it, and as models write it
        assert VERIFIERS[name](form.format(written), reference) is True
        assert VERIFIERS[name](form.format(written), other) is False


@pytest.mark.parametrize(
    "completion",
    [
        *(
            "",
            "Answer:",
            "Answer:\n\n",
            "**Answer:**",
            "<answer></answer>",
            "<answer>{}",
            r"\boxed{{}}",
            r"\boxed{{{}",
            r"\fbox{{{}",
        ),
        *(
            "<think>Answer: {}",
            r"<think>\boxed{{{}}}",
            "<think>Answer: {}</think>",
            "Answer: {}</think>",
            "<answer>7</answer><answer>{}",
        ),
        *(
            '{{"answer": null}} {}',
            '{{"answer": ""}} {}',
            '{{"answer": "{}',
            r"\boxed{{{}}} or \boxed{{",
            "{}\nAnswer:",
        ),
    ],
)
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_is_none_or_cannot_be_read_is_wrong(name: str, completion: str) -> None:
    answer, reference, _ = ANSWERS[name]
    assert VERIFIERS[name](completion.format(answer), reference) is False


@pytest.mark.parametrize(
    ("completion", "stated"),
    [
        ("<answer>1</answer> \\boxed{2} Answer: 3", "1"),
        ('{"answer": 1} Answer: 3', "1"),
        ('{"answer": 1} \\boxed{2} Answer: 3', "2"),
        (r"\boxed{2} so the answer is 3", "2"),
        ("The answer is 1. No: the answer is 2", "2"),
        ("Answer: 1\n#### 2", "2"),
        ("#### 1. Look\nAnswer: 2", "2"),
        ("#### Look\nit is 2\nAnswer: 3", "3"),
        ("Answer: 1</think>Answer: 2", "2"),
        (r"\boxed{1}, or \boxed{2}", "1, 2"),
        (r"\boxed{1}, so it is \boxed{2}", "2"),
        (r"$\boxed{2}, \boxed{2}$", "2"),
        ("Answer: 3, so \\boxed{\\frac{1}{2}} of it", r"\frac{1}{2}"),
        ("answers: 4", None),
        (r"\boxed4", None),
        ("4", None),
        ("#### Look\nit is 2", None),
        ("The answers differ", None),
        ("sandbox: 4", None),
        (r"\boxedx{4}", None),
    ],
)
def test_the_order(completion: str, stated: str | None) -> None:
    found = final_answer(completion)
    assert (found and found.text) == stated


def test_what_is_otherwise_the_answer_is_asked_only_where_nothing_is_stated() -> None:
    assert final_answer("it is 4", lambda text: text[-1]) == FinalAnswer("4", prose=True)
    assert final_answer("<think>5</think>it is 4", lambda text: text) == FinalAnswer("it is 4", prose=True)
    assert final_answer("Answer: 3, or 4", lambda text: text[-1]) == FinalAnswer("3, or 4", prose=True)
    assert final_answer(r"\boxed{", lambda text: "4") is None


def test_a_box_is_in_a_place_of_its_own_and_a_marker_in_prose() -> None:
    assert final_answer(r"\boxed{5!}") == FinalAnswer("5!") and final_answer("Answer: 5!") == FinalAnswer(
        "5!", prose=True
    )


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        *((r"\boxed{12}", "12"), (r"$\boxed{\frac{1}{2}}$", r"\frac{1}{2}"), ("3 * 4 = 12\n#### 12", "12")),
        *(
            ("<answer> B </answer>", "B"),
            ("12.", "12"),
            (" 12 ", "12"),
            ("**B**", "B"),
            (".5", ".5"),
            ("5!", "5!"),
            ("e.g", "e.g"),
        ),
    ],
)
def test_references_may_be_written_in_the_same_ways(reference: str, text: str) -> None:
    assert reference_answer(reference) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            ".5",
            "5!",
            "0.5",
            "-3",
            "(1, 2)",
            "[0, 1)",
            "{1, 2}",
            r"\{1, 2\}",
            "1, 2, ...",
            "1, 2, …",
            r"1, 2, \ldots",
            "x_1",
            "x'",
        ),
        *(
            "$5",
            r"5\%",
            r"\frac{1}{2}",
            "{a}{b}",
            "*a* and *b*",
            "$a$ and $b$",
            '"a" or "b"',
            r"\text{a} \text{b}",
            "n!",
            "2.5",
        ),
    ],
)
def test_what_belongs_to_an_answer_stays(text: str) -> None:
    assert undecorated(text) == text


@pytest.mark.parametrize(
    ("text", "kept"), [("**", "**"), ("...", "..."), ("$$", "$$"), ("{}", "{}"), ("*", "*"), ("", "")]
)
def test_a_text_of_nothing_else_stays(text: str, kept: str) -> None:
    assert undecorated(text) == kept


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        *(
            (r"1, 2, \ldots, n", "1,2,...,n", True),
            ("Isosceles", "isosceles", True),
            (r"\dfrac{a}{b}", r"\frac{a}{b}", True),
        ),
        *(
            (r"\left( a \right)", "(a)", True),
            (r"\text{No Solution}", "no solution", True),
            ("n", "N", False),
            ("", "", False),
        ),
        *(
            (r"\Delta", r"\delta", False),
            ("listen", "silent", False),
            ("-1", "1", False),
            ("1 2", "12", False),
            ("1 234", "1234", True),
        ),
    ],
)
def test_what_is_the_same_text(left: str, right: str, same: bool) -> None:
    assert same_text(left, right) is same


def test_a_box_keeps_its_braces() -> None:
    assert boxed_text(r"\boxed{\frac{1}{2}} \boxed{x^{2}}") == "x^{2}" and boxed_text(r"\boxed{1} \boxed{2") is None
