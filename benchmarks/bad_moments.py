"""Bad moments of which there is nothing to time: each trial sees that runs or commands end as it says, or raises.

Rows of the table that `benchmarks.faults` makes, from the smallest runs there are, with Transformers for an engine.
What mounts something takes root.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.killed_commands import expect, kill_commands
from rl.instruments.study.results import RESULT_FILE
from rl.instruments.study.study_plan import STREAMS
from tests.fixtures.runs import ROOT, SIEVE, SMOKE, Running, checkpoints, environment, metrics, sieve

SMALL = ("engine.kind=hf", "max_staleness=0", "steps=4", "evaluation.prompts=4", "checkpoint_every=1")
STUDY = ROOT / "configs" / "studies" / "smoke.yaml"
FEW_FILES, LITTLE_MEMORY = 256, "64m"


@dataclass(frozen=True)
class Trial:
    """A row of the table.

    Attributes:
        fault, what: What it says.
        see: Sees that it is so, in a folder of its own, or raises.
    """

    fault: str
    what: str
    see: Callable[[Path], None]


def cold(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    """A command with limits of its own, which no process that was started before would have."""
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment(), **options)  # type: ignore[call-overload,no-any-return]


def last_line(said: str) -> str:
    expect("Traceback" not in said, said)
    return said.rstrip().splitlines()[-1]


def train(run: Path) -> tuple[object, ...]:
    """The words of the smallest run."""
    return (sys.executable, SIEVE, "train", SMOKE, f"output_dir={run}", *SMALL)


def want_little(folder: Path) -> None:
    """Few open files, and a small /dev/shm, as containers have it."""
    limit = (FEW_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    done = cold(*train(folder / "files"), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit))
    expect(done.returncode == 0, done.stdout + done.stderr)
    mount = 'mount -t tmpfs -o "size=$0" tmpfs /dev/shm && exec "$@"'
    done = cold("unshare", "--mount", "sh", "-c", mount, LITTLE_MEMORY, *train(folder / "shm"))
    expect(done.returncode == 0, done.stdout + done.stderr)
    expect(metrics(folder / "files") == metrics(folder / "shm"), "other numbers")


def turn_read_only(folder: Path) -> None:
    """The file system is made read-only after a step."""
    run = folder / "run"
    run.mkdir(parents=True)
    running = Running("train", SMOKE, f"output_dir={run}", *SMALL, "steps=500")
    running.wait_for("step 2/")
    with read_only(run):
        code, said = running.end()
        line = last_line(said)
        expect(code == 1 and "Read-only file system" in line and line.endswith(f"train --resume {run}"), said)
    goes_on(run)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Inside, nothing can be opened for writing below a folder; what is open stays so, as on a disk with an error."""
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def goes_on(run: Path, steps: int = 1) -> None:
    """`--resume` takes further steps, each once."""
    before = max(int(name.removeprefix("step-")) for name in checkpoints(run) if name.startswith("step-"))
    done = sieve("train", "--resume", run, f"steps={before + steps}")
    expect(done.returncode == 0, done.stdout + done.stderr)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    taken = [row["step"] for row in rows if "perf/step_seconds" in row]
    expect(taken == list(range(1, before + steps + 1)), f"steps taken: {taken}")


def move_folder(folder: Path) -> None:
    """A run's folder is moved while it runs."""
    run, elsewhere = folder / "run", folder / "elsewhere"
    running = Running("train", SMOKE, f"output_dir={run}", *SMALL, "steps=500")
    running.wait_for("step 2/")
    run.rename(elsewhere)
    code, said = running.end()
    expect(code == 1 and "No such file" in last_line(said) and not run.exists(), said)
    goes_on(elsewhere)


CLOCK = """
import os, time
def ahead(unit, now):
    return lambda: now() + int(open(os.environ["CLOCK"]).read()) * unit
time.time, time.time_ns = ahead(1, time.time), ahead(10**9, time.time_ns)
"""


