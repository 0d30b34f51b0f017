"""How long each stage of a policy step takes, measured by a run or given, and how that changes with the number of GPUs.

rollouts, continuations   an engine's seconds = a (longest + tokens / width): one pass a token of the longest
                          answer, and on top what each token adds; `WIDTH` sequences at once double a pass. Every
                          engine has its prompts' answers, so that more engines help until one answer's length is
                          what is left.
learner, MPRM             rows of the fullest rank, over an efficiency of `DOUBLING` for each doubling of ranks
weights to the engines    grow with the depth of a tree: 1 + log2(engines)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median

from rl.config import Config
from rl.errors import ConfigError
from rl.monitoring.metrics_file import policy_steps

WIDTH = 64
DOUBLING = 0.95
UNSEEN = 0.01  # seconds: who waits no longer than this has not waited, but only asked
MOST_SECONDS = 1e9
MOST = {"rounds": 1000, "tokens": 1e7, "steps": 1e6, "prompt": 1e7}
"""Of what is no time."""
ABOVE_0 = {"rollout", "tokens", "steps", "prompt"}


@dataclass(frozen=True)
class Split:
    """How many there are of each; no ``mprm`` in a run without one."""

    engines: int
    learner: int
    mprm: int


@dataclass(frozen=True)
class StageSeconds:
    """Seconds of one policy step's stages.

    Attributes:
        rollout: The engines writing a step's rollouts, all working.
        annotate: The engines writing a step's continuations, all rounds together.
        score: The MPRM scoring a step's rollouts.
        learn: The learner's step.
        teach: One update of the MPRM, of which there is one every `mprm.every` steps.
        sync: New weights on their way into the engines.
        other: What the controller does itself.
        rounds: Of continuations.
        tokens: Of a rollout, in the mean.
        steps: Written steps of a rollout.
        prompt: Tokens of a prompt, those of its pictures included, in the mean.
    """

    rollout: float
    annotate: float = 0.0
    score: float = 0.0
    learn: float = 0.0
    teach: float = 0.0
    sync: float = 0.0
    other: float = 0.0
    rounds: float = 1.0
    tokens: float = 0.0
    steps: float = 5.0
    prompt: float = 0.0


def split_of(config: Config) -> Split:
    """The one that a configuration has."""
    return Split(config.engine.count, config.learner.ranks, config.mprm.ranks if config.places_mprm else 0)


def given_seconds(text: str, measured: StageSeconds | None = None) -> StageSeconds:
    """From ``rollout=20,learn=12``; what is not named is as measured, or else left at its default.

    Raises:
        ConfigError: There is no such stage, it is named twice, its value is out of range, or there are no rollouts.
    """
    stages = [field.name for field in fields(StageSeconds)]
    values: dict[str, float] = {}
    for entry in text.split(","):
        name, _, number = (part.strip() for part in entry.partition("="))
        if name not in stages or name in values:
            raise ConfigError(f"--seconds {text!r}: allowed is STAGE=NUMBER,…, each once, of {', '.join(stages)}")
        try:
            values[name] = float(number)
        except ValueError:
            values[name] = math.nan
        allowed, is_allowed = _allowed(name, values[name])
        if not is_allowed:
            raise ConfigError(f"--seconds {text!r}: {name} is {number!r}; allowed is {allowed}")
    if measured is not None:
        return replace(measured, **values)
    if "rollout" not in values:
        raise ConfigError(f"--seconds {text!r}: rollout=SECONDS is needed")
    return StageSeconds(**values)


def _allowed(name: str, value: float) -> tuple[str, bool]:
    """What may be given for a stage, and whether this is it."""
    most = MOST.get(name, MOST_SECONDS)
    if name == "rounds":
        return f"a whole number from 1 to {most:,}", 1 <= value <= most and value.is_integer()
    if name in ABOVE_0:
        return f"a number above 0, up to {most:,.0f}", 0 < value <= most
    return f"a number from 0 to {most:,.0f}", 0 <= value <= most


def measured_seconds(run: Path) -> tuple[StageSeconds, Config]:
    """The median stage times of a run, from its ``metrics.jsonl``, and the configuration it ran with. The first policy
    steps, in which everything warms up and labels are still to come, do not count where there are others.

    Raises:
        ConfigError: The folder holds no run, no policy step of it, or numbers that none has.
    """
    from rl.config import load_config

    rows = policy_steps(run)
    config = load_config(run / "config.yaml")
    found = stage_medians(rows[1 + config.annotation.delay :] or rows[1:] or rows, config)
    for name, value in vars(found).items():
        if not 0 <= value <= MOST.get(name, MOST_SECONDS):
            raise ConfigError(f"{run}: its policy steps have {value:g} for {name}; allowed is what a run can measure")
    return found, config


def stage_medians(rows: Sequence[Mapping[str, float]], config: Config) -> StageSeconds:
    """Stage times from the metrics of policy steps: the workers' own where there are any, else what was waited for."""

    def typical(name: str, of: Sequence[Mapping[str, float]] = rows) -> float:
        found = [row[f"perf/{name}"] for row in of if math.isfinite(row.get(f"perf/{name}", math.nan))]
        return median(found) if found else 0.0

    taught = [row for row in rows if "mprm/loss" in row]
    rollout, annotate = typical("rollout_seconds"), typical("annotate_seconds")
    busy = [busy_seconds(row) for row in rows]
    if (config.max_staleness or config.annotation.delay) and all(value > 0 for value in busy):
        # Rollouts and continuations share the engines there, and only the sum is known: it goes by tokens.
        share = annotated_share(rows, config)
        rollout, annotate = median(busy) * (1 - share), median(busy) * share
    # An update runs from the end of the labels on; whatever else is waited for meanwhile, it takes as long.
    teach = typical("teach_seconds", taught)
    hidden = typical("learn_seconds", taught) + typical("sync_seconds", taught) if teach > UNSEEN else 0.0
    # New weights mostly arrive behind what engines are sampling, where no one waits for them.
    sync = typical("sync_seconds")
    waits = ("rollout", "score", "annotate", "teach", "learn", "sync")
    other = [row["perf/step_seconds"] - sum(row.get(f"perf/{stage}_seconds", 0.0) for stage in waits) for row in rows]
    answer = median(row.get("reward/tokens", 0.0) for row in rows)
    # The learner reads rollouts behind their prompts, but for continuations that it may read, too.
    read = 0.0 if config.learner.reuse_continuations else typical("learner_tokens")
    return StageSeconds(
        rollout=max(rollout, 1e-6),
        annotate=annotate,
        score=typical("mprm_score_seconds") or typical("score_seconds"),
        learn=typical("learner_seconds") or typical("learn_seconds"),
        teach=typical("mprm_update_seconds", taught) or teach + hidden,
        sync=sync if sync > UNSEEN else 0.0,
        other=max(0.0, median(other)),
        rounds=median([row["annotation/rounds"] for row in rows if row.get("annotation/rounds")] or [1.0]),
        tokens=answer,
        steps=median(row.get("reward/steps", 5.0) for row in rows),
        prompt=max(0.0, read / (config.learner.prompts * config.learner.samples) - answer),
    )


