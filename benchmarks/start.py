"""What a run's start takes: seconds until its first policy step is over, and processor seconds, by process.

    python benchmarks/start.py --out runs/start              # three starts of the quickstart, and of the smoke test
    python benchmarks/start.py --imports                     # what each process imports, and nothing else

Processor seconds are those of all processes that the command starts, Ray's own among them. On a machine that has other
things to do they are all that can be compared; `--imports` takes a few of them.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import psutil

CONFIGS = Path(__file__).parents[1] / "configs"
SIEVE = Path(sys.executable).parent / "sieve"
IMPORTS = {
    "controller": "import rl.train",
    "engine": "import os, rl.workers.worker, rl.engines.making, rl.engines.hf_engine; "
    "from rl.engines.vllm_engine import CPU_ENVIRONMENT, ENVIRONMENT; "
    "os.environ.update(ENVIRONMENT | CPU_ENVIRONMENT); import vllm.entrypoints.llm",
    "learner": "import rl.workers.worker, rl.learning.making, rl.learning.learner",
    "reward model": "import rl.workers.worker, rl.reward_models.mprm",
}
AS_A_RUN = "from rl.files.importing import importing"
TOLD = "import sys, time; print(time.process_time(), len(sys.modules))"
MILESTONES = {
    "it begins to start workers": "starting ",
    "the workers begin": "comparing ",
    "the first evaluation is over": "held-out after step 0",
    "the first policy step is over": "step 1/",
}
"""What has happened when a line that begins so is printed."""
SERVERS = "gcs_server", "raylet", "log_monitor", "monitor", "dashboard", "agent"
LOOKS = 0.1
"""Seconds between two."""


def main() -> None:
    """Measure, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/start"), help="folder for the runs")
    parser.add_argument("--configs", nargs="+", default=["quickstart", "smoke"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further settings")
    parser.add_argument("--imports", action="store_true", help="import alone")
    arguments = parser.parse_args()
    if arguments.imports:
        return print_imports(arguments.repeats)
    for config in arguments.configs:
        runs = []
        for number in range(arguments.repeats):
            folder = arguments.out / f"{config}-{number}"
            shutil.rmtree(folder, ignore_errors=True)
            command = [SIEVE, "train", CONFIGS / f"{config}.yaml", f"output_dir={folder}", *arguments.set]
            runs.append(milestones([str(part) for part in command]))
        print_start(config, runs)


def print_imports(repeats: int) -> None:
    """One row a process, medians; all processes by turns."""
    found = defaultdict(list)
    for _ in range(repeats):
        for process, script in IMPORTS.items():
            command = [sys.executable, "-c", f"{AS_A_RUN}\nwith importing(): {script}\n{TOLD}"]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found[process].append([float(number) for number in said.split()])
    print("| process | processor seconds to import | modules |\n|---|---|---|")
    for process, numbers in found.items():
        seconds, modules = (statistics.median(column) for column in zip(*numbers, strict=True))
        print(f"| {process} | {seconds:.1f} | {modules:,.0f} |")


def milestones(command: Sequence[str]) -> dict[str, tuple[float, dict[str, float]]]:
    """Begin a run, and stop it after its first policy step: of each milestone, the seconds since the command, and the
    processor seconds of each process so far."""
    began, spent, names = time.monotonic(), dict[int, float](), dict[int, str]()
    left, printed, seen = dict(MILESTONES), b"", dict[str, tuple[float, dict[int, float]]]()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        while process.poll() is None:
            look(process.pid, spent, names)
            select.select([process.stdout], [], [], LOOKS)
            *lines, printed = (printed + (process.stdout.read() or b"")).split(b"\n")
            reached = [name for name, text in left.items() if any(line.startswith(text.encode()) for line in lines)]
            for milestone in reached:
                del left[milestone]
                seen[milestone] = time.monotonic() - began, dict(spent)
            if reached and not left:
                process.send_signal(signal.SIGTERM)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}")
    return {milestone: (seconds, by_name(then, names)) for milestone, (seconds, then) in seen.items()}


def by_name(spent: dict[int, float], names: dict[int, str]) -> dict[str, float]:
    """The seconds of processes, as they were called in the end: a worker has its name only once it has been called."""
    found = defaultdict[str, float](float)
    for number, seconds in spent.items():
        found[names[number]] += seconds
    return found


def look(command: int, spent: dict[int, float], names: dict[int, str]) -> None:
    """Write down what each process of a command has spent, and what it is."""
    try:
        found = [psutil.Process(command), *psutil.Process(command).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in found:
        try:
            times, line = process.cpu_times(), " ".join(process.cmdline())
        except psutil.Error:  # it has ended
            continue
        spent[process.pid] = times.user + times.system
        name = "controller" if process.pid == command else role(line)
        # A worker begins as a copy of the server that starts it.
        if name != "others" or names.get(process.pid, "Ray's servers") == "Ray's servers":
            names[process.pid] = name


def role(line: str) -> str:
    """What a process is, by its command line; a worker of Ray has its own name there while it is called.

    >>> role("ray::engine 0.sample"), role("ray::mprm.score"), role("ray::_Resident"), role("/bin/gcs_server --log")
    ('engine', 'mprm', 'others', "Ray's servers")
    """
    if called := re.match(r"ray::([a-z_ ]+?)[ 0-9]*\.", line):
        return called[1]
    return "Ray's servers" if re.search(rf"\b({'|'.join(SERVERS)})|ray::\w+Agent", line) else "others"


def print_start(config: str, runs: Sequence[dict[str, tuple[float, dict[str, float]]]]) -> None:
    """Medians of several starts."""
    print(f"\n{config}, {len(runs)} starts, load {os.getloadavg()[0]:.1f} at the end\n")
    print("| | seconds since the command | processor seconds | of which |\n|---|---|---|---|")
    for milestone in MILESTONES:
        seconds = statistics.median(run[milestone][0] for run in runs)
        totals = [sum(run[milestone][1].values()) for run in runs]
        names = sorted({name for run in runs for name in run[milestone][1]})
        parts = {name: statistics.median(run[milestone][1].get(name, 0.0) for run in runs) for name in names}
        of_which = ", ".join(f"{name} {part:.1f}" for name, part in parts.items())
        print(f"| {milestone} | {seconds:.1f} | {statistics.median(totals):.1f} | {of_which} |")


if __name__ == "__main__":
    main()
