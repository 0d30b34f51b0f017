"""Which signals ask a run, or another command, to stop: those that nobody has it ignore."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards.overdue import is_overdue
from rewards.users_code import in_one_line
from rl.commands.ending import stop_as_on_ctrl_c
from rl.monitoring.console import Console
from rl.train import StopOnSignal
from tests.fixtures.corpus_files import some_file, varied
from tests.fixtures.runs import SIEVE, environment

TOLD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in TOLD}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", TOLD)
def test_each_asks_once_and_is_given_back(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    signal.signal(number, signal.SIG_DFL)
    with StopOnSignal(Console()) as stopped:
        assert not stopped()
        for _ in range(2):  # `timeout` tells the process, and once more all of its group
            signal.raise_signal(number)
            assert stopped()
    assert signal.getsignal(number) is signal.SIG_DFL
    assert capsys.readouterr().out.count("stopping after this step") == 1


@pytest.mark.timeout(method="thread")  # the other one is a timer of its own
def test_the_first_one_ends_a_run_whose_user_keeps_it_waiting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rewards.overdue.SECONDS", 0.01)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with pytest.raises(KeyboardInterrupt), StopOnSignal(Console()) as stopped:
        try:
            with in_one_line("task.verifier mine:verify"):
                while not is_overdue():
                    time.sleep(0.001)
                signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)  # to its group, while it takes leave
            assert stopped()
    said = capsys.readouterr()
    assert "stopping after this step" not in said.out and "mine:verify has been running" in said.err


def test_a_signal_in_the_middle_of_a_line_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes while the run prints: printing from within would be refused by the stream itself."""

    class Interrupted(io.RawIOBase):
        written = b""

        def writable(self) -> bool:
            return True

        def write(self, content: object) -> int:
            if not Interrupted.written:
                Interrupted.written += b"|"
                signal.raise_signal(signal.SIGTERM)
            Interrupted.written += bytes(content)  # type: ignore[call-overload]
            return len(bytes(content))  # type: ignore[call-overload]

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BufferedWriter(Interrupted()), write_through=True))
    console = Console()
    with StopOnSignal(console) as stopped:
        console.say("step 1/3")
        assert stopped()
    sys.stdout.flush()
    assert b"step 1/3" in Interrupted.written and b"stopping after this step" in Interrupted.written


@pytest.mark.parametrize("number", TOLD)
def test_what_is_ignored_stays_ignored(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)  # as `nohup` has it
    with StopOnSignal(Console()) as stopped:
        signal.raise_signal(number)
        assert not stopped()
    assert signal.getsignal(number) is signal.SIG_IGN


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_commands_are_interrupted_once(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_DFL)
    stop_as_on_ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    signal.raise_signal(number)  # to its group
    stop_as_on_ctrl_c()
    assert signal.getsignal(number) is signal.SIG_IGN


def test_a_command_that_is_told_to_end_leaves_nothing_half_made(tmp_path: Path) -> None:
    corpus, temporary, output = tmp_path / "corpus.jsonl", tmp_path / "temporary", tmp_path / "chosen.jsonl"
    some_file(corpus, varied(30_000))
    temporary.mkdir()
    command = [sys.executable, SIEVE, "select", corpus, "--ratio", "0.5", "-o", output]
    process = subprocess.Popen(command, env=environment(TMPDIR=str(temporary)), stderr=subprocess.PIPE, text=True)
    while not any(temporary.glob("sieve-*")):  # and not yet at the empty file by which Python tries the folder out
        assert process.poll() is None
        time.sleep(0.005)
    process.terminate()
    _, said = process.communicate()
    assert (process.returncode, said) == (1, "sieve: stopped; nothing was written\n")
    assert not any(temporary.iterdir()) and {path.name for path in tmp_path.iterdir()} == {corpus.name, temporary.name}
