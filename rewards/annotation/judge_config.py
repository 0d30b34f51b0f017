"""The section of a configuration on the judge."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from rewards.section import Count, Positive, Section, Share, Weight


class JudgeConfig(Section):
    """A vision-language model that reads steps beside the Monte-Carlo labels; see `rewards.annotation.judge`."""

    endpoint: str | None = None
    """Address of an OpenAI-compatible server, for example `http://127.0.0.1:8000/v1`; null for no judge."""
    model: str = ""
    """Name of the model there."""
    api_key_env: str | None = None
    """The environment variable that holds the key; null if the server wants none."""
    rule: Literal["monte_carlo", "judge", "negative", "positive", "drop"] = "drop"
    """The label where counts and judge disagree: what the counts say, what the judge says, wrong (`negative`), right
    (`positive`), or none (`drop`)."""
    fill: bool = False
    """Whether a verdict stands in where a step has no finished continuation, as `annotation.continuations` of them."""
    kinds: tuple[Literal["perception", "reasoning", ""], ...] = ("perception", "reasoning", "")
    """The kinds of steps that it has a say in; the empty one is of steps without a kind."""
    share: Share = 1.0
    """Share of the annotated rollouts that it reads."""
    with_answer: bool = False
    """Whether it is told the reference answer."""
    structured: bool = True
    """Whether the server can hold its answer to a JSON schema, as vLLM can; a weak model is then still readable."""
    max_tokens: Count = 1024
    """Longest answer."""
    temperature: Annotated[float, Field(ge=0)] | None = 0.0
    """Of its answers; null for the server's own."""
    concurrency: Count = 8
    """Requests at once."""
    timeout: Positive = 60
    """Seconds that one request may take."""
    retries: Annotated[int, Field(ge=0)] = 2
    """Further attempts after one that got no answer, each after a longer pause."""
    patience: Count = 4
    """Rollouts in a row without an answer after which the others of the step are not sent."""
    deadline: Positive = 300
    """Seconds that the rollouts of one step may take; those that are late keep their Monte-Carlo labels."""
    price_input: Weight = 0.0
    """Of a million prompt tokens, in any currency."""
    price_output: Weight = 0.0
    """Of a million answer tokens."""
    cache: str | None = None
    """File of known verdicts, which several runs may share; null for `judge.sqlite` in the run folder."""

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^/@?#\s]+(/[^@?#\s]*)?", value):
            raise ValueError(
                "input should be the http or https address of a server, without a password or a query: the key goes "
                "into the environment variable that judge.api_key_env names"
            )
        return value

    @field_validator("api_key_env")
    @classmethod
    def _is_no_key(cls, value: str | None) -> str | None:
        """Run folders and messages repeat it, and so it must not be the key."""
        if value is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
            raise ValueError("input should be the name of an environment variable, in capitals, and not the key itself")
        return value
