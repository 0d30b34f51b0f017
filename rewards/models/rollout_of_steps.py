"""Steps that somebody wrote down, as a rollout that reward models read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import nan

import numpy as np

from rewards.models.encoding import Encoder
from rewards.records import Rollout, StepSpan


def rollout_of_steps(
    name: str, question: str, steps: Sequence[str], encoder: Encoder, separator: str, closed: bool, text: str
) -> Rollout:
    """A rollout without outcome and log-probabilities.

    Each step is tokenised on its own, with the separator after it, so that every step has its span whatever its text
    holds. For text that the tokenizer knows, `Encoder.steps` finds the same spans in these tokens.
    Its kind is what the encoder's markers say; a step that is a mere marker keeps its span, since it may have a label.

    Args:
        name: The id of its prompt.
        question: What the prompt asks.
        steps: Text of each step.
        encoder: Of the model that reads.
        separator: Text between steps; see `rewards.models.step_rule.StepRule.between`.
        closed: Whether the last step ends with a separator, too, because an answer follows it.
        text: The whole of it.

    Raises:
        ValueError: The checkpoint has no tokens for a step, or its text or the question stands for an image.
    """
    ends = [separator] * (len(steps) - 1) + [separator if closed else ""]
    pieces = [encoder.tokens(step.strip() + end) for step, end in zip(steps, ends, strict=True)]
    if not all(pieces):
        raise ValueError("a step has no tokens in this vocabulary")
    if not encoder.placeholders.isdisjoint(token for piece in (encoder.tokens(question), *pieces) for token in piece):
        raise ValueError("its text holds this checkpoint's image placeholder")
    bounds = np.cumsum([0, *map(len, pieces)]).tolist()
    kinds = encoder.markers.kinds(steps)
    tokens = tuple(token for piece in pieces for token in piece)
    return Rollout(
        prompt_id=name,
        source="",
        group=0,
        token_ids=tokens,
        logprobs=(nan,) * len(tokens),
        text=text,
        steps=tuple(StepSpan(*bound, kind) for bound, kind in zip(pairwise(bounds), kinds, strict=True)),
        outcome=nan,
        finish_reason="stop",
        policy_version=-1,
    )
