"""Silence while a library starts, and its last words if it does not."""

from __future__ import annotations

import os
import sys

import pytest

from rl.files.quiet import quiet_stderr


def test_what_is_written_inside_is_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_stderr():
        os.write(2, b"from compiled code\n")
    print("afterwards", file=sys.stderr)
    assert capfd.readouterr().err == "afterwards\n"


def test_it_is_shown_if_the_block_raises(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="it broke"), quiet_stderr():
        os.write(2, b"why it broke\n")
        raise RuntimeError("it broke")
    print("afterwards", file=sys.stderr)
    assert capfd.readouterr().err == "why it broke\nafterwards\n"
