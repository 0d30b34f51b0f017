"""Commands that write something, or upload it, stopped and killed at moments by chance, and given once more.

Each is first run to its end. Then it gets SIGTERM, SIGINT and SIGKILL, each at several moments within the time that it
took. A stop says so in one line, with exit code 1, and leaves nothing half made; a kill may, which the same command
takes away when it is run to its end, with what it gives without a kill.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.fixtures.corpus_files import some_file, varied
from tests.fixtures.grid_benchmark import write_grid_benchmark
from tests.fixtures.hub_server import TOKEN, Hub, hub_server
from tests.fixtures.original_internvl_chat import write_original
from tests.fixtures.preference_pairs import write_preferences
from tests.fixtures.runs import SMOKE, Running, sieve

STOPS, KILLS = (signal.SIGTERM, signal.SIGINT), 3
BEFORE_IT_BEGINS = "from rl.cli import main", "_own_server()"
"""In the first tenth of a second it is Python itself that is stopped, or what starts commands here."""
TINY = ("engine.kind=hf", "learner.samples=2", "annotation.continuations=2")


@dataclass(frozen=True)
class Command:
    """What is stopped and killed.

    Attributes:
        words: Of the command that writes into this folder.
        same: Whether it writes the same each time; otherwise it tells how long things took.
        variables: Of its environment.
    """

    words: Callable[[Path], tuple[object, ...]]
    same: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)


def expect(met: bool, said: str) -> None:
    """What a trial has to see.

    Raises:
        RuntimeError: It does not; with what was said.
    """
    if not met:
        raise RuntimeError(f"not as expected:\n{said}")


def kill_commands(folder: Path) -> None:
    """All of them, in a folder of their own."""
    with all_commands(folder) as (commands, hub):
        for name, command in commands.items():
            kill_command(folder / name, command)
        uploaded = {repository: files.keys() for repository, files in hub.files.items()}
        expect(uploaded["me/whole"] == uploaded["me/hurt"] and len(set(hub.messages)) == 1, f"uploaded: {uploaded}")


@contextmanager
def all_commands(folder: Path) -> Iterator[tuple[dict[str, Command], Hub]]:
    """What they work on is made first."""
    folder.mkdir(parents=True)
    corpus, pairs, run = folder / "corpus.jsonl", folder / "pairs", folder / "run"
    bench, original = folder / "bench", folder / "original"
    some_file(corpus, varied(50_000))
    for each in (pairs, bench):
        each.mkdir()
    write_preferences(pairs, range(8))
    write_grid_benchmark(bench, 24)
    write_original(original, "Qwen2ForCausalLM")
    small = (*TINY[:1], "max_staleness=0", "steps=1", "evaluation.prompts=4", "record=true", "workers=inline")
    done = sieve("train", SMOKE, f"output_dir={run}", *small)
    expect(done.returncode == 0, done.stdout + done.stderr)
    judged = ("--path", bench, "--mprm", "grid_policy", "--batch-size", 4)
    with hub_server() as hub:
        uploads = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
        yield (
            {
                "select": Command(lambda out: ("select", corpus, "--ratio", 0.5, "-o", out / "chosen.jsonl")),
                "export": Command(lambda out: ("export", run, out / "model")),
                "report": Command(lambda out: ("report", run, "-o", out / "report.html")),
                "convert-prm": Command(lambda out: ("convert-prm", original, "-o", out / "model")),
                "eval prm": Command(
                    lambda out: ("eval", "prm", *judged, "--save-scores", out / "s.jsonl", "--json", out / "out.json")
                ),
                "push": Command(lambda out: ("push", run, f"me/{out.name}"), variables=uploads),
                "train-outcome": Command(
                    lambda out: ("train-outcome", SMOKE, "--pairs", pairs / "pairs.jsonl", "-o", out / "model")
                ),
                "annotate": Command(
                    lambda out: ("annotate", SMOKE, *TINY, "--prompts", 12, "-o", out / "labelled.jsonl")
                ),
                "try": Command(lambda out: ("try", SMOKE, TINY[0], "--html", out / "try.html"), same=False),
                "eval policy": Command(
                    lambda out: (
                        *("eval", "policy", SMOKE, TINY[0], "--prompts", 12, "--n", 2),
                        *("-o", out / "records.jsonl", "--json", out / "report.json"),
                    ),
                    same=False,
                ),
            },
            hub,
        )


def kill_command(folder: Path, command: Command) -> None:
    """One of them."""
    whole, hurt, scratch = folder / "whole", folder / "hurt", folder / "scratch"
    for each in (whole, hurt, scratch):
        each.mkdir(parents=True)
    variables = {**command.variables, "TMPDIR": str(scratch)}
    began = time.perf_counter()
    finish(command.words(whole), variables)
    seconds, moments = time.perf_counter() - began, random.Random(0)
    for number in (*STOPS * KILLS, *[signal.SIGKILL] * KILLS):
        interrupt(command.words(hurt), variables, number, moments.uniform(0, seconds))
        expect(number == signal.SIGKILL or not left(hurt, scratch), f"left by {number.name}: {left(hurt, scratch)}")
        check_written(hurt, whole, command.same)
    finish(command.words(hurt), variables)
    check_written(hurt, whole, command.same)
    expect(contents(hurt).keys() == contents(whole).keys(), f"other files: {contents(hurt).keys()}")
    expect(not left(hurt, scratch), f"left behind: {left(hurt, scratch)}")


def finish(words: tuple[object, ...], variables: Mapping[str, str]) -> None:
    """A command runs to its end."""
    done = sieve(*words, **variables)
    expect(done.returncode == 0, done.stdout + done.stderr)


def interrupt(words: tuple[object, ...], variables: Mapping[str, str], number: signal.Signals, after: float) -> None:
    """A command gets a signal; a new folder that was done in time is taken away."""
    running = Running(*words, **variables)
    time.sleep(after)
    if psutil.pid_exists(running.pid):
        os.kill(running.pid, number)
    code, said = running.end()
    begun = not any(line in said for line in BEFORE_IT_BEGINS)
    expect("Traceback" not in said or not begun, said)
    if number in STOPS and code and begun:
        expect(code == 1 and said.rstrip().splitlines()[-1].startswith("sieve: stopped"), f"{code}: {said}")
    for word in words:
        if isinstance(word, Path) and word.is_dir() and word.parent.name == "hurt":
            shutil.rmtree(word)


def left(*folders: Path) -> list[str]:
    """What is half made, or nobody's any more."""
    hidden = (path for folder in folders for path in folder.rglob(".*"))
    return [str(path) for path in (*hidden, *folders[-1].glob("sieve-*"))]


def check_written(hurt: Path, whole: Path, same: bool) -> None:
    """What stands there is whole, or, where a journal is beside it, the beginning of it."""
    for name, content in contents(hurt).items():
        right = contents(whole)[name]
        begun = (hurt / f"{name}.progress").exists()
        expect(right.startswith(content) if begun and same else content == right or not same, f"{name} is another")


def contents(folder: Path) -> dict[str, bytes]:
    """What a command has written, hidden files and what says how long it took apart."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.suffix != ".progress"}