def busy_seconds(row: Mapping[str, float]) -> float:
    """Seconds of a policy step in which the engines worked, in the mean over engines; 0 where it was not measured."""
    if "perf/engine_busy_seconds" in row:
        return row["perf/engine_busy_seconds"]
    return (1 - row.get("perf/engine_idle", 1.0)) * row["perf/step_seconds"]


def annotated_share(rows: Sequence[Mapping[str, float]], config: Config) -> float:
    """Share of the engines' tokens that continuations are."""
    rollouts = config.learner.prompts * config.learner.samples
    continued = sum(row.get("annotation/tokens", 0.0) for row in rows)
    written = sum(row.get("reward/tokens", 0.0) * rollouts for row in rows)
    return continued / (continued + written) if continued + written else 0.0


def scaled_learner(seconds: float, rows: int, ranks: int, measured_on: int) -> float:
    """What ``seconds`` on so many ranks become on others, for a piece of work of so many rows; 0 where there are no
    ranks, and so no work."""
    if not ranks:
        return 0.0
    fullest = math.ceil(rows / ranks) / math.ceil(rows / measured_on)
    return seconds * fullest / DOUBLING ** math.log2(ranks / measured_on)


def scaled_sync(seconds: float, engines: int, measured_on: int) -> float:
    """What sending weights takes to another number of engines."""
    return seconds * (1 + math.log2(engines)) / (1 + math.log2(measured_on))


def with_lengths(seconds: StageSeconds, config: Config) -> StageSeconds:
    """With a length of rollouts, and of prompts, if there was none: half of the limit."""
    limit = config.engine.max_completion_tokens
    return replace(
        seconds,
        tokens=seconds.tokens or limit / 2,
        prompt=seconds.prompt or (config.engine.max_model_len - limit) / 2,
    )
