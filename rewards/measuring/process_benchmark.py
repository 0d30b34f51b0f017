"""Benchmarks of process reward models: solutions whose steps people judged, in the published files.

VisualProcessBench (arXiv 2503.10291, section 5), one solution a line:

    {"image": ["images/7.png", …], "question": …, "answer": …, "policy_model": …, "data_source": "MathVision",
     "response": {"steps": […, …], "process_correctness": [1, -1, …]}}

Image paths are relative to the file's folder, and must not lead out of it; a single path may stand for a list of one.
A step is right (1), wrong (-1) or neutral (0): neutral steps are context, and no part of any metric.

ProcessBench (arXiv 2412.06559), one file a subset, a solution a line or all in one list:

    {"id": "gsm8k-0", "generator": …, "problem": …, "steps": […, …], "final_answer_correct": false, "label": 3}

``label`` is the index of the first wrong step, from 0; -1 where every step is right. Said in step labels: the steps
before it are right, it is wrong, and nothing is known of those after it, which are neutral. ``image`` is allowed, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, get_args

from rewards.files.images import UnreadableImageError, image_path
from rewards.files.json_text import read_record
from rewards.files.plain_text import UnreadableTextError, named_kind, open_lines

Bench = Literal["visualprocessbench", "processbench"]
BENCHES: tuple[Bench, ...] = get_args(Bench)
SUFFIXES: dict[Bench, tuple[str, ...]] = {
    "visualprocessbench": (".jsonl", ".parquet"),
    "processbench": (".jsonl", ".json", ".parquet"),
}
"""Compression apart."""

PLACEHOLDER = re.compile(r"<image\s*\d*>")
"""Where a question refers to its images; a model's chat template has its own way to."""

RIGHT, NEUTRAL, WRONG = 1, 0, -1


class BenchmarkError(ValueError):
    """A file, a line or an option of an evaluation is wrong; one line that names it, the value and what is allowed."""


@dataclass(frozen=True)
class Solution:
    """One solution and what people say of its K steps.

    Attributes:
        place: File and line, for messages; unique in a benchmark.
        source: The data set, or the subset, that it belongs to.
        problem: Digest of question and images: solutions of one problem share it.
        question: What was asked, without image placeholders.
        images: Paths of its images.
        steps: Text of each step (K).
        labels: 1 right, -1 wrong, 0 neutral (K).
    """

    place: str
    source: str
    problem: str
    question: str
    images: tuple[Path, ...]
    steps: tuple[str, ...]
    labels: tuple[int, ...]


def benchmark_files(bench: Bench, path: Path) -> list[Path]:
    """The files of a benchmark: those of a folder, by name; or one file.

    Raises:
        BenchmarkError: There is none.
    """
    kinds = " or ".join(f"*{suffix}" for suffix in SUFFIXES[bench])
    if not path.exists():
        raise BenchmarkError(f"{path} does not exist; allowed is a folder with {kinds}")
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if named_kind(file) in SUFFIXES[bench] and file.is_file())
    if not files:
        raise BenchmarkError(f"{path} has no {kinds}")
    return files


def read_benchmark(bench: Bench, path: Path) -> list[Solution]:
    """All solutions, in file order. Images are named, not opened.

    Raises:
        BenchmarkError: A file cannot be read, or a solution is not as published; the first one is named.
    """
    parse = {"visualprocessbench": _visual_process, "processbench": _process}[bench]
    solutions = [
        _placed(parse, file, place, content)
        for file in benchmark_files(bench, path)
        for place, content in read_objects(file)
    ]
    if not solutions:
        raise BenchmarkError(f"{path} holds no solution")
    return solutions


