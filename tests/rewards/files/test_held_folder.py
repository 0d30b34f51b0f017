"""A folder that is held leaves nothing behind, whenever its making is interrupted; the rest is in
``tests/rl/workers/test_ray_folder.py``."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rewards.files.held_folder import hold_new_folder, left_behind


def test_it_is_its_owners_and_nobody_takes_it_away(tmp_path: Path) -> None:
    path, lock = hold_new_folder(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700 and left_behind(tmp_path) == []
    os.close(lock)
    assert left_behind(tmp_path) == [path]


@pytest.mark.parametrize("call", ["mkdir", "open", "write"])
def test_it_is_gone_where_ctrl_c_comes_as_soon_as_it_is_there(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: Callable[..., Any] = getattr(os, call)

    def interrupted(*arguments: Any, **named: Any) -> None:
        done(*arguments, **named)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(os, call, interrupted)
    with pytest.raises(KeyboardInterrupt):
        hold_new_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []
