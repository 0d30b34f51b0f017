"""Files of VisualProcessBench, of ProcessBench and of scores: what is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.measuring.process_benchmark import Bench, BenchmarkError, read_benchmark
from rewards.measuring.process_scores import ScoredSolution, parse_scores, read_scores, scores_line

VISUAL: dict[str, Any] = {
    "image": ["images/1.png", "images/2.png"],
    "question": "<image1> and <image 2>: which one? <image>",
    "answer": "B",
    "response": {"steps": ["First.", "Then.", "So."], "process_correctness": [1, 0, -1]},
    "policy_model": "some",
    "data_source": "MMMU",
}
PROCESS: dict[str, Any] = {
    "id": "gsm8k-0",
    "generator": "some",
    "problem": "1 + 1?",
    "steps": ["First.", "Then.", "So."],
    "final_answer_correct": False,
    "label": 1,
}
SCORED: dict[str, Any] = {"data_source": "MMMU", "labels": [1, 0, -1], "scores": [0.9, 0.5, 0]}


def written(path: Path, *contents: Any) -> Path:
    path.write_text("".join(json.dumps(content) + "\n" for content in contents))
    return path


def test_visualprocessbench_as_published(tmp_path: Path) -> None:
    written(tmp_path / "test.jsonl", VISUAL, VISUAL | {"image": "3.png", "data_source": "MathVista"})
    written(tmp_path / "more.jsonl", VISUAL)
    (tmp_path / "notes.txt").write_text("no JSON")
    third, first, second = read_benchmark("visualprocessbench", tmp_path)
    assert (first.place, second.place, third.place) == tuple(
        f"{tmp_path}/{name}" for name in ("test.jsonl:1", "test.jsonl:2", "more.jsonl:1")
    )
    assert first.question == "and : which one?", "placeholders are the chat template's business"
    assert first.images == (tmp_path / "images" / "1.png", tmp_path / "images" / "2.png")
    assert second.images == (tmp_path / "3.png",)
    assert (first.steps, first.labels) == (("First.", "Then.", "So."), (1, 0, -1))
    assert (first.source, second.source) == ("MMMU", "MathVista")
    assert first.problem == third.problem != second.problem, "the same question about the same images"
    assert read_benchmark("visualprocessbench", tmp_path / "test.jsonl") == [first, second]


def test_processbench_as_published(tmp_path: Path) -> None:
    written(tmp_path / "gsm8k.jsonl", PROCESS, PROCESS | {"label": -1, "image": "a.png"}, PROCESS | {"label": 0})
    (tmp_path / "math.json").write_text(json.dumps([PROCESS | {"label": 2}], indent=2))
    solutions = read_benchmark("processbench", tmp_path)
    assert [solution.source for solution in solutions] == ["gsm8k", "gsm8k", "gsm8k", "math"]
    assert [solution.labels for solution in solutions] == [(1, -1, 0), (1, 1, 1), (-1, 0, 0), (1, 1, -1)]
    assert [len(solution.images) for solution in solutions] == [0, 1, 0, 0]
    assert solutions[3].place == f"{tmp_path}/math.json:1"
    assert solutions[0].question == "1 + 1?"


def test_blank_lines_do_not_count_and_line_ends_may_be_of_any_kind(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n" + json.dumps(VISUAL).encode() + b"\r\n \n" + json.dumps(VISUAL).encode())
    assert [x.place[-1] for x in read_benchmark("visualprocessbench", tmp_path)] == ["2", "4"]


def without(content: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != key}


def answered(**changes: Any) -> dict[str, Any]:
    return VISUAL | {"response": VISUAL["response"] | changes}


@pytest.mark.parametrize(
    ("bench", "content", "told"),
    [
        ("visualprocessbench", "[1]", "[1] is not a JSON object"),
        ("visualprocessbench", '{"image"', "not JSON: "),
        ("visualprocessbench", b"\xff\xfe{}", "not JSON: "),
        ("visualprocessbench", "[" * 100_000, "not JSON: "),
        ("visualprocessbench", without(VISUAL, "response"), "response is missing; allowed is an object with steps"),
        ("visualprocessbench", answered(steps=[]), "steps is []; allowed is a list of texts"),
        ("visualprocessbench", answered(steps="one"), 'steps is "one"; allowed is a list of texts'),
        ("visualprocessbench", answered(process_correctness=None), "process_correctness is missing; allowed is a list"),
        ("visualprocessbench", answered(process_correctness=[1, 2, 0]), "step 2 has label 2; allowed is 1, 0 or -1"),
        ("visualprocessbench", answered(process_correctness=[1, 0, True]), "step 3 has label true; allowed is"),
        ("visualprocessbench", answered(process_correctness=[1, "1", 0]), 'step 2 has label "1"; allowed is'),
        ("visualprocessbench", answered(process_correctness=[1, 1]), "has 2 entries for 3 steps"),
        ("visualprocessbench", without(VISUAL, "image"), "image is missing"),
        ("visualprocessbench", VISUAL | {"image": []}, "image is missing"),
        ("visualprocessbench", VISUAL | {"image": [1]}, "image is [1]; allowed is a path, or a list of paths"),
        ("visualprocessbench", without(VISUAL, "data_source"), "data_source is missing; allowed is a text"),
        ("visualprocessbench", VISUAL | {"question": 7}, "question is 7; allowed is a text"),
        ("processbench", without(PROCESS, "label"), "label is missing; allowed is the index"),
        (
            "processbench",
            PROCESS | {"label": 3},
            "label is 3; allowed is the index of the first wrong step, 0 to 2, or",
        ),
        ("processbench", PROCESS | {"label": -2}, "label is -2; allowed is"),
        ("processbench", PROCESS | {"label": True}, "label is true; allowed is"),
        ("processbench", PROCESS | {"label": 1.0}, "label is 1.0; allowed is"),
        ("processbench", without(PROCESS, "problem"), "problem is missing; allowed is a text"),
    ],
)
def test_a_wrong_solution_is_named_in_one_line(bench: Bench, content: Any, told: str, tmp_path: Path) -> None:
    good = json.dumps(VISUAL if bench == "visualprocessbench" else PROCESS).encode()
    raw = content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else None
    (tmp_path / "test.jsonl").write_bytes(good + b"\n" + (raw or json.dumps(content).encode()) + b"\n")
    with pytest.raises(BenchmarkError) as raised:
        read_benchmark(bench, tmp_path)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path}/test.jsonl:2: ") and told in message
    assert "\n" not in message and len(message) < len(str(tmp_path)) + 200


def test_a_benchmark_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    empty = written(tmp_path / "elsewhere" / "empty.jsonl")
    for bench, path, told in (
        ("visualprocessbench", tmp_path / "no", "does not exist; allowed is a folder with *.jsonl"),
        ("visualprocessbench", tmp_path, "has no *.jsonl"),
        ("processbench", tmp_path, "has no *.jsonl or *.json"),
        ("visualprocessbench", empty, "empty.jsonl holds no solution"),
    ):
        with pytest.raises(BenchmarkError) as raised:
            read_benchmark(bench, path)  # type: ignore[arg-type]
        assert told in str(raised.value)


SCORE = st.floats(0, 1) | st.integers(0, 1)
STEPS = st.lists(
    st.tuples(SCORE, st.sampled_from([1, 0, -1]), st.sampled_from(["", "perception", "reasoning"])), min_size=1
)


@given(st.text(min_size=1).filter(str.strip), st.text(), STEPS)
def test_scores_written_are_the_scores_read(source: str, problem: str, steps: list[tuple[float, int, str]]) -> None:
    scores, labels, kinds = zip(*steps, strict=True)
    line = scores_line(ScoredSolution(source, problem, np.array(labels), np.array(scores, float), kinds))
    assert line.endswith("\n") and line.count("\n") == 1
    found = parse_scores("visualprocessbench", json.loads(line), "no", "no")
    assert (found.source, found.problem, found.kinds) == (source, problem, kinds)
    assert found.scores.tolist() == list(scores) and found.labels.tolist() == list(labels)


def test_scores_of_the_first_error_metric_may_have_a_label_or_labels(tmp_path: Path) -> None:
    file = written(
        tmp_path / "gsm8k.jsonl",
        {"label": 1, "scores": [0.9, 0.1, 0.5]},
        {"labels": [1, -1, 0], "scores": [0.9, 0.1, 0.5], "data_source": "math"},
    )
    first, second = read_scores("processbench", file)
    assert first.labels.tolist() == second.labels.tolist() == [1, -1, 0]
    assert (first.source, second.source) == ("gsm8k", "math")
    assert (first.problem, second.problem) == ("1", "2")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (without(SCORED, "scores"), "scores is missing; allowed is a list of numbers from 0 to 1"),
        (SCORED | {"scores": [0.9, None, 0.1]}, "scores: step 2 has null; allowed is a number from 0 to 1"),
        (SCORED | {"scores": [0.9, float("nan"), 0.1]}, "scores: step 2 has NaN; allowed"),
        (SCORED | {"scores": [0.9, 0.2, float("inf")]}, "scores: step 3 has Infinity; allowed"),
        (SCORED | {"scores": [0.9, 0.2, "0.1"]}, 'scores: step 3 has "0.1"; allowed'),
        (SCORED | {"scores": [True, 0.2, 0.1]}, "scores: step 1 has true; allowed"),
        (SCORED | {"scores": [93, 41, 12]}, "scores: step 1 has 93; allowed is a number from 0 to 1"),
        (SCORED | {"scores": [10**400, 0, 0]}, "allowed is a number from 0 to 1"),
        (SCORED | {"scores": [0.9, 0.2]}, "labels has 3 entries for 2 scores"),
        (SCORED | {"labels": [1, 0, 3]}, "labels: step 3 has label 3; allowed is 1, 0 or -1"),
        (without(SCORED, "labels"), "labels is missing; allowed is a list of 1, 0 and -1"),
        (without(SCORED, "data_source"), "data_source is missing; allowed is a text"),
        (SCORED | {"kinds": ["perception"]}, "kinds: allowed is a list of 3 texts"),
    ],
)
def test_wrong_scores_are_named_in_one_line(content: dict[str, Any], told: str, tmp_path: Path) -> None:
    file = written(tmp_path / "scores.jsonl", SCORED, content)
    with pytest.raises(BenchmarkError) as raised:
        read_scores("visualprocessbench", file)
    assert str(raised.value).startswith(f"{file}:2: ") and told in str(raised.value)
    assert "\n" not in str(raised.value)
