"""How the real quickstart's questions are solved, in steps of English; and which written steps are right.

    Step 1: The first digit is 3.             Step 1: The picture shows a red circle.
    Step 2: The second digit is 5.            Step 2: So there is no teal in it.
    Step 3: 3 + 5 = 8.                        Step 3: The question is whether it is absent.
    Answer: 8                                 Answer: yes

An open question takes two steps: what the picture shows, and whether its colour is asked for or its shape.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from numpy.random import Generator

from rl.real_policy.questions import COLOURS, DIGITS, SHAPES, Question, named
from rl.tasks.task import StepTruth


def solve(question: Question, slips: float, rng: Generator) -> str:
    """A solution. Each step goes wrong with probability ``slips``, and the next go on from the slip."""
    if question.source == "sum":
        left, right = (_misread(seen[0], DIGITS, slips, rng) for seen in question.seen)
        total = int(left) + int(right)
        if rng.random() < slips:
            total = max(0, total + int(rng.choice([-2, -1, 1, 2])))
        return _written([_digit("first", left), _digit("second", right), f"{left} + {right} = {total}."], str(total))
    colour, shape = question.seen[0]
    colour, shape = _misread(colour, COLOURS, slips / 2, rng), _misread(shape, SHAPES, slips / 2, rng)
    if question.source == "open":
        kind = _misread(_asked(question), ("colour", "shape"), slips, rng)
        return _written([_picture(colour, shape), _open(kind)], colour if kind == "colour" else shape)
    (asked,) = named(question.text)
    there = (asked in (colour, shape)) != (rng.random() < slips)
    absent = (question.source == "negated") != (rng.random() < slips)
    sentences = [_picture(colour, shape), _finding(asked, there), _closed(absent)]
    return _written(sentences, "yes" if there != absent else "no")


def check_steps(question: Question, steps: Sequence[str]) -> list[StepTruth]:
    """Which steps are right: on their own, given the pictures and the steps before them, and so far. A step that reads
    otherwise, and every one beyond the last of a solution, is wrong."""
    truths: list[StepTruth] = []
    said = [step.partition(": ")[2].strip() for step in steps]
    for index, step in enumerate(steps):
        name, sentence = _right_sentence(question, said[:index])
        own = bool(sentence) and step.strip() == f"Step {index + 1}: {sentence}"
        so_far = own and (not truths or truths[-1].so_far)
        truths.append(StepTruth(f"{question.source}/{index + 1}:{name}", own, so_far))
    return truths


def _right_sentence(question: Question, before: Sequence[str]) -> tuple[str, str]:
    """What a step does that comes after these sentences, and how it reads if it is right; nothing is right where they
    leave open what it is to go on from, or where there is nothing more to do."""
    place = len(before)
    if question.source == "sum":
        if place < 2:
            return "read", _digit(("first", "second")[place], question.seen[place][0])
        numbers = [re.fullmatch(r"The (?:first|second) digit is (\d)\.", sentence) for sentence in before]
        if place > 2 or not (numbers[0] and numbers[1]):
            return "add" if place == 2 else "surplus", ""
        left, right = (int(number[1]) for number in numbers if number)
        return "add", f"{left} + {right} = {left + right}."
    if place == 0:
        colour, shape = question.seen[0]
        return "look", _picture(colour, shape)
    if question.source == "open":
        return ("ask", _open(_asked(question))) if place == 1 else ("surplus", "")
    (asked,) = named(question.text)
    if place == 1:
        return "find", _finding(asked, asked in named(before[0]))
    return ("ask", _closed(question.source == "negated")) if place == 2 else ("surplus", "")


def _asked(question: Question) -> str:
    return "colour" if question.answer in COLOURS else "shape"


def _digit(which: str, digit: str) -> str:
    return f"The {which} digit is {digit}."


def _picture(colour: str, shape: str) -> str:
    return f"The picture shows a {colour} {shape}."


def _open(kind: str) -> str:
    return f"The question asks for the {kind}."


def _finding(asked: str, there: bool) -> str:
    return f"So {'there is' if there else 'there is no'} {asked} in it."


def _closed(absent: bool) -> str:
    return f"The question is whether it is {'absent' if absent else 'there'}."


def _written(sentences: list[str], answer: str) -> str:
    steps = [f"Step {number}: {sentence}" for number, sentence in enumerate(sentences, 1)]
    return "\n\n".join([*steps, f"Answer: {answer}"])


def _misread(word: str, words: tuple[str, ...], probability: float, rng: Generator) -> str:
    if rng.random() >= probability:
        return word
    return str(rng.choice([other for other in words if other != word]))
