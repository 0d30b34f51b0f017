"""Sections on labels: who gives them, and which are learned from."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from rl.config.section import (
    Count,
    Positive,
    Section,
    Share,
    Weight,
)
from selection.bis_posterior import PRIOR, THRESHOLD


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


class AnnotationConfig(Section):
    """Monte-Carlo step labels."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of each step's rollouts that is annotated; with `triage`, that is looked at."""
    continuations: Count = 8
    """N: most continuations sampled from the end of each written step."""
    budget: Literal["fixed", "first_success", "sequential", "triage"] = "fixed"
    """`fixed` (always N), `first_success` (until one is right), `sequential` (until it is sure enough whether the
    success rate is above `threshold`), or `triage` (probe all rollouts, then label the most promising ones)."""
    first_error: Literal["ignore", "stop", "search"] = "ignore"
    """`ignore` labels every step; `stop` leaves out the steps after a first one without success; `search` finds that
    step by binary search, assuming that errors are never repaired."""
    error: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Of `sequential`: the chance of a wrong decision at which a step is settled."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Of `sequential`: the success rate above which a step counts as right."""
    prior: tuple[Positive, Positive] = (0.5, 2.5)
    """Of `sequential`: a and b of the Beta prior of a step's success rate."""
    outcome_weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    """What a rollout's own outcome counts at each of its steps, in continuations; 0 for nothing."""
    share_prefixes: bool = False
    """Whether rollouts of one group that begin alike share the counts of what they have in common, sampled once."""
    probe: Annotated[int, Field(ge=0)] = 2
    """Of `triage`: continuations a step that every rollout gets before the choice; 0 to choose without."""
    triage_ratio: Share = 0.25
    """Of `triage`: share of the rollouts of each source that is labelled."""
    triage_by: Literal["counts", "mprm"] = "counts"
    """Of `triage`: whether the choice rests on probe and outcomes alone, or on the MPRM's step scores as well."""
    triage_policy: Literal["fixed", "first_success", "sequential"] = "fixed"
    """Of `triage`: how the chosen rollouts are labelled."""

    @field_validator("probe")
    @classmethod
    def _leaves_something_to_label(cls, value: int, info: ValidationInfo) -> int:
        most = info.data.get("continuations")
        if info.data.get("budget") == "triage" and most is not None and value > most:
            raise ValueError(f"input should be at most annotation.continuations, {most}")
        return value


class SelectionConfig(Section):
    """The streaming buffer: which annotated rollouts the MPRM learns from."""

    selector: str = "bis"
    """`bis` (Balanced-Information Score), `bis_posterior`, `bis_visual`, `random`, `mixed`, `reliable`, `low_mc`,
    `hard` (the MPRM's loss), `uncertain` (its entropy), or `package.module:Name` of your own."""
    alpha: Annotated[float, Field(ge=0)] = 0.05
    """BIS: weight of reliability where labels are not mixed; the paper uses 0.05 at ratio 0.25 and 0.2 at 0.1."""
    prior: tuple[Positive, Positive] = PRIOR
    """Of `bis_posterior`: a and b of the Beta prior of a step's success rate."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = THRESHOLD
    """Of `bis_posterior`: the success rate above which a step is truly positive."""
    visual_weight: Annotated[float, Field(ge=0)] = 1.0
    """Of `bis_visual`: how much the entropy of the image's features counts; 0 for `bis`."""
    keep_ratio: Share = 0.5
    """Share of each source's rollouts to keep."""
    capacity: Count = 2048
    """Most rollouts held, those in reserve included."""
    half_life: Annotated[float, Field(ge=0)] = 0
    """Policy steps after which a rollout's score counts half; 0 for never."""
    max_all_negative: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Largest share of a source's kept rollouts that may have no positive step; 1 for no limit."""
    draw: Literal["uniform", "proportional", "top"] = "uniform"
    """Which kept rollouts an update of the MPRM takes: any, by chance in proportion to the score, or the best ones."""
    fresh: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of an update's rollouts that it has not seen yet, the rest being replayed; null for no difference."""
