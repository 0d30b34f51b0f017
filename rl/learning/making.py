"""The learner that a configuration describes."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from rl.config import Config
from rl.files.named_checkpoint import make_encoder, policy_checkpoint
from rl.learning.settings import LearnerSettings

if TYPE_CHECKING:
    from rl.learning.critic import CriticSettings
    from rl.learning.learner import PolicyLearner


def build_learner(config: Config) -> PolicyLearner:
    """The policy learner, in the process that calls this: one rank, where the environment speaks of several."""
    from rl.learning.learner import PolicyLearner

    return PolicyLearner(policy_checkpoint(config), make_encoder(config), learner_settings(config))


def learner_settings(config: Config) -> LearnerSettings:
    """The learner's settings, as the configuration has them."""
    learner = config.learner
    shared = {field.name for field in fields(LearnerSettings)} & set(type(learner).model_fields)
    return LearnerSettings(
        **{name: getattr(learner, name) for name in shared},
        temperature=config.engine.temperature,
        max_completion_tokens=config.engine.max_completion_tokens,
        dtype=config.policy.dtype,
        threads=max(1, int(learner.num_cpus)),
        trust_remote_code=config.policy.trust_remote_code,
        seed=config.seed,
        critic=critic_settings(config) if learner.algorithm == "ppo" else None,
    )


def critic_settings(config: Config) -> CriticSettings:
    """The settings of PPO's value model, as the configuration has them."""
    from rl.learning.critic import CriticSettings

    learner = config.learner
    return CriticSettings(
        **config.value.model_dump(),
        max_grad_norm=learner.max_grad_norm,
        gradient_checkpointing=learner.gradient_checkpointing,
        sharding=learner.sharding,  # type: ignore[arg-type]
        trust_remote_code=config.policy.trust_remote_code,
        seed=config.seed,
    )