def set_clock(folder: Path) -> None:
    """All of a run's Python processes see the clock set back by an hour, and then on by three, while it runs."""
    folder.mkdir(parents=True)
    clock, run = folder / "clock", folder / "set"
    clock.write_text("0")
    (folder / "sitecustomize.py").write_text(CLOCK)
    variables = environment(PYTHONPATH=f"{folder}:{ROOT}", CLOCK=str(clock))
    words = [str(word) for word in train(run)]
    with subprocess.Popen(words, cwd=ROOT, env=variables, stdout=subprocess.DEVNULL) as running:
        for step, ahead in ((1, -3600), (3, 7200)):
            while not (run / "checkpoints" / f"step-{step}").exists():
                expect(running.poll() is None, "it ended before the clock was set")
                time.sleep(0.05)
            (folder / "new").write_text(str(ahead))
            (folder / "new").replace(clock)
    expect(running.returncode == 0, f"exit code {running.returncode}")
    done = cold(*train(folder / "plain"))
    expect(done.returncode == 0 and metrics(run) == metrics(folder / "plain"), "other numbers")


def start_twice(folder: Path) -> None:
    """Two starts and two resumes of one folder, at once."""
    run = folder / "run"
    for command in (["train", SMOKE, f"output_dir={run}", *SMALL], ["train", "--resume", run, "steps=6"]):
        both = [Running(*command), Running(*command)]
        ended = sorted(running.end() for running in both)
        expect([code for code, _ in ended] == [0, 2], "\n".join(said for _, said in ended))
        expect("in use by another process" in (line := last_line(ended[1][1])) or "holds a run already" in line, line)
    expect(max(metrics(run)) == 6, "other steps")


def kill_cells(folder: Path) -> None:
    """A study with two workers, each of which is killed while it is at a cell."""
    running = Running("study", STUDY, "--out", folder / "study")
    while len(list((folder / STREAMS).glob(f"*/{RESULT_FILE}"))) < 2:  # its recordings, one a seed
        expect(psutil.pid_exists(running.pid), "it ended before its cells began")
        time.sleep(0.01)
    killed: set[int] = set()
    while len(killed) < 2:
        cells = [process for process in running.workers() if "_timed" in " ".join(process.cmdline())]
        for process in cells[: 2 - len(killed)]:
            killed.add(process.pid)
            process.kill()
    code, said = running.end()
    expect(code == 1 and "Traceback" not in said and "its process died" in said, said)
    done = sieve("study", STUDY, "--out", folder / "study")
    expect(done.returncode == 0 and "4 of 4 cells are finished" in done.stdout, done.stdout + done.stderr)


STOPS = "the run stops with the cause, exit code 1; `--resume` goes on"
TRIALS = {
    "little": Trial(
        f"`ulimit -n {FEW_FILES}`, or a `/dev/shm` of 64 MB",
        "nothing: the run has the numbers of any other",
        want_little,
    ),
    "read_only": Trial("a disk that is made read-only in mid-run", STOPS, turn_read_only),
    "moved": Trial(
        "a run's folder is moved in mid-run",
        "the run stops with the cause, exit code 1, and begins nothing in its old place; `--resume` goes on in the "
        "new one",
        move_folder,
    ),
    "clock": Trial(
        "the clock is set back by an hour, and on by three, in mid-run",
        "nothing: the run has the numbers of any other",
        set_clock,
    ),
    "twice": Trial(
        "two starts, or two resumes, of one folder at once",
        "one of them runs, the other is refused, exit code 2",
        start_twice,
    ),
    "study": Trial(
        "`kill -9` of both workers of a study, each at a cell",
        "the other cells are run; the same command runs those two",
        kill_cells,
    ),
    "commands": Trial(
        "SIGTERM, Ctrl-C and `kill -9`, three times each, at moments by chance, of `annotate`, `select`, "
        "`train-outcome`, `convert-prm`, `export`, `push`, `report`, `try --html`, `eval prm` or `eval policy`",
        "stopped, it says so in one line, exit code 1, and leaves nothing half made; killed, nothing half written is "
        "taken for whole; the same command gives what it would have given, and takes away what was left",
        kill_commands,
    ),
}
