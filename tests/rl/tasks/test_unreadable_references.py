"""What a run says of reference answers in files that its verifier cannot read whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rl.config import Config
from rl.tasks.making import make_task, unreadable_references


def config_of(folder: Path, verifier: str, *answers: Any) -> Config:
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    for name in ("train", "heldout"):
        rows = [{"question": "?", "answer": answer, "images": "a.png"} for answer in answers]
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    files = {f"{name}_files": [str(folder / f"{name}.jsonl")] for name in ("train", "heldout")}
    return Config.model_validate({"task": {"name": "files", "verifier": verifier, **files}})


def test_they_are_counted_in_both_splits_and_named(tmp_path: Path) -> None:
    config = config_of(tmp_path, "latex", r"\frac{1}{2}", r"1, 2, \ldots, n")
    line = unreadable_references(config, make_task(config))
    train, heldout = (tmp_path / f"{name}.jsonl" for name in ("train", "heldout"))
    assert line == (
        "task.verifier latex cannot read 2 of 4 reference answers whole and compares them as text:"
        rf" {train}: row 1 '1, 2, \\ldots, n'; {heldout}: row 1 '1, 2, \\ldots, n'"
    )


@pytest.mark.parametrize(("verifier", "answer"), [("numeric", "12 cm"), ("exact", "what"), ("latex", r"\boxed{12}")])
def test_nothing_is_said_where_all_are_read(tmp_path: Path, verifier: str, answer: str) -> None:
    config = config_of(tmp_path, verifier, answer)
    assert unreadable_references(config, make_task(config)) is None


def test_a_task_without_files_has_none() -> None:
    assert unreadable_references(Config(), make_task(Config())) is None
