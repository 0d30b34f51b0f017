"""Checkpoints are what is named as they are; what else lies beside them is nobody's newest."""

from __future__ import annotations

from pathlib import Path

from rl.files.run_files import CHECKPOINTS, checkpoints, step_of

OTHERS = (
    f"step-{'9' * 200}",
    "step-9999999999999",
    "step-00x",
    "step-0012",
    "step--3",
    "step-+3",
    "step-3.5",
    "step-1_000",
    "step-٣",
    "step-²",
    "step- 7",
    "step-7 ",
    "step-7\n",
    "step-",
    "Step-7",
    ".step-7.partial",
    "step-7.bak",
)


def test_only_checkpoints_are_checkpoints(tmp_path: Path) -> None:
    folder = tmp_path / CHECKPOINTS
    for name in ("step-0", "step-9", "step-10", "step-123456789012", *OTHERS):
        (folder / name).mkdir(parents=True)
    (folder / "step-11").write_text("a file")
    assert [step_of(path) for path in checkpoints(tmp_path)] == [0, 9, 10, 123456789012]
