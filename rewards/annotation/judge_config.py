"""The section of a configuration on the judge."""

from __future__ import annotations

from typing import Literal

from rewards.endpoints.config import EndpointConfig
from rewards.section import Share, Weight


class JudgeConfig(EndpointConfig):
    """A vision-language model behind an OpenAI-compatible server that reads steps beside the Monte-Carlo labels; see
    `rewards.annotation.judge`. Those that are late keep their Monte-Carlo labels."""

    rule: Literal["monte_carlo", "judge", "negative", "positive", "drop"] = "drop"
    """The label where counts and judge disagree: what the counts say, what the judge says, wrong (`negative`), right
    (`positive`), or none (`drop`)."""
    fill: bool = False
    """Whether a verdict stands in where a step has no finished continuation, as `annotation.continuations` of them."""
    kinds: tuple[Literal["perception", "reasoning", ""], ...] = ("perception", "reasoning", "")
    """The kinds of steps that it has a say in; the empty one is of steps without a kind."""
    share: Share = 1.0
    """Share of the annotated rollouts that it reads."""
    price_input: Weight = 0.0
    """Of a million prompt tokens, in any currency."""
    price_output: Weight = 0.0
    """Of a million answer tokens."""
