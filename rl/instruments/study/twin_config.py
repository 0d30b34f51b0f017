"""What the twin is told and the loop finds by itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewards.section import Positive, Section


class TwinConfig(Section):
    """The tabular twin's world and rates; all else is taken from the experiment (`rl.instruments.study.twin_run`)."""

    world: Literal["C", "H", "N"] = "C"
    """Whose beliefs the policy holds at first: `C`, `H` or `N`."""
    world_seed: Annotated[int, Field(ge=0)] = 0
    """Which beliefs these are."""
    policy_rate: Positive = 0.05
    """How far a policy step moves a belief's log-odds, about; Adam's learning rate."""
    mprm_rate: Positive = 0.1
    """The same of the reward model's."""
    warm_rollouts: Annotated[int, Field(ge=0)] = 0
    """Labelled rollouts of the first policy that the reward model learns from before the first policy step; they enter
    its buffer."""
    warm_steps: Annotated[int, Field(ge=0)] = 100
    """Its optimizer steps on them."""
    given_auc: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    """A reward model that does not learn, and tells right results of a belief from wrong ones with this area under the
    ROC curve; null for one that learns."""
