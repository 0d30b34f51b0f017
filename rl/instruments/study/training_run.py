"""A cell that is a whole training run: `sieve train` in a process of its own, and what its metrics come to."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from rewards.files.json_text import read_json_file
from rl.config import Config, load_config, save_config
from rl.errors import ConfigError
from rl.files.folders import only_one
from rl.files.run_files import CHECKPOINTS, CONFIG_FILE, METRICS_FILE, SUMMARY_FILE, checkpoints
from rl.instruments.replay.measuring import CellResult, area_under_curve
from rl.instruments.study.arms import recipe_of
from rl.instruments.study.running import SECONDS_TO_STOP, run_to_its_end
from rl.monitoring.metrics_file import metric_rows

RUN, LOG_FILE = "run", "log.txt"
ACCURACY = "policy/accuracy"


class TrainingFailedError(RuntimeError):
    """A training run did not take all its steps; the message has its last line."""


def train_cell(config: Config, folder: Path) -> CellResult:
    """Train in ``folder/run``, from the newest checkpoint if an interrupted run of the same experiment left one.

    Checkpoints are deleted once the run is finished. Its own Ray is started and ended with it.

    Raises:
        TrainingFailedError: It did not take all its steps; its words are in ``folder/log.txt``.
        ConfigError: A run of a study that was killed is still at work there, and does not stop.
    """
    run, log = folder / RUN, folder / LOG_FILE
    folder.mkdir(parents=True, exist_ok=True)
    if run.exists():
        with only_one(run, SECONDS_TO_STOP):
            pass
    is_known = _is_of(run, config)
    if is_known and (run / SUMMARY_FILE).exists():  # what came after it was interrupted
        shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)
        return training_result(run, config)
    if is_known and checkpoints(run):
        arguments = ["--resume", str(run)]
    else:
        shutil.rmtree(run, ignore_errors=True)
        given = folder / CONFIG_FILE
        save_config(config.model_copy(update={"output_dir": str(run)}), given)
        arguments = [str(given)]
    code = run_to_its_end([str(Path(sys.executable).parent / "sieve"), "train", *arguments], log)
    if code or not (run / SUMMARY_FILE).exists():
        raise TrainingFailedError(f"sieve train ended with exit code {code}: {_last_words(log)}; see {log}")
    shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)
    return training_result(run, config)


def training_result(run: Path, config: Config) -> CellResult:
    """What a finished run's ``metrics.jsonl`` comes to.

    The curve has every metric by policy step, and what had been spent by then: ``rollouts`` that the learner was given,
    ``tokens`` sampled (rollouts and continuations), and ``seconds`` of policy steps, evaluations left out. The final
    numbers are those of the last held-out evaluation, as ``area/…`` the area under the curve over policy steps of each,
    and what was spent in all.

    Raises:
        TrainingFailedError: Nothing was evaluated.
        ConfigError: A line is broken.
    """
    lines = metric_rows(run)
    rows: dict[int, dict[str, float]] = {}
    for line in lines:
        rows.setdefault(int(line["step"]), {}).update(line)
    spent = {"rollouts": 0.0, "tokens": 0.0, "seconds": 0.0}
    for step, row in sorted(rows.items()):
        seconds = row.get("perf/step_seconds", 0.0)
        spent["rollouts"] = float(step * config.learner.prompts * config.learner.samples)
        spent["tokens"] += row.get("perf/tokens_per_second", 0.0) * seconds
        spent["seconds"] += seconds
        row.update(spent)
    evaluations = [line for line in lines if ACCURACY in line]
    if not evaluations:
        raise TrainingFailedError(f"{run / METRICS_FILE} has no evaluation: no line with {ACCURACY}")
    # Labels that were still late at the end have no policy step of their own.
    counted = sum(row.get("annotation/tokens", 0.0) for row in rows.values())
    spent["tokens"] += read_json_file(run / SUMMARY_FILE).get("annotation", {}).get("tokens", counted) - counted
    steps = [line["step"] for line in evaluations]
    final = {name: value for name, value in evaluations[-1].items() if name != "step"}
    throughout = [name for name in final if all(name in line for line in evaluations)]
    areas = {f"area/{name}": area_under_curve(steps, [line[name] for line in evaluations]) for name in throughout}
    return CellResult([row for _, row in sorted(rows.items())], final | areas | spent)


def _is_of(run: Path, config: Config) -> bool:
    """Whether there is a run of this experiment."""
    try:
        return recipe_of(load_config(run / CONFIG_FILE)) == recipe_of(config)
    except ConfigError:
        return False


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = [line.removeprefix("sieve: ") for line in lines if line.startswith("sieve: ")]
    return (said or lines or ["it said nothing"])[-1]
