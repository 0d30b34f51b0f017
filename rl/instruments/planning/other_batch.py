"""Stage times of a run, scaled to a configuration with another batch.

engines       by the law of `rl.instruments.planning.engine_work`: the longest answer, and the tokens of all
learner       rows of the fullest rank, times epochs
MPRM          scores by rows, updates by the rollouts that they learn from
controller    rows
weights       the same

What no such law is known of, as another model, has to be the same.
"""

from __future__ import annotations

import math
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from rl.config import Config
from rl.errors import ConfigError
from rl.instruments.planning.engine_work import EngineWork
from rl.instruments.planning.stage_seconds import StageSeconds, split_of

SAME = (
    "task.name",
    "policy.checkpoint",
    "policy.dtype",
    "mprm.enabled",
    "mprm.checkpoint",
    "engine.kind",
    "engine.tensor_parallel",
    "engine.max_completion_tokens",
    "learner.algorithm",
    "learner.lora_rank",
    "annotation.budget",
    "annotation.first_error",
)
SCALED = (
    "learner.prompts",
    "learner.samples",
    "learner.epochs",
    "annotation.share",
    "annotation.continuations",
    "mprm.batches",
    "mprm.batch_size",
)


def changes(config: Config, then: Config) -> list[str]:
    """What stage times are scaled by, as ``learner.prompts 16 to 512``."""
    pairs = [(key, attrgetter(key)(then), attrgetter(key)(config)) for key in SCALED]
    return [f"{key} {old:g} to {new:g}" for key, old, new in pairs if old != new]


def scaled_to(config: Config, seconds: StageSeconds, then: Config, run: Path) -> StageSeconds:
    """What stages will take with the batch of ``config``, on as many workers as ``then`` had, the configuration of the
    run that they were measured by.

    Raises:
        ConfigError: The two differ in a key whose effect is not known.
    """
    _check(config, then, run)
    if not changes(config, then):
        return seconds
    split = split_of(then)
    rollout, annotate = (
        after / before if before else 1.0
        for before, after in zip(
            EngineWork(then, seconds, split.engines).passes(split.engines),
            EngineWork(config, seconds, split.engines).passes(split.engines),
            strict=True,
        )
    )
    before, after = (each.learner.prompts * each.learner.samples for each in (then, config))
    epochs = config.learner.epochs / then.learner.epochs
    return replace(
        seconds,
        rollout=seconds.rollout * rollout,
        annotate=seconds.annotate * annotate,
        score=seconds.score * _fullest(after, split.mprm) / _fullest(before, split.mprm),
        learn=seconds.learn * epochs * _fullest(after, split.learner) / _fullest(before, split.learner),
        teach=seconds.teach * config.mprm.lesson_size / then.mprm.lesson_size,
        other=seconds.other * after / before,
    )


def _fullest(rows: int, ranks: int) -> int:
    return math.ceil(rows / max(1, ranks))


def _check(config: Config, then: Config, run: Path) -> None:
    # Only a fixed budget samples as many continuations as it may.
    same = (*SAME, "annotation.continuations") if config.annotation.budget != "fixed" else SAME
    for key in same:
        old, new = attrgetter(key)(then), attrgetter(key)(config)
        if old != new:
            raise ConfigError(
                f"--run {run}: {key} was {old} there and is {new} here, which its stage times cannot be scaled to: "
                "allowed is a run with the same, or --seconds alone"
            )
    if config.annotation.share and not then.annotation.share:
        raise ConfigError(
            f"--run {run}: annotation.share was 0 there and is {config.annotation.share:g} here: allowed is a run with "
            "annotations, or --seconds alone"
        )
