"""Functions that judge answers, whoever they were written for, called as their parameters say.

    def f(completion, reference) -> verdict             Sieve's own; with a third one, ``row``, it gets the prompt's row
    def f(data_source, solution_str, ground_truth, extra_info) -> number, or a dictionary with "score"       verl's
    def f(prompts, completions, **columns) -> list of numbers                                                TRL's

verl's and TRL's are known by the names of their parameters, which both libraries call them with.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import Parameter
from typing import Any

from rewards.verification.verdict import Answer

TRL = {"prompts", "completions", "completion_ids"}
Judge = Callable[[Answer], object]
"""What the function gives for one answer, as it gives it."""


def judge_of(function: Callable[..., Any]) -> tuple[Judge, bool]:
    """The function as one of an answer, and whether it is Sieve's own kind, whose numbers are bounded."""
    parameters: Mapping[str, Parameter]
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # one that is written in C says nothing of itself
        parameters = {}
    if {"solution_str", "ground_truth"} <= set(parameters):
        return partial(_verl, function, parameters), False
    if TRL & set(parameters):
        return partial(_trl, function, parameters), False
    return partial(_own, function, parameters), True


def _own(function: Callable[..., Any], parameters: Mapping[str, Parameter], answer: Answer) -> object:
    """A third argument that must be given, or is called ``row``, is the row."""
    text, reference = answer.text, answer.prompt.answer
    if "row" in parameters:
        return function(text, reference, row=answer.row)
    positional = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    wants_row = len(positional) > 2 and positional[2].default is Parameter.empty
    return function(text, reference, answer.row) if wants_row else function(text, reference)


def _verl(function: Callable[..., Any], parameters: Mapping[str, Parameter], answer: Answer) -> object:
    row = answer.row
    extra = row.get("extra_info")
    given = {
        "data_source": row.get("data_source", answer.prompt.source),
        "solution_str": answer.text,
        "ground_truth": answer.prompt.answer,
        "extra_info": row | (dict(extra) if isinstance(extra, Mapping) else {}),
    }
    return function(**_accepted(given, parameters))


def _trl(function: Callable[..., Any], parameters: Mapping[str, Parameter], answer: Answer) -> object:
    """TRL gives texts or, where prompts are chats, messages; a function that cannot read the first gets the others."""
    columns: dict[str, Any] = {name: [value] for name, value in answer.row.items()}
    columns["completion_ids"] = [list(answer.token_ids)]
    texts = {"prompts": [answer.prompt.question], "completions": [answer.text]}
    chats = {
        "prompts": [[{"role": "user", "content": answer.prompt.question}]],
        "completions": [[{"role": "assistant", "content": answer.text}]],
    }
    try:
        found = function(**_accepted(columns | texts, parameters))
    except (TypeError, IndexError, AttributeError) as error:
        try:
            found = function(**_accepted(columns | chats, parameters))
        except (Exception, SystemExit):
            raise error from None
    if isinstance(found, str | Mapping) or not isinstance(found, Sequence) or len(found) != 1:
        raise ValueError(f"gave {found!r} for one completion; allowed is a list of one number")
    return found[0]


def _accepted(given: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """Of what there is to give, what a function takes."""
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(given)
    return {name: value for name, value in given.items() if name in parameters}
