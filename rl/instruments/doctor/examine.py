"""A check in a process of its own: what it prints, breaks or leaves hanging reaches nothing but its finding."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Literal

import psutil

from rewards.files.held_folder import scratch_folder

SECONDS_TO_LEAVE = 5.0
LONGEST = 400
State = Literal["ok", "warning", "missing"]


def examine(check: Check) -> Finding:
    """What the check finds; ``missing`` where it raised, died, or had not answered by its deadline."""
    # Not a fork of this process, which may have threads: that of a spinner, or of a test's libraries.
    context = get_context("forkserver")
    answers, answer = context.Pipe(duplex=False)
    with scratch_folder() as folder, answers:
        said = folder / "output"
        process = context.Process(target=_look, args=(check, answer, said))
        process.start()
        answer.close()
        try:
            if not answers.poll(check.deadline):
                return Finding("missing", f"no answer within {check.deadline:g} s (deadline)", check.mend)
            finding = answers.recv()
            process.join(SECONDS_TO_LEAVE)
            return finding
        except EOFError:
            process.join()
            return Finding("missing", f"it died with exit code {process.exitcode}{_last_line(said)}", check.mend)
        finally:
            _end(process)


def _look(check: Check, answer: Connection, said: Path) -> None:
    output = os.open(said, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        finding = check.look()
    except (Exception, SystemExit) as error:  # what is broken can fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        finding = Finding("missing", reason[:LONGEST], check.mend)
    answer.send(finding)


def _last_line(said: Path) -> str:
    lines = said.read_text(errors="replace").split("\n") if said.exists() else []
    words = [line.strip() for line in lines if line.strip()]
    return f": {words[-1][:LONGEST]}" if words else ""


def _end(process: ForkServerProcess) -> None:
    """Kill it, if it is still there, with everything that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        there = psutil.Process(process.pid)
        for each in [*there.children(recursive=True), there]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    process.join()


@dataclass(frozen=True)
class Finding:
    """What one check saw.

    Attributes:
        state: ``ok``; ``warning``, a run can start but not as it should; ``missing``, it cannot start.
        found: What is there, in one line.
        mend: The command that mends it; empty where nothing is to be mended.
    """

    state: State
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Check:
    """One question about the machine.

    Attributes:
        name: What is looked at, for the report.
        look: Looks, in a process of its own; whatever it raises becomes a finding.
        deadline: Seconds that it may take.
        mend: The command to try where ``look`` raised, died, or took too long.
    """

    name: str
    look: Callable[[], Finding]
    deadline: float = 30.0
    mend: str = ""
