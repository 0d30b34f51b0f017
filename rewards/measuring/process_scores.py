"""Step scores beside step labels, and the file that carries them from any reward model to the metrics.

One solution a line, ``labels`` in {1, 0, -1} and ``scores`` in [0, 1] of one length:

    {"data_source": "MathVision", "labels": [1, 0, -1], "scores": [0.93, 0.4, 0.12]}

For the first-error metric ``label`` may say the same in ProcessBench's way, and ``data_source`` may be missing. Two
more fields may be there: ``problem``, equal for solutions of one problem, and ``kinds``, ``perception`` or
``reasoning`` (or empty) for each step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rewards.measuring.process_benchmark import (
    Bench,
    BenchmarkError,
    first_error_labels,
    read_objects,
    step_labels,
    text,
)


@dataclass(frozen=True)
class ScoredSolution:
    """What people and a reward model say of the K steps of one solution.

    Attributes:
        source: The data set, or the subset, that it belongs to.
        problem: Equal for solutions of one problem.
        labels: 1 right, -1 wrong, 0 neutral (K,).
        scores: The probability that each step is right (K,), in [0, 1].
        kinds: ``perception``, ``reasoning`` or empty (K).
    """

    source: str
    problem: str
    labels: np.ndarray
    scores: np.ndarray
    kinds: tuple[str, ...]


def read_scores(bench: Bench, file: Path) -> list[ScoredSolution]:
    """The scored solutions of a file.

    Raises:
        BenchmarkError: It cannot be read, or a line is not as the module says; the first one is named.
    """
    solutions = []
    for number, (place, content) in enumerate(read_objects(file), start=1):
        try:
            solutions.append(parse_scores(bench, content, file.stem, str(number)))
        except BenchmarkError as error:
            raise BenchmarkError(f"{place}: {error}") from None
    if not solutions:
        raise BenchmarkError(f"{file} holds no scores")
    return solutions


def parse_scores(bench: Bench, content: dict[str, Any], source: str, problem: str) -> ScoredSolution:
    """One line of such a file; ``source`` and ``problem`` stand in where it may do without.

    Raises:
        BenchmarkError: It is none.
    """
    scores = content.get("scores")
    if not isinstance(scores, list) or not scores:
        raise BenchmarkError("scores is missing; allowed is a list of numbers from 0 to 1")
    for number, score in enumerate(scores, start=1):
        # Written so that it is false for NaN.
        if type(score) not in (int, float) or not 0 <= score <= 1:
            raise BenchmarkError(f"scores: step {number} has {json.dumps(score)}; allowed is a number from 0 to 1")
    first_error = bench == "processbench"
    labels = (
        first_error_labels(content["label"], len(scores))
        if first_error and "label" in content
        else step_labels(content.get("labels"), "labels", len(scores), "scores")
    )
    kinds = content.get("kinds", [""] * len(scores))
    if not isinstance(kinds, list) or len(kinds) != len(scores) or not all(isinstance(kind, str) for kind in kinds):
        raise BenchmarkError(f"kinds: allowed is a list of {len(scores)} texts, one for each of the scores")
    return ScoredSolution(
        source=source if first_error and "data_source" not in content else text(content, "data_source"),
        problem=str(content.get("problem", problem)),
        labels=np.array(labels),
        scores=np.array(scores, dtype=float),
        kinds=tuple(kinds),
    )


def scores_line(solution: ScoredSolution) -> str:
    """The line that `read_scores` reads, with its line break; scores keep every digit."""
    content = {
        "data_source": solution.source,
        "problem": solution.problem,
        "labels": solution.labels.tolist(),
        "scores": solution.scores.tolist(),
    }
    kinds = {"kinds": list(solution.kinds)} if any(solution.kinds) else {}
    return json.dumps(content | kinds) + "\n"
