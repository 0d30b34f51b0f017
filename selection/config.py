"""The section of a configuration on the selector and the buffer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewards.section import Count, Positive, Section, Share, Weight
from selection.bis_posterior import PRIOR, THRESHOLD


class SelectionConfig(Section):
    """The streaming buffer: which annotated rollouts the MPRM learns from."""

    selector: str = "bis"
    """`bis` (Balanced-Information Score), `bis_posterior`, `bis_visual`, `random`, `mixed`, `reliable`, `low_mc`,
    `hard` (the MPRM's loss), `uncertain` (its entropy), or `package.module:Name` of your own."""
    alpha: Annotated[float, Field(ge=0)] = 0.05
    """BIS: weight of reliability where labels are not mixed; the paper uses 0.05 at ratio 0.25 and 0.2 at 0.1."""
    prior: tuple[Positive, Positive] = PRIOR
    """Of `bis_posterior`: a and b of the Beta prior of a step's success rate. With `prompts: difficulty` its mean is
    what is believed of the rollout's prompt."""
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
    prompts: Literal["uniform", "difficulty"] = "uniform"
    """Which training prompts are asked: all in the task's order, or mostly those whose groups are likely to be mixed,
    by the verdicts on earlier answers, and on continuations of their first steps."""
    prompts_in_order: Share = 0.25
    """Of `difficulty`: share of prompts in the task's own order, so that each comes in time."""
    prompts_half_life: Weight = 20
    """Of `difficulty`: policy steps after which a verdict counts half; 0 for never."""
    prompts_remembered: Count = 4096
    """Of `difficulty`: most prompts that may be asked again, before their turn in the task's order."""
