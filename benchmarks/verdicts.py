"""What graders say of 300 made-up answers in all the formats that people use: Sieve, math-verify, verl, EasyR1.

    python benchmarks/verdicts.py              # a table by format, half a minute
    python benchmarks/verdicts.py --wrong      # and every answer that Sieve judges otherwise than it was made

Right and wrong answers are made together with their verdicts: each format holds each answer. Sieve is asked through the
verifier that such answers need. The others are rules as their projects publish them, in so few lines that they can be
read here (their text normalisation of units and words is left out where no answer here has any):

    math-verify        parse and verify, as its README has it
    verl gsm8k         the first number behind ``#### ``, without commas, as text
    verl flexible      the same project's: the last number of the text, as text
    verl math_dapo     the rest of the line behind the last ``Answer:`` of the last 300 characters, as normalised text
    EasyR1, verl geo3k the last ``\\boxed{…}``: as normalised text; fractions as they stand, integers as integers, else
                       where sympy finds the difference 0 (MathRuler)
"""

from __future__ import annotations

import argparse
import logging
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import sympy
from math_verify import parse, verify
from sympy.parsing import sympy_parser

from rewards.verification.verifiers import VERIFIERS

FORMATS = {
    "Answer: …": "Let us see: 3 of them.\nAnswer: {}",
    "**Answer:** ….": "Let us see: 3 of them.\n**Answer:** {}.",
    "The answer is ….": "There are 3 of them. The answer is {}.",
    r"\boxed{…}": r"There are 3 of them, so it is \boxed{{{}}} in all.",
    r"\boxed{….}": r"There are 3 of them, so it is $\boxed{{{}.}}$",
    "<think>, <answer>": "<think>It may be \\boxed{{3}}.</think><answer>{}</answer>",
    r"<think>, \boxed{…}": "<think>It may be \\boxed{{3}}.</think> It is \\boxed{{{}}}.",
    "#### …": "There are 3 of them.\n#### {}",
    "JSON": '{{"reasoning": "There are 3 of them.", "answer": "{}"}}',
    "display maths": "There are 3 of them. The answer is:\n\\[\n{}\n\\]",
    "## Final Answer": "There are 3 of them.\n\n## Final Answer\n\n**{}**",
    "Ответ: …": "Их 3.\nОтвет: {}",  # noqa: RUF001
}


@dataclass(frozen=True)
class Answer:
    """An answer, the reference that it is judged by, and whether it is right."""

    verifier: str
    answer: str
    reference: str
    right: bool


ANSWERS = [
    *(
        Answer("numeric", answer, reference, True)
        for answer, reference in (("42", "42"), ("1,250", "1250"), ("12 cm", "12"))
    ),
    *(Answer("numeric", answer, reference, False) for answer, reference in (("43", "42"), ("12 or 13", "12"))),
    *(Answer("latex", answer, reference, True) for answer, reference in ((r"\frac{1}{2}", "0.5"), ("11 5/6", "71/6"))),
    *(
        Answer("latex", answer, r"1 - \frac{1}{\mathrm{e}}", right)
        for answer, right in (("1 - 1/e", True), ("1", False))
    ),
    *(Answer("latex", answer, "2(x+1)", right) for answer, right in (("2x + 2", True), ("2x + 1", False))),
    Answer("latex", "x = 5", "5", True),
    Answer("latex", "2", r"1, 2, \ldots, n", False),
    Answer("latex", "0.0000002", "0.0000001", False),
    Answer("latex", "2, 1", r"1, 2", True),
    *(Answer("multiple_choice", answer, "B", True) for answer in ("B", "(B)", "(B)12 cm", "B - 12 cm", "B: 12 cm")),
    *(Answer("multiple_choice", answer, "B", False) for answer in ("C", "A or B", "D, not B")),
    *(Answer("exact", answer, "Paris", right) for answer, right in (("Paris", True), ("Rome", False))),
]


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--wrong", action="store_true", help="list what Sieve judges otherwise than it was made")
    options = arguments.parse_args()
    logging.disable()
    agreed: dict[tuple[str, str], list[bool]] = defaultdict(list)
    accepted: dict[tuple[str, bool], list[bool]] = defaultdict(list)
    for (name, form), item in product(FORMATS.items(), ANSWERS):
        completion = form.format(item.answer)
        for grader, judge in GRADERS.items():
            verdict = judge(completion, item)
            agreed[name, grader].append(verdict == item.right)
            accepted[grader, item.right].append(verdict)
            if options.wrong and grader == "Sieve" and verdict != item.right:
                print(f"{item.verifier}: {completion!r} by {item.reference!r} is {verdict}")
    print(f"{len(FORMATS) * len(ANSWERS)} answers\n\n| format | {' | '.join(GRADERS)} |\n|---|{'---|' * len(GRADERS)}")
    for name in FORMATS:
        shares = [f"{sum(agreed[name, grader])} of {len(ANSWERS)}" for grader in GRADERS]
        print(f"| `{name}` | {' | '.join(shares)} |")
    for right, what in ((True, "right ones that count as right"), (False, "wrong ones that count as right")):
        counts = [accepted[grader, right] for grader in GRADERS]
        print(f"| all: {what} | {' | '.join(f'{sum(found)} of {len(found)}' for found in counts)} |")


