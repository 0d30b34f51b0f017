"""What a run shows: a live table on a real terminal, plain lines in a pipe."""

from __future__ import annotations

import json
import math
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from rl.monitoring.console import Console
from rl.monitoring.summary import LEFT_BEHIND, summary_lines
from rl.train import _summary

ESCAPE = "\x1b"
PATIENCE = 120.0
"""Seconds for a terminal to be drawn anew, which it is four times a second."""
SHOW = """
import sys
from rl.monitoring.console import Console
console = Console()
def wait():
    sys.stdin.readline()  # until what is there has been drawn
with console.waiting("starting the engines"):
    wait()
with console.training(steps=3, done=1):
    unknown = {"reward/mprm_error": float("nan")}
    console.step(2, 3, unknown | {"reward/outcome": 0.625, "reward/mprm_gap": -0.25, "perf/step_seconds": 1.5})
    with console.waiting("512 held-out prompts"):
        wait()
    console.evaluation(2, {"policy/accuracy": 0.7})
    console.step(3, 3, {"reward/outcome": 0.75, "reward/mprm_gap": 0.5, "mprm/loss": 0.4})
    wait()
with console.progress("prompts", 4, done=1) as advance:
    advance(3)
with console.progress("records", 2, lines=False) as advance:
    advance(2)
console.say("[bold]as it is")
"""


AWAITED = [("starting the engines",), ("2/3", "512 held-out prompts"), ("3/3",)]
"""What is to be drawn before the script goes on, each time that it waits."""


def on_a_terminal(**environment: str) -> str:
    """All that the script writes to a terminal of its own."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW],
        stdin=subprocess.PIPE,
        stdout=slave,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"} | environment,
    )
    os.close(slave)
    assert process.stdin is not None
    written, awaited, until = "", [*AWAITED], time.monotonic() + PATIENCE
    while more := _more(master, until):
        written += more
        while awaited and all(words in written for words in awaited[0]):
            awaited.pop(0)
            process.stdin.write(b"\n")
            process.stdin.flush()
    os.close(master)
    process.stdin.close()
    assert process.wait(timeout=PATIENCE) == 0 and not awaited, (awaited, written)
    return written


def _more(terminal: int, until: float) -> str:
    """What was written since; nothing when the other end is closed, or the time is up."""
    ready, _, _ = select.select([terminal], [], [], max(0.0, until - time.monotonic()))
    try:
        return os.read(terminal, 65536).decode(errors="replace") if ready else ""
    except OSError:
        return ""


def test_a_terminal_has_a_live_table() -> None:
    shown = on_a_terminal()
    assert ESCAPE in shown
    for told in ("starting the engines", "512 held-out prompts", "accuracy 0.700", "this one", "2/3", "3/3", "4/4"):
        assert told in shown, told
    last = re.sub(rf"{ESCAPE}\[[0-9;?]*[A-Za-z]", "", shown[shown.rindex("policy") :])
    heading, first, second = (
        line.split() for line in last.splitlines() if line.split()[:1] in (["step"], ["2"], ["3"])
    )
    assert heading == ["step", "right", "gap", "loss", "s/step"]
    assert first == ["2", "0.62", "-0.25", "1.50"] and second == ["3", "0.75", "+0.50", "0.400"]
    assert "[bold]as it is" in shown


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1", "TERM": "xterm-256color"}])
def test_a_pipe_has_plain_lines(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    assert done.stderr == "" and done.stdout.splitlines() == [
        "starting the engines …",
        "step 2/3  policy right 0.62  MPRM gap -0.25  pace s/step 1.50",
        "512 held-out prompts …",
        "held-out after step 2: accuracy 0.700",
        "step 3/3  policy right 0.75  MPRM gap +0.50 loss 0.400",
        "prompts 4/4",
        "[bold]as it is",
    ]


def test_a_terminal_that_cannot_move_its_cursor_has_lines() -> None:
    assert "step 3/3" in on_a_terminal(TERM="dumb")


def test_what_is_not_known_of_a_step_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    Console().step(1, 3, {"reward/outcome": 0.625, "reward/mprm_gap": -0.25, "reward/mprm_error": float("nan")})
    assert capsys.readouterr().out == "step 1/3  policy right 0.62  MPRM gap -0.25\n"


def test_further_evaluations_are_told_by_their_headlines(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"policy/strategies/majority/2": 0.5, "policy/strategies/majority/8": 0.625, "mprm/bench_auc": 0.75}
    Console().further_evaluation(4, metrics)
    assert capsys.readouterr().out == "after step 4: majority of 8 0.625, mprm/bench_auc 0.750\n"


SUMMARY = {
    "wall_seconds": 90.0,
    "peak_memory_gib": 5.25,
    "policy": {"accuracy_start": 0.5, "accuracy_end": 0.625},
    "mprm": {"auc_start": 0.5}
    | {f"auc_{name}end": 0.9 for name in ("", "standard_error_", "alike_", "plain_", "index_only_")},
    "annotation": {"continuations": 1000, "tokens": 20_000, "fixed_tokens": 80_000},
    "selection": {"seen": 50, "kept": 25},
}


def test_the_summary_says_what_there_is_and_what_to_type(tmp_path: Path) -> None:
    for name in ("config.yaml", "metrics.jsonl"):
        (tmp_path / name).touch()
    told = "\n".join(summary_lines(tmp_path, SUMMARY, "bin/sieve"))
    for part in ("0.500 -> 0.625 (+12.5 points)", "0.500 -> 0.900", "25% of what", "25 of 50", "1.5 minutes, 5.2 GiB"):
        assert part in told, part
    assert [name for name in LEFT_BEHIND if name in told] == ["config.yaml", "metrics.jsonl"]
    assert f"bin/sieve board {tmp_path} " in told and f"bin/sieve report {tmp_path} " in told


def test_the_summary_of_a_run_without_reward_model_is_shorter(tmp_path: Path) -> None:
    without = json.loads(json.dumps(SUMMARY))
    without["mprm"] = dict.fromkeys(SUMMARY["mprm"])
    without["annotation"] = {"continuations": 0, "tokens": 0, "fixed_tokens": 0}
    told = "\n".join(summary_lines(tmp_path, without, "sieve"))
    assert "MPRM" not in told and "labels" not in told and "0.625" in told


def test_what_cannot_be_told_is_null_in_the_file_and_not_in_the_lines(tmp_path: Path) -> None:
    """An area where all held-out steps are right: JSON knows no such number."""
    start = {"policy/accuracy": 0.5, "mprm/auc_plain": math.nan, "mprm/auc_weighted": 0.75}
    ledger = SimpleNamespace(seconds=1.0)
    progress = SimpleNamespace(start=start, step=1, ledger=ledger, continuations=0, tokens=0, fixed_tokens=0)
    said = json.loads(json.dumps(_summary(progress, start, 0, 0, 0.0), allow_nan=False))["mprm"]
    assert [said[f"auc_{name}end"] for name in ("plain_", "", "index_only_")] == [None, 0.75, None]
    told = summary_lines(tmp_path, SUMMARY | {"mprm": SUMMARY["mprm"] | {"auc_standard_error_end": None}}, "sieve")
    assert not any("MPRM" in line for line in told)
