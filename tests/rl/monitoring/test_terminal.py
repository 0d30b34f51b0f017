"""Progress as lines, where there is no terminal."""

from __future__ import annotations

import time

import pytest

from rl.monitoring.terminal import progress_bar


def test_lines_are_few_and_the_last_one_comes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress_bar("prompts", 1000, done=400) as advance:
        for _ in range(6):
            now += 2
            advance(100)
    # 300 in 6 seconds leave 300, and 6 seconds; then 200 more in 4.
    assert capsys.readouterr().out == "prompts 700/1,000  0:00:06 left\nprompts 1,000/1,000\n"
