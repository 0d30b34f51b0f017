"""Whether the chat templates of a run's models show what a prompt holds, found out before anything is started."""

from __future__ import annotations

from contextlib import suppress

from rewards.models.encoding import Encoder
from rewards.records import Prompt, PromptError
from rl.config import Config
from rl.errors import ConfigError
from rl.monitoring.warnings import unseen_pictures
from rl.reward_models.mprm import mprm_encoder
from rl.reward_models.outcome import outcome_encoder
from rl.tasks.task import Task

LOOKED_AT = 64
"""Prompts among which one with a picture is looked for."""


def check_chat_templates(config: Config, encoder: Encoder, task: Task) -> None:
    """Whether the policy, and reward models that read by templates of their own, are shown question and pictures.

    Args:
        config: The experiment.
        encoder: The policy's.
        task: Asked for prompts until one has pictures.

    Raises:
        ConfigError: A template leaves one out, or the policy sees no pictures; names the key.
    """
    prompt = one_with_pictures(task)
    images = len(prompt.images) if prompt is not None else 0
    if blind := unseen_pictures(images, int(encoder.sees), config.policy.checkpoint):
        raise ConfigError(blind)
    read_by = [("policy.checkpoint", config.policy.checkpoint, encoder)]
    if config.places_mprm and config.mprm.checkpoint is not None:
        read_by.append(("mprm.checkpoint", config.mprm.checkpoint, mprm_encoder(config)))
    if config.outcome_model.is_used and config.outcome_model.checkpoint is not None:
        read_by.append(("outcome_model.checkpoint", config.outcome_model.checkpoint, outcome_encoder(config)))
    for key, name, each in read_by:
        try:
            each.chat.check(images if each.sees else 0)
        except ValueError as error:
            raise ConfigError(f"{key} {name}: {error}") from None


def one_with_pictures(task: Task) -> Prompt | None:
    """The first prompt with pictures among the first ones; else the first that can be made, None where none can."""
    first = None
    for number in range(LOOKED_AT):
        with suppress(PromptError):  # said when it is asked for
            prompt = task.prompt("train", number)
            if prompt.images:
                return prompt
            first = first or prompt
    return first
