"""A run's folder that is moved away while a checkpoint is written into it: nothing begins in its old place."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rl.checkpoints.checkpoint import Progress
from rl.checkpoints.ledger import Ledger
from rl.config import Config
from rl.errors import CheckpointError
from rl.workers.pending import Ready


class Saving:
    """A worker that makes the folders above what it writes, as Transformers does, perhaps after a move."""

    def __init__(self, moved: tuple[Path, Path] | None = None) -> None:
        self.moved = moved

    def start(self, method: str, folder: Path) -> Ready[None]:
        if self.moved is not None:
            self.moved[0].rename(self.moved[1])
        folder.mkdir(parents=True)
        (folder / "model.safetensors").touch()
        return Ready(None)


def some_parts(learner: Saving) -> Any:
    state = SimpleNamespace(state=dict, under_way=())
    kept = SimpleNamespace(save=lambda folder: [])
    return SimpleNamespace(
        learner=learner, mprm=Saving(), answers=kept, lessons=kept, stream=state, watch=state, labeller=state
    )


def test_a_checkpoint_of_a_folder_that_was_moved_is_none(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir()
    Progress(run, Ledger.new(run)).save(Config(), some_parts(Saving()))
    with pytest.raises(CheckpointError, match=r"step-1 cannot be written: .*No such file or directory"):
        Progress(run, Ledger.new(run), step=1).save(Config(), some_parts(Saving((run, elsewhere))))
    assert not run.exists() and (elsewhere / "checkpoints" / "step-0" / "files.json").exists()
    assert not (elsewhere / "checkpoints" / "step-1").exists()
