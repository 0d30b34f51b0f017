"""Preference pairs of the grid task: right against wrong demonstrations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rewards.models.encoding import Encoder
from rewards.outcome.preferences import Preference, PreferenceRecord, as_preference
from rl.tasks.grid import GridTask
from rl.tasks.grid_steps import demonstrate, written_answer
from rl.tasks.task import Split

OPERATIONS = ("count", "multiply", "add", "modulo", "compare")


def a_record(task: GridTask, split: Split, index: int, slips: float = 0.3) -> PreferenceRecord:
    """A right demonstration, and one whose slips, so many a step, led to a wrong answer."""
    puzzle, rng = task.puzzle(split, index), np.random.default_rng(index)
    wrong = demonstrate(puzzle, dict.fromkeys(OPERATIONS, slips), rng)
    while written_answer(wrong) == puzzle.answer:
        wrong = demonstrate(puzzle, dict.fromkeys(OPERATIONS, slips), rng)
    return PreferenceRecord(("image.png",), puzzle.question, demonstrate(puzzle), wrong)


def grid_preferences(encoder: Encoder, split: Split, indices: range, slips: float = 0.3) -> list[Preference]:
    task = GridTask()
    return [
        as_preference(a_record(task, split, i, slips), f"{split}/{i}", task.prompt(split, i).images, encoder)
        for i in indices
    ]


def write_preferences(folder: Path, indices: range, **changes: Any) -> Path:
    """The same as a file with its images."""
    task, path = GridTask(), folder / "pairs.jsonl"
    lines = []
    for index in indices:
        task.prompt("train", index).images[0].save(folder / f"{index}.png")
        record = vars(a_record(task, "train", index)) | {"image": f"{index}.png"} | changes
        del record["images"]
        lines.append(json.dumps(record) + "\n")
    path.write_text("".join(lines))
    return path
