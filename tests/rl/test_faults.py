"""Whole runs that lose their workers, their driver, or their patience, or have no workers at all: they end as one that
lost nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.fixtures import warm_server
from tests.fixtures.runs import (
    PATIENCE,
    ROOT,
    SIEVE,
    SMOKE,
    Running,
    answers,
    checkpoints,
    environment,
    metrics,
    outliving,
    sieve,
    warm_python,
)

pytestmark = pytest.mark.slow
OPTIONS = ("engine.kind=hf", "max_staleness=0", "steps=4", "evaluation.prompts=4")
# Lessons of many small batches: the reward model is to be found in the middle of one, on a busy machine, too.
OPTIONS += ("learner.ranks=2", "learner.num_cpus=0.25", "mprm.batch_size=1", "mprm.batches=64")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, float]]:
    """The metrics of a run that nothing happens to."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    process = sieve("train", SMOKE, f"output_dir={run}", *OPTIONS)
    assert process.returncode == 0, process.stderr
    return metrics(run)


def test_a_run_that_loses_worker_after_worker_and_its_driver_is_one_that_loses_none(
    whole: dict[int, dict[str, float]], tmp_path: Path
) -> None:
    """Checkpoints are those before the first and after the second step: steps 1 and 3 are taken twice."""
    run = tmp_path / "hurt"
    running = Running("train", SMOKE, f"output_dir={run}", *OPTIONS)
    running.wait_for("step 1/4")
    running.busy_with("engine 0.sample").kill()
    running.wait_for("beginning anew (1 of 3)")
    running.wait_for("step 2/4")
    running.busy_with("mprm.update").kill()
    running.wait_for("beginning anew (1 of 3)")
    running.wait_for("step 3/4")
    running.busy_with("learner.step").kill()
    running.wait_for("beginning anew (1 of 3)")
    running.wait_for("step 3/4")
    for lost in ("engine 0.sample: the worker died", "mprm.update: the worker died", "learner.step (rank "):
        assert lost in running.said

    children = psutil.Process(running.pid).children(recursive=True)
    assert len(children) > 4, "Ray's own processes, and the workers"
    os.kill(running.pid, signal.SIGKILL)
    assert outliving(children) == []
    assert running.end()[0] == -signal.SIGKILL
    seconds = json.loads((run / "ledger.json").read_text())["seconds"]

    process = sieve("train", "--resume", run)
    assert process.returncode == 0, process.stderr
    assert metrics(run) == whole
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    taken = [line for line in lines if "perf/step_seconds" in line]
    assert [line["step"] for line in taken] == [1, 2, 3, 4], "each once"
    assert [line["perf/recoveries"] for line in taken] == [1, 1, 3, 3], "as of when each step was taken for good"
    passed = [line["perf/wall_seconds"] for line in taken]
    assert passed == sorted(passed) and passed[-1] > seconds, "the killed run counts"
    assert json.loads((run / "summary.json").read_text())["wall_seconds"] >= round(passed[-1], 1)
    assert checkpoints(run) == ["step-2", "step-4"]


def test_a_run_whose_models_live_in_its_own_process_is_that_of_workers_elsewhere(
    whole: dict[int, dict[str, float]], tmp_path: Path
) -> None:
    """Strictly on-policy, where nobody works ahead, and so nothing depends on who is faster."""
    run = tmp_path / "inline"
    process = sieve("train", SMOKE, f"output_dir={run}", *OPTIONS, "learner.ranks=1", "steps=3", "workers=inline")
    assert process.returncode == 0, process.stderr
    inline = metrics(run)
    for step in (0, 1):
        assert inline[step] == pytest.approx(whole[step], rel=1e-3, abs=1e-4)
    assert inline[2].keys() == whole[2].keys()


def test_a_run_whose_ray_dies_says_so_and_how_to_go_on(tmp_path: Path) -> None:
    run = tmp_path / "rayless"
    running = Running("train", SMOKE, f"output_dir={run}", *OPTIONS, "steps=500")
    running.wait_for("step 1/")
    children = psutil.Process(running.pid).children()
    (server,) = (child for child, name in answers(children, psutil.Process.name) if name == "gcs_server")
    workers = running.workers()
    server.kill()
    code, said = running.end()
    assert code == 1 and "Traceback" not in said
    assert f"sieve: Ray's gcs_server (process {server.pid}) died; go on with: " in said.splitlines()[-1]
    assert said.splitlines()[-1].endswith(f"train --resume {run}")
    assert outliving(workers) == []


def test_a_run_that_may_not_begin_anew_stops_with_the_cause(tmp_path: Path) -> None:
    run = tmp_path / "killed"
    running = Running("train", SMOKE, f"output_dir={run}", *OPTIONS, "steps=500", "recovery.attempts=0")
    running.wait_for("step 1/")
    workers = running.workers()
    assert len(workers) >= 4, "an engine, two ranks of the learner, and the reward model"
    for worker in workers:
        worker.kill()
    code, said = running.end()
    assert code == 1 and "Traceback" not in said, said
    last = said.rstrip().splitlines()[-1]
    assert last.startswith("sieve: ") and ": the worker died: " in last and last.endswith(f"train --resume {run}")


def test_a_run_that_timeout_ends_leaves_a_checkpoint_and_no_process(tmp_path: Path) -> None:
    """The command sends its signal twice: to the run, and to all of the group, of which Ray's processes are none."""
    run = tmp_path / "run"
    # What stands in for Python elsewhere is in no group of timeout's: this one imports by itself, and for its workers.
    command = ["timeout", "3600", sys.executable, warm_server.__file__, Path(warm_python()).parent, SIEVE]
    options = [*OPTIONS, "steps=500", "learner.ranks=1", "checkpoint_every=0"]
    with subprocess.Popen(
        [*map(str, command), "train", str(SMOKE), f"output_dir={run}", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment(),
    ) as timeout:
        assert timeout.stdout is not None
        assert any("step 1/" in line for line in timeout.stdout)
        below = psutil.Process(timeout.pid).children(recursive=True)
        groups = answers(below, lambda each: os.getpgid(each.pid))
        assert [each.pid for each, group in groups if group == timeout.pid] == [below[0].pid], "the run alone"
        timeout.terminate()  # it does as when its time is up
        said, _ = timeout.communicate(timeout=PATIENCE)
    assert timeout.returncode == 0 and "--resume" in said and "Traceback" not in said, said
    assert checkpoints(run) == ["step-0", f"step-{max(metrics(run))}"]
    assert outliving(below) == []
