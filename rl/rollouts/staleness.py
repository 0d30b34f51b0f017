"""How far sampling may run ahead of learning, and that no step mixes versions of the reward model."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.records import StepScores
from rl.workers.pending import Pending


class StalenessGate:
    """Keeps one promise: no rollout is trained on more than ``max_staleness`` versions after it was sampled.

    Policy step s (from 0 on) trains version s and leaves version s + 1. Rollouts for step s that are sampled by version
    v will be s - v versions old when they are trained on, so they may be asked for once

        s - v <= max_staleness,        v = the version that the engines will have when they get to it.

    With 0 every batch waits for the weights of the step before it: strictly on-policy. With 1 the engines sample the
    next batch while the learner works.

    >>> gate = StalenessGate(max_staleness=1)
    >>> gate.furthest(version=0), gate.check(step=1, policy_version=0)
    (1, 1)

    Raises:
        ValueError: ``max_staleness`` is negative.
    """

    def __init__(self, max_staleness: int) -> None:
        if max_staleness < 0:
            raise ValueError(f"max_staleness is {max_staleness}; allowed is 0 or more")
        self.max_staleness = max_staleness

    def furthest(self, version: int) -> int:
        """The last policy step that may train on rollouts of ``version``, so the last one to sample for with it."""
        return version + self.max_staleness

    def check(self, step: int, policy_version: int) -> int:
        """The age, in versions, at which policy step ``step`` trains on a rollout of ``policy_version``.

        Raises:
            RuntimeError: The promise is broken: the rollout is too old, or from the future.
        """
        age = step - policy_version
        if not 0 <= age <= self.max_staleness:
            raise RuntimeError(
                f"policy step {step} was given a rollout of version {policy_version}: {age} versions old, "
                f"allowed is 0 to {self.max_staleness}"
            )
        return age


def check_one_version(scores: Sequence[StepScores]) -> None:
    """All rollouts of a policy step, and so of each group, are scored by one version of the reward model.

    Raises:
        RuntimeError: They are not.
    """
    versions = sorted({entry.mprm_version for entry in scores})
    if len(versions) > 1:
        raise RuntimeError(f"a policy step was scored by versions {versions} of the reward model; allowed is one")


def check_versions_sent(sent: Sequence[Pending[int]], version: int) -> None:
    """Every engine has the weights that were sent to it; waits until they have arrived.

    Raises:
        RuntimeError: One reports another version.
    """
    for engine, answer in enumerate(sent):
        if (reported := answer.result()) != version:
            raise RuntimeError(f"engine {engine} was sent policy version {version}, and reports version {reported}")
