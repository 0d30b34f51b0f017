"""Whether a long run stays as small as it was, as a table and a picture.

    python -m benchmarks.flatness --out runs/flatness             # 500 policy steps
    python -m benchmarks.flatness --out runs/flatness --report    # from what is there

The smallest run there is, with Transformers for an engine, checkpoints and a recorded stream, on a few prompts that
come round again (each process remembers encoded prompts, up to 1 GiB of them), is looked at from outside every few
seconds: memory (proportional set size) and open files of its driver, of Ray's servers and of the workers; the folders
of its Ray, of the run, of its newest checkpoint. What grows from policy step 50 on, by how much, is told.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import get_args

import numpy as np
import psutil

from rl.errors import ConfigError
from rl.files.run_files import checkpoints
from rl.monitoring.metrics_file import policy_steps
from rl.tasks.grid import GridTask
from rl.tasks.task import Split
from tests.fixtures.runs import SIEVE, SMOKE, environment

STEPS, SETTLED, SECONDS_BETWEEN_LOOKS = 500, 50, 5.0
PROMPTS = 32
OPTIONS = ("engine.kind=hf", f"steps={STEPS}", "checkpoint_every=25", "keep_checkpoints=2", "record=true")
SMALL = ("learner.prompts=2", "annotation.continuations=2")
HELD_OUT = ("evaluation.prompts=4", "evaluation.every=0", "selection.capacity=32", "mprm.guard_capacity=16")
MIB = 2**20
PANELS = {"memory, MiB": "memory", "open files": "files", "on the disk, MiB": "disk"}

Look = dict[str, float]
"""What is seen at one moment, by ``PANEL/NAME``, and the policy ``step``."""


def write_prompts(folder: Path, split: Split) -> Path:
    """A table of a few of the grid's prompts."""
    folder.mkdir(exist_ok=True)
    task, table = GridTask(), folder / f"{split}.jsonl"
    with table.open("w") as file:
        for number in range(PROMPTS):
            prompt, picture = task.prompt(split, number), f"{split}-{number}.png"
            prompt.images[0].save(folder / picture)
            row = {"question": prompt.question, "answer": prompt.answer, "images": [picture]}
            file.write(json.dumps(row) + "\n")
    return table


def watch(run: Path, log: Path) -> Iterator[Look]:
    """Run it, and look at it until it ends."""
    train, heldout = (write_prompts(run.with_name("prompts"), split) for split in get_args(Split))
    task = ("task.name=files", f"task.train_files=[{train}]", f"task.heldout_files=[{heldout}]")
    command = [sys.executable, SIEVE, "train", SMOKE, f"output_dir={run}", *task, *OPTIONS, *SMALL, *HELD_OUT]
    with log.open("w") as said:
        process = subprocess.Popen([*map(str, command)], stdout=said, stderr=subprocess.STDOUT, env=environment())
    driver = psutil.Process(process.pid)
    while process.poll() is None:
        with suppress(psutil.Error, OSError, ConfigError):
            yield {"step": policy_steps(run)[-1]["step"]} | of_processes(driver) | on_disk(driver, run)
        with suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_BETWEEN_LOOKS)
    if process.returncode:
        raise SystemExit(log.read_text())


def of_processes(driver: psutil.Process) -> Look:
    """Memory and open files of each kind of process."""
    found: Look = defaultdict(float)
    for process in (driver, *driver.children(recursive=True)):
        with suppress(psutil.Error):
            kind, memory, files = kind_of(process, driver), process.memory_full_info().pss, process.num_fds()
            found[f"memory/{kind}"] += memory / MIB
            found[f"files/{kind}"] += files
    return dict(found)


def kind_of(process: psutil.Process, driver: psutil.Process) -> str:
    """A worker's name, or what the process is to the run."""
    if process == driver:
        return "driver"
    title = process.cmdline()[0] if process.cmdline() else process.name()
    return "workers" if title.startswith("ray::") else "Ray's servers"


def on_disk(driver: psutil.Process, run: Path) -> Look:
    """The sizes of folders."""
    rays = {Path(path).parents[0] for path in ray_folders(driver)}
    newest = checkpoints(run)[-1:]
    return {
        "disk/Ray's folder": sum(map(size_of, rays)) / MIB,
        "disk/a checkpoint": sum(map(size_of, newest)) / MIB,
        "disk/the run without its stream": (size_of(run) - size_of(run / "stream")) / MIB,
    }


def ray_folders(driver: psutil.Process) -> set[str]:
    """The folder that Ray's servers were started with."""
    marked = (word for child in driver.children() for word in child.cmdline() if "sieve-" in word and "/r/" in word)
    return {word.partition("=")[2].partition("/r/")[0] + "/r" for word in marked if "=" in word}


def size_of(folder: Path) -> int:
    """Bytes of its files."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(OSError):
            total += file.lstat().st_size if not file.is_dir() else 0
    return total


def growth(looks: list[Look]) -> dict[str, tuple[float, float]]:
    """Of each thing, what it was just after it had settled, and at the end: medians over a tenth of the steps."""
    end = looks[-1]["step"]
    tenth = (end - SETTLED) / 10
    early = [look for look in looks if SETTLED <= look["step"] < SETTLED + tenth]
    late = [look for look in looks if look["step"] > end - tenth]
    names = sorted({name for look in looks for name in look if name != "step"})
    return {name: (median(early, name), median(late, name)) for name in names}


def median(looks: list[Look], name: str) -> float:
    return float(np.median([look[name] for look in looks if name in look] or [np.nan]))


def table(found: Mapping[str, tuple[float, float]]) -> str:
    """What it was, and what it is; a tenth of the steps after it had settled, and the last tenth."""
    lines = [f"| {name} | {was:.2f} | {now:.2f} | {now / was - 1:+.1%} |" for name, (was, now) in found.items()]
    return "\n".join([f"| | from step {SETTLED} on | at the end | growth |", "|---|---|---|---|", *lines])


def draw(looks: list[Look], file: Path) -> None:
    """One panel a kind of thing, over the policy steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3), layout="constrained")
    for place, (title, prefix) in enumerate(PANELS.items(), start=1):
        axes = figure.add_subplot(1, 3, place)
        for name in sorted({name for look in looks for name in look if name.startswith(f"{prefix}/")}):
            there = [look for look in looks if name in look]
            axes.plot([look["step"] for look in there], [look[name] for look in there], label=name.partition("/")[2])
        axes.set(ylabel=title, xlabel="policy step", ylim=(0, None))
        axes.legend(fontsize="small", frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder for the run")
    parser.add_argument("--report", action="store_true", help="run nothing, report what is there")
    arguments = parser.parse_args()
    out: Path = arguments.out.absolute()
    kept, run = out / "looks.jsonl", out / "run"
    if not arguments.report:
        out.mkdir(parents=True)
        with kept.open("w", buffering=1) as file:
            for look in watch(run, out / "log.txt"):
                file.write(json.dumps(look) + "\n")
    seen: list[Look] = [json.loads(line) for line in kept.read_text().splitlines()]
    looks = [look for look in seen if "memory/workers" in look]  # while the run ends, there are none
    draw(looks, out / "flatness.png")
    print(table(growth(looks)))


if __name__ == "__main__":
    main()
