"""Studies that really run: recorded, replayed and reported; failed in part; stopped in the middle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from rl.instruments.study.results import RESULT_FILE
from tests.fixtures.runs import ROOT, answers, outliving, sieve, warm_python

pytestmark = pytest.mark.slow
SMOKE = ROOT / "configs" / "studies" / "smoke.yaml"
DEADLINE = 300

ANY_STUDY = """
from pathlib import Path
from rl.instruments.study.study_file import Study
study = Study(name="any", question="?", kind="train", config="", seeds=[0], arms={"a": {}}, outcomes=["x"], workers=2)
"""
COUNTED = f"""{ANY_STUDY}
import sys, time
from functools import partial
from rl.instruments.replay.measuring import CellResult
from rl.instruments.study.running import Job, run_jobs

def work(number):
    began = time.time()
    time.sleep(0.5)
    if number == 3:
        raise ValueError("three is\\nnot allowed")
    return CellResult([], {{"began": began, "ended": time.time()}})

folder = Path(sys.argv[1])
jobs = [Job(str(n), folder / str(n), "recipe", {{}}, partial(work, n)) for n in range(6)]
print(run_jobs(jobs, study, "jobs"))
"""
ENDLESS = f"""{ANY_STUDY}
import signal, sys
from functools import partial
from rl.instruments.replay.measuring import CellResult
from rl.instruments.study.running import Job, run_jobs
from rl.instruments.study.running import run_to_its_end

def quick():
    return CellResult([], {{"x": 1.0}})

def endless(log):
    run_to_its_end([sys.executable, "-c", "import time; time.sleep(3600)  # endless"], log)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins with Ctrl-C ignored
folder = Path(sys.argv[1])
jobs = [Job("quick", folder / "quick", "r", {{}}, quick)]
jobs += [Job("endless", folder / "endless", "r", {{}}, partial(endless, folder / "log.txt"))]
run_jobs(jobs, study, "jobs")
"""


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_study_from_its_file_to_its_report(tmp_path: Path) -> None:
    out = tmp_path / "smoke"
    # An arm that is a possible experiment, and asks of the recorded run what it does not hold.
    wrong = "arms={as it is: {}, greedy: {replay.tokens: 100000000}}"
    options = (SMOKE, "--out", out, "seeds=[0]", "matrix={selection.selector: [random, bis]}")
    first = sieve("study", *options, wrong)
    assert first.returncode == 1, first.stdout + first.stderr
    assert "2 failed; finished cells stay" in first.stderr and "2 of 4 cells are finished" in first.stdout
    assert "greedy,selector=bis,seed=0: ConfigError" in first.stderr and "replay.tokens" in first.stderr
    assert "Traceback" not in first.stdout + first.stderr
    finished = {path: path.stat().st_mtime_ns for path in out.rglob(RESULT_FILE)}
    assert len(finished) == 2 and len(list((tmp_path / "streams").glob(f"*/{RESULT_FILE}"))) == 1
    assert not list(tmp_path.rglob("checkpoints")), "of the recorded runs"
    report = (out / "report.md").read_text()
    assert "**failed**: greedy,selector=random,seed=0" in report and "| as it is | bis | 1 |" in report

    again = sieve("study", *options, "arms={as it is: {}}")
    assert again.returncode == 0, again.stderr
    assert "nothing is left to do" in again.stdout and "failed" not in (out / "report.md").read_text()
    assert {path: path.stat().st_mtime_ns for path in out.rglob(RESULT_FILE)} == finished


def test_jobs_share_the_workers_and_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    process = subprocess.run(
        [warm_python(), "-c", COUNTED, str(tmp_path)], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert "{'3': 'ValueError: three is not allowed'}" in process.stdout, process.stderr
    found = [json.loads(path.read_text())["result"]["final"] for path in sorted(tmp_path.rglob(RESULT_FILE))]
    assert len(found) == 5
    for job in found:
        beside = [other for other in found if other["began"] <= job["began"] < other["ended"]]
        assert len(beside) <= 2


def test_ctrl_c_keeps_what_is_finished_and_leaves_no_process(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)], stderr=subprocess.PIPE, text=True)
    endless: list[psutil.Process] = []

    def runs() -> bool:
        children = psutil.Process(process.pid).children(recursive=True)
        endless[:] = [
            child for child, words in answers(children, psutil.Process.cmdline) if "# endless" in " ".join(words)
        ]
        return bool(endless) and (tmp_path / "quick" / RESULT_FILE).exists()

    wait_for(runs)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=DEADLINE)
    assert "KeyboardInterrupt" in said
    assert outliving(endless) == []
    assert [path.parent.name for path in tmp_path.rglob(RESULT_FILE)] == ["quick"]
