"""Several reward models that judge together: the mean of their scores, the smallest, or a weighted mean.

The first member is the one that learns; the others are frozen. Whatever is not said here (training, saving, versions)
is the first one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from rewards.records import Prompt, Rollout, StepScores

Combination = Literal["mean", "minimum"] | Sequence[float]
"""How scores become one: their mean, the smallest one, or their mean with these weights, one a member."""


def combine(scores: Sequence[np.ndarray], how: Combination) -> np.ndarray:
    """Several members' scores of the same things (each (K,)) as one (K,); weights count in proportion to their sum.

    >>> combine([np.array([0.2, 0.8]), np.array([0.6, 0.4])], "minimum").tolist()
    [0.2, 0.4]
    """
    stacked = np.stack(list(scores))
    if how == "minimum":
        return stacked.min(axis=0)
    return np.average(stacked, axis=0, weights=None if how == "mean" else list(how))


def check_combination(how: Combination, members: int) -> None:
    """Whether so many members can be combined so.

    Raises:
        ValueError: There is not one weight a member, or they are negative or all 0.
    """
    if isinstance(how, str):
        return
    if len(how) != members or min(how) < 0 or sum(how) == 0:
        raise ValueError(f"weights {list(how)}: allowed is one a model, {members}, none negative and not all 0")


class _Ensemble:
    def __init__(self, members: Sequence[Any], how: Combination) -> None:
        check_combination(how, len(members))
        self._members, self._how = list(members), how

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also while it is not made yet
            raise AttributeError(name)
        return getattr(self._members[0], name)


class ProcessEnsemble(_Ensemble):
    """Process reward models, as one `rewards.process_model.mprm.MPRM`.

    Args:
        members: The one that learns, then the frozen ones.
        how: How their scores of a step become one.
    """

    def score(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[StepScores]:
        """The members' joint score of each step, with the first one's version. They have no joint concentration."""
        by_member = [member.score(prompts, rollouts) for member in self._members]
        return [
            StepScores(combine([said.scores for said in entry], self._how), entry[0].mprm_version)
            for entry in zip(*by_member, strict=True)
        ]


class OutcomeEnsemble(_Ensemble):
    """Judges of whole answers, as one `rewards.outcome.outcome_model.OutcomeModel`.

    Args:
        members: The one that learns, then the frozen ones: outcome models, or process models behind `AnswerJudge`.
        how: How their scores of an answer become one.
    """

    def score(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> np.ndarray:
        """The members' joint score of each answer (B,), in [0, 1]."""
        return combine([member.score(prompts, rollouts) for member in self._members], self._how)


class AnswerJudge:
    """A process reward model as a judge of whole answers: the mean of its step scores (VisualPRM, section 4).

    Args:
        model: What scores steps, such as `rewards.process_model.mprm.MPRM`.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def score(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> np.ndarray:
        """The score of each answer (B,), in [0, 1]; 0 for one without steps."""
        said = self._model.score(prompts, rollouts)
        return np.array([entry.scores.mean() if len(entry.scores) else 0.0 for entry in said])
