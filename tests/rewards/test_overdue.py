"""A user's part that does not come back is named in one line."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from threading import Thread

import pytest

from rewards.overdue import is_overdue
from rewards.users_code import UsersCodeError, in_one_line

pytestmark = pytest.mark.timeout(method="thread")  # the other one is a timer of its own


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A twentieth of a second is too long, and afterwards signals are heard as before."""
    monkeypatch.setattr("rewards.overdue.SECONDS", 0.05)
    monkeypatch.setattr("rewards.overdue._named", set())
    before = signal.getsignal(signal.SIGALRM)
    yield
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0) and not is_overdue()


def wait() -> None:
    while not is_overdue():
        time.sleep(0.001)


def match_slowly() -> None:
    """A regular expression that holds all other threads up."""
    length = 16
    while not is_overdue():
        re.match(r"(a+)+$", "a" * length + "b")
        length += 1


@pytest.mark.parametrize("hang", [wait, match_slowly])
def test_it_is_named_once(hang: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with in_one_line("task.verifier mine:verify"):
            hang()
    said = "sieve: task.verifier mine:verify has been running for 0.05 s, and is waited for; Ctrl-C now stops at once\n"
    assert capsys.readouterr().err == said


def test_what_comes_back_is_not_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("rewards.overdue.SECONDS", 3600)
    with in_one_line("mine"):
        pass
    with pytest.raises(UsersCodeError, match=r"^mine failed: ValueError: no$"), in_one_line("mine"):
        raise ValueError("no")
    assert capsys.readouterr().err == ""


def test_the_outer_of_two_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with in_one_line("outer"), in_one_line("inner"):
        wait()
    assert "outer has been running" in capsys.readouterr().err


def test_other_threads_call_it_without_a_word() -> None:
    raised: list[BaseException] = []

    def call() -> None:
        try:
            with in_one_line("mine"):
                raise ValueError("no")
        except UsersCodeError as error:
            raised.append(error)

    thread = Thread(target=call)
    thread.start()
    thread.join()
    assert [str(error) for error in raised] == ["mine failed: ValueError: no"]
