"""A small VisualProcessBench made of the grid task's puzzles."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from rl.tasks.grid import GridTask
from rl.tasks.grid_steps import check_steps, demonstrate


def write_lines(path: Path, contents: Iterable[dict[str, Any]]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(content) + "\n" for content in contents))
    return path


def write_grid_benchmark(folder: Path, solutions: int) -> Path:
    """Solutions with slips; every second one has a second picture, every third a neutral step. Gives the folder."""
    task, rng, lines = GridTask(), np.random.default_rng(0), []
    (folder / "images").mkdir()
    for index in range(solutions):
        prompt, puzzle = task.prompt("heldout", index), task.puzzle("heldout", index)
        text = demonstrate(puzzle, {operation.name: 0.3 for operation in puzzle.operations}, rng)
        steps = text.split("\n")[:-1]
        labels = [1 if truth.so_far else -1 for truth in check_steps(puzzle, steps)]
        labels[0] = 0 if index % 3 == 0 else labels[0]
        prompt.images[0].save(folder / "images" / f"{index}.png")
        images = [f"images/{index}.png"] + (["images/0.png"] if index % 2 else [])
        lines.append(
            {
                "image": images if len(images) > 1 else images[0],
                "question": "".join(f"<image{place + 1}>" for place in range(len(images))) + prompt.question,
                "answer": prompt.answer,
                "response": {"steps": steps, "process_correctness": labels},
                "policy_model": "demonstrate",
                "data_source": prompt.source,
            }
        )
    write_lines(folder / "test.jsonl", lines)
    return folder