def sieve(completion: str, item: Answer) -> bool:
    return VERIFIERS[item.verifier](completion, item.reference)


def math_verify(completion: str, item: Answer) -> bool:
    return bool(verify(parse(f"${item.reference}$"), parse(completion)))


def verl_gsm8k(completion: str, item: Answer) -> bool:
    found = re.search(r"#### (-?[0-9.,]+)", completion)
    return found is not None and found[1].replace(",", "") == item.reference


def verl_flexible(completion: str, item: Answer) -> bool:
    found = [number for number in re.findall(r"-?[0-9.,]+", completion) if number not in (".", ",")]
    return bool(found) and found[-1] == item.reference


def verl_math_dapo(completion: str, item: Answer) -> bool:
    found = re.findall(r"(?i)answer\s*:\s*([^\n]+)", completion[-300:])
    return bool(found) and _dapo_text(found[-1]) == _dapo_text(item.reference)


def _dapo_text(text: str) -> str:
    text = re.sub(r"\\ldots|\\dots|\^\\circ|\bcm\b|[\s$\"]|\\ ", "", text.rpartition("=")[2])
    text = re.sub(r"\\(?:text|textbf|boxed)\{(.*?)\}", r"\1", text)
    return text.replace(",", "") if text.replace(",", "").isdigit() else text


def easy_r1(completion: str, item: Answer) -> bool:
    found = _last_box(completion)
    if found is None:
        return False
    answer, reference = _ruler_text(found), _ruler_text(item.reference)
    if answer == reference or re.sub(r"^[a-z]\s*=\s*", "", found) == item.reference:
        return True
    fractions = [re.fullmatch(r"-?\d+/\d+", text) for text in (answer, reference)]
    if not answer or all(fractions) or _is_integer(answer) != _is_integer(reference):
        return False
    return len(set(re.findall("[a-z]", (answer + reference).replace("frac", "")))) <= 2 and _sympy_equal(
        answer, reference
    )


def _last_box(text: str) -> str | None:
    depth, start = 1, text.rfind(r"\boxed{") + len(r"\boxed{")
    for place in range(start, len(text)) if r"\boxed{" in text else ():
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return text[start:place].strip()
    return None


def _ruler_text(text: str) -> str:
    text = re.sub(r"\\[%$]|[%$]|\bcm\b", "", text)
    text = re.sub(r"\\(?:text|mathrm)\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r" \1/\2", text)
    text = re.sub(r"(\d) +(\d)", r"\1+\2", re.sub(r" (?:or|and) ", ",", text))
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", re.sub(r"[\s{}]", "", text).lower())
    return str(int(float(text))) if _is_integer(text) else text


def _is_integer(text: str) -> bool:
    try:
        return float(text).is_integer()
    except (ValueError, OverflowError):
        return False


def _sympy_equal(left: str, right: str) -> bool:
    rules = (*sympy_parser.standard_transformations, sympy_parser.implicit_multiplication_application)
    try:
        difference = sympy_parser.parse_expr(f"({right})-({left})".replace("^", "**"), transformations=rules)
        return bool(sympy.simplify(difference) == 0)
    except Exception:  # what is no expression raises in many ways
        return False


GRADERS: dict[str, Callable[[str, Answer], bool]] = {
    "Sieve": sieve,
    "math-verify": math_verify,
    "verl gsm8k": verl_gsm8k,
    "verl flexible": verl_flexible,
    "verl math_dapo": verl_math_dapo,
    "EasyR1, verl geo3k": easy_r1,
}

if __name__ == "__main__":
    main()
