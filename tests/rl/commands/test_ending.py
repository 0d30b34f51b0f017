"""One place says how a command ends: which error has which exit code, in one line; and what `--help` imports."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import typer

from rl.cli import main
from rl.commands.ending import MODEL_FAILURES, fail, one_line
from rl.errors import ConfigError, WorkerError


class AskedError(Exception):
    """What a command names beside the configuration's."""


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ConfigError("seed: -1"), 2, "seed: -1"),
        (AskedError("--ratio 2"), 2, "--ratio 2"),
        (ConfigError("row 1: id a\x1b[31m\n\x9b\u202eb\ud800 é😀"), 2, r"row 1: id a\x1b[31m\n\x9b\u202eb\ud800 é😀"),
        (WorkerError("the engine\n  died"), 1, "the engine died; it goes on"),
        (OSError(28, "No space left on device"), 1, "[Errno 28] No space left on device; it goes on"),
        (KeyboardInterrupt(), 1, "stopped; it goes on"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, one_line("it goes on", wrong=(AskedError,)):
        raise error
    assert (caught.value.exit_code, capsys.readouterr().err) == (code, f"sieve: {told}\n")


@pytest.mark.parametrize("error", [ValueError("of the program"), AskedError(), KeyError("x")])
def test_errors_of_the_program_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)), one_line("it goes on"):
        raise error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_a_command_still_imports_is_a_line(
    number: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr("rl.commands.try_out.quieten_libraries", lambda: signal.raise_signal(number))
    monkeypatch.setattr(sys, "argv", ["sieve", "try", "x.yaml"])
    try:
        with pytest.raises(SystemExit) as caught:
            main()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert (caught.value.code, capfd.readouterr().err) == (1, "sieve: stopped\n")


def test_a_stop_after_all_is_done_is_not_heard() -> None:
    stop = "lambda: [signal.raise_signal(number) for number in (signal.SIGINT, signal.SIGTERM)]"
    script = f"import atexit, signal\natexit.register({stop})\nfrom rl.cli import main\nmain()"
    command = [sys.executable, "-c", script, "steps", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "") and "Usage" in done.stdout


def test_a_model_fails_in_more_ways(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), one_line(failed=MODEL_FAILURES):
        raise ValueError("no such head")
    assert capsys.readouterr().err == "sieve: no such head\n"


def test_what_is_there_is_asked_for_only_then(capsys: pytest.CaptureFixture[str]) -> None:
    made: list[str] = []
    with one_line(lambda: pytest.fail("nothing failed")):
        pass
    with pytest.raises(typer.Exit), one_line(lambda: f"{len(made)} made", stopped="stopped at once"):
        made.append("a step")
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "sieve: stopped at once; 1 made\n"


def test_what_is_said_already_is_not_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, one_line("it goes on"):
        fail("the watch stopped it", 1)
    assert (caught.value.exit_code, capsys.readouterr().err) == (1, "sieve: the watch stopped it\n")


def test_help_imports_nothing_heavy() -> None:
    """Of Sieve, and of every command."""
    script = (
        "import sys\nfrom typer.main import get_command\nfrom typer.testing import CliRunner\nfrom rl.cli import app\n"
        "evaluations = get_command(app).commands['eval']\n"
        "lines = [[], *([name] for name in get_command(app).commands), *(['eval', name] for name in "
        "evaluations.commands)]\n"
        "for line in lines:\n"
        "    said = CliRunner().invoke(app, [*line, '--help'])\n"
        "    assert said.exit_code == 0 and 'Usage' in said.output, said.output\n"
        "print(len(lines), {'numpy', 'yaml', 'psutil', 'safetensors', 'torch', 'transformers', 'vllm', 'ray', "
        "'pyarrow', 'PIL', 'tensorboard', 'matplotlib'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed == "20 set()\n"
