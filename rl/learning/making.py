"""The learner that a configuration describes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rl.config import Config
from rl.files.importing import importing
from rl.files.named_checkpoint import make_encoder, policy_checkpoint

if TYPE_CHECKING:
    from rl.learning.learner import PolicyLearner


def build_learner(config: Config) -> PolicyLearner:
    """The policy learner, in the process that calls this: one rank, where the environment speaks of several."""
    with importing():
        from rl.learning.learner import PolicyLearner

    return PolicyLearner(policy_checkpoint(config), make_encoder(config), config)