def read_objects(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON objects of a file with their places: lines, or entries of one list, from 1 on; blank lines do not count.
    See `rewards.files.plain_text.open_lines`.

    Raises:
        BenchmarkError: The file cannot be read, or something in it is no JSON object.
    """
    try:
        with open_lines(file) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    place = f"{file}:{number}"
                    entry = _json(place, line)
                    if not isinstance(entry, dict):
                        raise BenchmarkError(f"{place}: {_short(entry)} is not a JSON object")
                    yield place, entry
    except UnreadableTextError as error:
        raise BenchmarkError(f"{file} cannot be read: {error}") from None
    except OSError as error:
        raise BenchmarkError(f"{file} cannot be read: {error.strerror}") from None


def text(content: dict[str, Any], key: str) -> str:
    """A text that must be there.

    Raises:
        BenchmarkError: It is not.
    """
    value = content.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BenchmarkError(f"{key} is {_short(value)}; allowed is a text")
    return value


def step_labels(value: Any, key: str, steps: int, against: str) -> tuple[int, ...]:
    """A list of labels, one for each of so many steps, which the field ``against`` has.

    Raises:
        BenchmarkError: It is not.
    """
    if not isinstance(value, list):
        raise BenchmarkError(f"{key} is {_short(value)}; allowed is a list of 1, 0 and -1")
    for number, label in enumerate(value, start=1):
        if isinstance(label, bool) or label not in (RIGHT, NEUTRAL, WRONG):
            raise BenchmarkError(f"{key}: step {number} has label {_short(label)}; allowed is 1, 0 or -1")
    if len(value) != steps:
        raise BenchmarkError(f"{key} has {len(value)} entries for {steps} {against}; there must be one for each")
    return tuple(int(label) for label in value)


def first_error_labels(value: Any, steps: int) -> tuple[int, ...]:
    """Labels of so many steps, given the index of the first wrong one, or -1.

    Raises:
        BenchmarkError: It is no such index.

    >>> first_error_labels(1, 4), first_error_labels(-1, 2)
    ((1, -1, 0, 0), (1, 1))
    """
    if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value < steps:
        raise BenchmarkError(
            f"label is {_short(value)}; allowed is the index of the first wrong step, 0 to {steps - 1}, or -1 for none"
        )
    return (RIGHT,) * steps if value < 0 else (RIGHT,) * value + (WRONG,) + (NEUTRAL,) * (steps - value - 1)


def _placed(parse: Callable[[Path, str, Any], Solution], file: Path, place: str, content: Any) -> Solution:
    try:
        return parse(file, place, content)
    except BenchmarkError as error:
        raise BenchmarkError(f"{place}: {error}") from None


def _visual_process(file: Path, place: str, content: dict[str, Any]) -> Solution:
    response = content.get("response")
    if not isinstance(response, dict):
        raise BenchmarkError(f"response is {_short(response)}; allowed is an object with steps and process_correctness")
    steps = _steps(response)
    labels = step_labels(response.get("process_correctness"), "process_correctness", len(steps), "steps")
    images = _images(content, file.parent)
    if not images:
        raise BenchmarkError("image is missing; allowed is a path, or a list of paths")
    return _solution(content, place, text(content, "data_source"), text(content, "question"), images, steps, labels)


def _process(file: Path, place: str, content: dict[str, Any]) -> Solution:
    steps = _steps(content)
    labels = first_error_labels(content.get("label"), len(steps))
    images = _images(content, file.parent)
    return _solution(content, place, file.stem, text(content, "problem"), images, steps, labels)


def _solution(
    content: dict[str, Any],
    place: str,
    source: str,
    question: str,
    images: tuple[Path, ...],
    steps: tuple[str, ...],
    labels: tuple[int, ...],
) -> Solution:
    problem = blake2b(json.dumps([question, content.get("image")]).encode(), digest_size=8).hexdigest()
    return Solution(place, source, problem, PLACEHOLDER.sub("", question).strip(), images, steps, labels)


def _steps(content: dict[str, Any]) -> tuple[str, ...]:
    steps = content.get("steps")
    if not isinstance(steps, list) or not steps or not all(isinstance(step, str) for step in steps):
        raise BenchmarkError(f"steps is {_short(steps)}; allowed is a list of texts")
    return tuple(steps)


def _images(content: dict[str, Any], folder: Path) -> tuple[Path, ...]:
    named = content.get("image")
    listed: Sequence[Any] = [] if named is None else named if isinstance(named, list) else [named]
    if not all(isinstance(name, str) and name for name in listed):
        raise BenchmarkError(f"image is {_short(named)}; allowed is a path, or a list of paths")
    try:
        return tuple(image_path(folder, name) for name in listed)
    except UnreadableImageError as error:
        raise BenchmarkError(str(error)) from None


def _json(place: str, content: bytes) -> Any:
    try:
        return read_record(content)
    except ValueError as error:
        raise BenchmarkError(f"{place}: {error}") from None


def _short(value: Any) -> str:
    if value is None:
        return "missing"
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 40 else f"{shown[:39]}…"
