"""The section on Monte-Carlo labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from rewards.section import Count, Positive, Section, Share


class AnnotationConfig(Section):
    """Monte-Carlo step labels."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of each step's rollouts that is annotated; with `triage`, that is looked at."""
    continuations: Count = 8
    """N: most continuations sampled from the end of each written step."""
    delay: Annotated[int, Field(ge=0)] = 0
    """Policy steps that labels come late, so that engines need not go through all rounds of a step's continuations
    before the next rollouts; 0 for labels in their own step, as credit rules that read counts want them."""
    budget: Literal["fixed", "first_success", "sequential", "triage"] = "fixed"
    """`fixed` (always N), `first_success` (until one is right), `sequential` (until it is sure enough whether the
    success rate is above `threshold`), or `triage` (probe all rollouts, then label the most promising ones)."""
    first_error: Literal["ignore", "stop", "search"] = "ignore"
    """`ignore` labels every step; `stop` leaves out the steps after a first one without success; `search` finds that
    step by binary search, assuming that errors are never repaired."""
    error: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Of `sequential`: the chance of a wrong decision at which a step is settled."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Of `sequential`: the success rate above which a step counts as right. One below 1 / N cannot be told from 0."""
    prior: tuple[Positive, Positive] = (0.1, 0.5)
    """Of `sequential`: a and b of the Beta prior of a step's success rate; a + b is how many continuations it counts
    for. With these three as they are, 1 right of 1 settles a step as right, and 0 of 4 as wrong."""
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
