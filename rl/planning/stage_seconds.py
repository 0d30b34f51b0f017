"""How long each stage of a policy step takes, measured by a run or given, and how that changes with the number of GPUs.

rollouts, continuations   an engine's seconds = a (longest + tokens / width): one pass a token of the longest
                          answer, and on top what each token adds; `WIDTH` sequences at once double a pass. Every
                          engine has its prompts' answers, so that more engines help until one answer's length is
                          what is left.
learner, MPRM             rows of the fullest rank, over an efficiency of `DOUBLING` for each doubling of ranks
weights to the engines    grow with the depth of a tree: 1 + log2(engines)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median

from rl.config import Config, ConfigError

WIDTH = 64
DOUBLING = 0.95


@dataclass(frozen=True)
class Split:
    """How many there are of each."""

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


def split_of(config: Config) -> Split:
    """The one that a configuration has."""
    return Split(config.engine.count, config.learner.ranks, config.mprm.ranks)


def given_seconds(text: str) -> StageSeconds:
    """From ``rollout=20,learn=12``; what is not named is left at its default.

    Raises:
        ConfigError: There is no such stage, or its value is no number of 0 or more, or there are no rollouts.
    """
    allowed = [field.name for field in fields(StageSeconds)]
    values: dict[str, float] = {}
    for entry in text.split(","):
        name, _, number = (part.strip() for part in entry.partition("="))
        if name not in allowed:
            raise ConfigError(f"--seconds {entry!r}: allowed are {', '.join(allowed)}, each =NUMBER")
        try:
            values[name] = float(number)
        except ValueError:
            raise ConfigError(f"--seconds {entry!r}: the value is not a number") from None
        if not 0 <= values[name] < math.inf:
            raise ConfigError(f"--seconds {entry!r}: allowed is 0 or more")
    if not values.get("rollout"):
        raise ConfigError("--seconds: rollout=SECONDS above 0 is needed")
    return StageSeconds(**values)


def measured_seconds(run: Path) -> tuple[StageSeconds, Config]:
    """The median stage times of a run, from its ``metrics.jsonl``, and the configuration it ran with. The first policy
    step, in which everything warms up, does not count where there are others.

    Raises:
        ConfigError: The folder holds no run, or no policy step of it.
    """
    from rl.config import load_config

    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"--run {run}: {error.strerror}: {run / 'metrics.jsonl'}") from None
    config = load_config(run / "config.yaml")
    rows = [row for row in map(json.loads, lines) if "perf/step_seconds" in row]
    if not rows:
        raise ConfigError(f"--run {run}: there is no finished policy step in metrics.jsonl")
    return stage_medians(rows[1:] or rows, config), config


def stage_medians(rows: Sequence[Mapping[str, float]], config: Config) -> StageSeconds:
    """Stage times from the metrics of policy steps: the workers' own where there are any, else what was waited for."""

    def typical(name: str, of: Sequence[Mapping[str, float]] = rows) -> float:
        found = [row[f"perf/{name}"] for row in of if math.isfinite(row.get(f"perf/{name}", math.nan))]
        return median(found) if found else 0.0

    taught = [row for row in rows if "mprm/loss" in row]
    rollout, annotate = typical("rollout_seconds"), typical("annotate_seconds")
    busy = [busy_seconds(row) for row in rows]
    if config.max_staleness and all(value > 0 for value in busy):
        # Rollouts and continuations share the engines there, and only the sum is known: it goes by tokens.
        share = annotated_share(rows, config)
        rollout, annotate = median(busy) * (1 - share), median(busy) * share
    # An update runs from the end of the labels on; whatever else is waited for meanwhile, it takes as long.
    teach = typical("teach_seconds", taught)
    hidden = typical("learn_seconds", taught) + typical("sync_seconds", taught) if teach > 0.01 else 0.0
    waits = ("rollout", "score", "annotate", "teach", "learn", "sync")
    other = [row["perf/step_seconds"] - sum(row.get(f"perf/{stage}_seconds", 0.0) for stage in waits) for row in rows]
    return StageSeconds(
        rollout=max(rollout, 1e-6),
        annotate=annotate,
        score=typical("mprm_score_seconds") or typical("score_seconds"),
        learn=typical("learner_seconds") or typical("learn_seconds"),
        teach=typical("mprm_update_seconds", taught) or teach + hidden,
        other=max(0.0, median(other)),
        rounds=max(1.0, median(row.get("annotation/rounds", 1.0) for row in rows)),
        tokens=median(row.get("reward/tokens", 0.0) for row in rows),
        steps=median(row.get("reward/steps", 5.0) for row in rows),
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
    """What ``seconds`` on so many ranks become on others, for a piece of work of so many rows."""
    fullest = math.ceil(rows / ranks) / math.ceil(rows / measured_on)
    return seconds * fullest / DOUBLING ** math.log2(ranks / measured_on)


def scaled_sync(seconds: float, engines: int, measured_on: int) -> float:
    """What sending weights takes to another number of engines."""
    return seconds * (1 + math.log2(engines)) / (1 + math.log2(measured_on))


def with_lengths(seconds: StageSeconds, config: Config) -> StageSeconds:
    """With a length of rollouts, if there was none: half of the limit."""
    return seconds if seconds.tokens else replace(seconds, tokens=config.engine.max_completion_tokens / 2)
