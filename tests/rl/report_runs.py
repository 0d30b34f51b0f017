"""Run folders as `sieve report` reads them: real settings and recorded rollouts, made-up measurements."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np

from rewards.records import Rollout, StepScores
from rl.config import load_config, save_config
from rl.files.run_files import CONFIG_FILE, METRICS_FILE, SUMMARY_FILE
from tests.rl.recorded_streams import record_stream

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"
STEPS = 6
SOURCES = ("chain", "compare", "modulo", "total")


def a_run(folder: Path, *overrides: str, recorded: bool = True, finished: bool = True, judged: bool = True) -> Path:
    """A run of `STEPS` policy steps of 16 rollouts, half of them labelled; an unfinished one has measured half of them.
    One that is not ``judged`` has no reward model, and labels nothing."""
    config = load_config(SMOKE, [f"steps={STEPS}", "evaluation.every=2", *overrides])
    folder.mkdir(parents=True)
    save_config(config, folder / CONFIG_FILE)
    if recorded:
        score = partial(opinions, seed=config.seed) if judged else no_opinions
        record_stream(folder, config, share=0.5 if judged else 0, score=score)
    steps = STEPS if finished else STEPS // 2
    lines = [json.dumps(row) for step in range(steps + 1) for row in measured(step, config.seed)]
    (folder / METRICS_FILE).write_text("\n".join(lines) + "\n")
    if finished:
        (folder / SUMMARY_FILE).write_text(json.dumps({"steps": steps, "peak_memory_gib": 5.5}))
    return folder


def opinions(rollouts: list[Rollout], seed: int) -> list[StepScores]:
    """Scores of a reward model that has made up its mind about every step, often wrongly."""
    generator = np.random.default_rng([seed, rollouts[0].group])
    return [StepScores(generator.beta(0.6, 0.4, len(rollout.steps)), 1) for rollout in rollouts]


def no_opinions(rollouts: list[Rollout]) -> list[StepScores]:
    """What stands for scores where there is no reward model."""
    return [StepScores(np.zeros(0), 0)] * len(rollouts)


def measured(step: int, seed: int) -> list[dict[str, float]]:
    """The rows that a policy step leaves, and the evaluation after every second one."""
    generator = np.random.default_rng([seed, step])
    rows: list[dict[str, float]] = []
    if step:
        rows.append(
            {
                "step": step,
                "perf/step_seconds": 3.0,
                "perf/rollout_seconds": 0.25,
                "perf/score_seconds": 0.5,
                "perf/annotate_seconds": 2.0,
                "annotation/tokens": 8000.0,
                "reward/outcome": 0.6 + 0.02 * step + 0.05 * generator.random(),
                "reward/mixed_groups": generator.random(),
                "reward/mprm_error": 0.5 - 0.03 * step,
                "selection/seen": 8.0 * step,
                "selection/kept": 0.5,
                "selection/mixture": 0.06,
                "selection/mixture_kept": 0.12,
            }
        )
    if step % 2 == 0:
        accuracy = 0.6 + 0.02 * step + 0.01 * seed
        rows.append(
            {"step": step, "policy/accuracy": accuracy, "mprm/auc_within_kind": 0.5 + 0.06 * step}
            | {"policy/accuracy_low": accuracy - 0.04, "policy/accuracy_high": accuracy + 0.05}
            | {f"policy/accuracy/{source}": accuracy + 0.1 * generator.random() for source in SOURCES}
        )
    return rows
