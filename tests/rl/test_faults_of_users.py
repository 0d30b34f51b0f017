"""What a new worker would not mend stops a run: the cause is in its last line, and its last checkpoint resumes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import psutil
import pytest

from tests.fixtures.runs import (
    SMOKE,
    Running,
    checkpoints,
    metrics,
    sieve,
)

OPTIONS = ("engine.kind=hf", "max_staleness=0", "steps=3", "evaluation.prompts=4", "checkpoint_every=1")
SMALL = 64 * 1024
"""Bytes, less than the weights of the smallest model take."""


def last_line(said: str) -> str:
    assert "Traceback" not in said and "beginning anew" not in said, said
    return said.rstrip().splitlines()[-1]


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_one_run_stops_for_one_cause_after_another_and_goes_on_each_time(tmp_path: Path) -> None:
    run = tmp_path / "run"
    # A disk that is full, for the learner.
    running = Running("train", SMOKE, f"output_dir={run}", *OPTIONS)
    running.wait_for("held-out after step 0")
    running.busy_with("learner.step").rlimit(psutil.RLIMIT_FSIZE, (SMALL, psutil.RLIM_INFINITY))
    kept = {name: digests(run / "checkpoints" / name) for name in checkpoints(run)}
    code, said = running.end()
    assert code == 1
    written = checkpoints(run)
    line = last_line(said)
    assert f"step-{len(written)} cannot be written: learner.save: " in line and "File too large" in line
    assert line.endswith(f"train --resume {run}")
    assert written == [f"step-{step}" for step in range(len(written))], "nothing half written"
    assert kept and kept == {name: digests(run / "checkpoints" / name) for name in kept}

    inline = "workers=inline"  # what follows is the same wherever the models live
    verifier = "tests.fixtures.failing_verifier:failing"
    process = sieve("train", "--resume", run, inline, f"task.verifier={verifier}")
    assert process.returncode == 1
    line = last_line(process.stderr)
    assert line.startswith(f"sieve: task.verifier {verifier} failed: ValueError: the oracle is silent; go on with: ")
    assert line.endswith(f"train --resume {run}")
    done = max(metrics(run))
    assert done >= 1 and f"step-{done}" in checkpoints(run)

    selector = "tests.fixtures.own_selector:failing"
    process = sieve("train", "--resume", run, inline, "task.verifier=exact", f"selection.selector={selector}")
    assert process.returncode == 1
    line = last_line(process.stderr)
    assert line.startswith(f"sieve: selection.selector {selector} failed: RuntimeError: no idea what is informative; ")
    assert max(metrics(run)) == done and f"step-{done}" in checkpoints(run)
