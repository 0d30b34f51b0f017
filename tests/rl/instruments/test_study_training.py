"""Cells that are training runs: a process that ends when it should, and what its metrics come to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from rl.config import Config, save_config
from rl.errors import ConfigError
from rl.files.folders import only_one
from rl.files.run_files import CHECKPOINTS, CONFIG_FILE, METRICS_FILE, SUMMARY_FILE
from rl.instruments.study.running import run_to_its_end
from rl.instruments.study.training_run import RUN, TrainingFailedError, train_cell, training_result

PARENT = """
import signal, sys
from pathlib import Path
from rl.instruments.study.running import run_to_its_end
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins with Ctrl-C ignored
child = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(3600)"
run_to_its_end([sys.executable, "-c", child], Path(sys.argv[1]))
"""
DEADLINE = 120


def test_a_command_runs_to_its_end_with_a_ray_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:1")
    child = "import os, sys; print([name for name in os.environ if name.startswith('RAY_')]); sys.exit(7)"
    assert run_to_its_end([sys.executable, "-c", child], tmp_path / "log") == 7
    assert (tmp_path / "log").read_text() == "[]\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_command_does_not_outlive_who_runs_it(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(log)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + DEADLINE
        while not (log.exists() and log.read_text().endswith("\n")):
            assert time.monotonic() < deadline and parent.poll() is None
            time.sleep(0.1)
        child = psutil.Process(int(log.read_text()))
        parent.send_signal(number)
        assert parent.wait(DEADLINE) != 0
        child.wait(DEADLINE)
    finally:
        parent.kill()


def test_a_run_whose_result_is_missing_is_not_run_again(tmp_path: Path) -> None:
    """As when the disk was full for it alone."""
    config, run = Config(), tmp_path / RUN
    (run / CHECKPOINTS / "step-1").mkdir(parents=True)
    save_config(config, run / CONFIG_FILE)
    (run / SUMMARY_FILE).write_text("{}")
    (run / METRICS_FILE).write_text('{"step": 0, "policy/accuracy": 0.25}\n')
    assert train_cell(config, tmp_path).final["policy/accuracy"] == 0.25
    assert not (run / CHECKPOINTS).exists()


def test_a_run_that_is_still_at_work_is_left_alone_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a study that was killed, and started again with another configuration."""
    (tmp_path / RUN / CHECKPOINTS / "step-1").mkdir(parents=True)
    monkeypatch.setattr("rl.instruments.study.training_run.SECONDS_TO_STOP", 0.2)
    with only_one(tmp_path / RUN), pytest.raises(ConfigError, match="is in use by another process"):
        train_cell(Config(), tmp_path)
    assert (tmp_path / RUN / CHECKPOINTS / "step-1").exists()

    monkeypatch.setattr("rl.instruments.study.training_run.SECONDS_TO_STOP", DEADLINE)
    save_config(Config(), tmp_path / RUN / CONFIG_FILE)
    with ExitStack() as at_work, ThreadPoolExecutor() as pool:
        at_work.enter_context(only_one(tmp_path / RUN))
        cell = pool.submit(train_cell, Config(), tmp_path)
        time.sleep(0.5)
        assert not cell.done()
        (tmp_path / RUN / METRICS_FILE).write_text('{"step": 0, "policy/accuracy": 0.25}\n')
        (tmp_path / RUN / SUMMARY_FILE).write_text("{}")
        at_work.close()
        assert cell.result(DEADLINE).final["policy/accuracy"] == 0.25, "what it had to say is the result"


def test_a_run_that_was_never_evaluated_is_named(tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text('{"step": 1, "perf/step_seconds": 2.0}\n')
    with pytest.raises(TrainingFailedError, match=r"metrics\.jsonl has no evaluation: no line with policy/accuracy"):
        training_result(tmp_path, Config())


def test_a_training_run_becomes_curves_and_totals(tmp_path: Path) -> None:
    lines = [
        {"step": 0, "policy/accuracy": 0.2, "mprm/auc_plain": 0.5},
        {"step": 1, "perf/step_seconds": 2.0, "perf/tokens_per_second": 50.0, "reward/outcome": 0.3},
        {"step": 2, "perf/step_seconds": 3.0, "perf/tokens_per_second": 100.0, "annotation/tokens": 90.0},
        {"step": 2, "policy/accuracy": 0.4},
        {"step": 4, "policy/accuracy": 0.6, "mprm/auc_plain": 0.9},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / SUMMARY_FILE).write_text('{"annotation": {"tokens": 120}}')
    found = training_result(tmp_path, Config.model_validate({"learner": {"prompts": 4, "samples": 8}}))
    assert found.final["area/policy/accuracy"] == pytest.approx(0.4) and found.final["policy/accuracy"] == 0.6
    assert "area/mprm/auc_plain" not in found.final, "it was not measured throughout"
    spent = found.final["rollouts"], found.final["tokens"], found.final["seconds"]
    assert spent == (128, 430, 5), "with labels that were late at the end"
    assert found.curve[2] == {
        "step": 2,
        "policy/accuracy": 0.4,
        "perf/step_seconds": 3.0,
        "perf/tokens_per_second": 100.0,
        "annotation/tokens": 90.0,
        "rollouts": 64,
        "tokens": 400,
        "seconds": 5,
    }
