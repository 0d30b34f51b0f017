"""What a vision-language judge is asked about the steps of a solution, and what its answer means.

As in VL-PRM (arXiv 2509.23250), the judge reads the steps in order and stops at the first wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rewards.files.json_text import read_json
from rewards.records import Prompt

INSTRUCTION = """\
Check a solution to a question about the given image. Read its numbered steps in order. A step is wrong if it misreads \
the image, reckons wrong, or does not follow from what stands before it. Stop at the first wrong step."""
FORM = """\
End your answer with one line of JSON that names the first wrong step, for example {"first_wrong_step": 2}. Write 0 if \
no step is wrong."""
KEY = "first_wrong_step"


class NoVerdictError(ValueError):
    """An answer names no step; ``reason`` is one of `empty`, `unparseable`, `out_of_range`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def question(prompt: Prompt, steps: Sequence[str], with_answer: bool = False) -> str:
    """The text that goes to the judge, beside the prompt's images; ``with_answer`` tells the reference answer, too."""
    reference = [f"Right answer: {prompt.answer}"] if with_answer else []
    numbered = [f"Step {number}: {step.strip()}" for number, step in enumerate(steps, start=1)]
    return "\n\n".join([INSTRUCTION, f"Question: {prompt.question}", *reference, "\n".join(numbered), FORM])


def answer_format(steps: int) -> dict[str, Any]:
    """The ``response_format`` of a server with structured output: an object that names one of the steps, or 0."""
    schema = {
        "type": "object",
        "properties": {KEY: {"type": "integer", "enum": list(range(steps + 1))}},
        "required": [KEY],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def parse_verdict(answer: str, steps: int) -> int:
    """The first wrong step that an answer names, counted from 1; 0 if no step is wrong.

    The answer ends with an object that has the one key, in a code fence or not; what stands before it is not read.

    Raises:
        NoVerdictError: It does not, or there is no such step.

    >>> parse_verdict('Step 2 counts 3 cats, I see 2. {"first_wrong_step": 2}', steps=4)
    2
    """
    text = answer.strip().removesuffix("```").rstrip()
    if not text:
        raise NoVerdictError("empty", "the answer is empty")
    try:
        content = read_json(text[max(text.rfind("{"), 0) :])
    except ValueError:
        content = None
    if not isinstance(content, dict) or list(content) != [KEY] or type(content[KEY]) is not int:
        raise NoVerdictError("unparseable", f"the answer ends with {text[-60:]!r}, not with {{{KEY!r}: N}}")
    if not 0 <= content[KEY] <= steps:
        raise NoVerdictError("out_of_range", f"the answer names step {content[KEY]} of {steps}")
    return content[KEY]


def step_verdicts(first_wrong: int, steps: int) -> np.ndarray:
    """What the judge says of each step (K,): 1 right, 0 wrong, NaN after the first wrong one, which it did not read.

    >>> step_verdicts(2, steps=4), step_verdicts(0, steps=2)
    (array([ 1.,  0., nan, nan]), array([1., 1.]))
    """
    verdicts = np.ones(steps)
    if first_wrong:
        verdicts[first_wrong - 1] = 0.0
        verdicts[first_wrong:] = np.nan
    return verdicts
