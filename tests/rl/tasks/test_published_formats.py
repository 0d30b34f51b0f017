"""Datasets as they are published work by a line of configuration: small files of exactly their columns.

Geometry3K, MathVista and MMMU are in `test_hub_prompts.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Features, Image, Sequence, Value

from rewards.annotation.visualprm import parse_record
from rewards.files.plain_text import open_lines
from rewards.measuring.process_benchmark import read_benchmark
from rewards.verification.verifiers import latex
from rl.config import Config
from rl.config.sections import TaskConfig
from rl.reward_models.record_corpus import index_corpus
from rl.tasks.making import make_task
from tests.fixtures.builders import an_image

TEXT = Value("string")
MMK12 = Features({"id": TEXT, "question": TEXT, "answer": TEXT, "subject": TEXT, "image": Image()})
VIRL39K = Features(
    {"question": TEXT, "answer": TEXT, "PassRate_32BTrained": Value("float64"), "PassRate_7BBase": Value("float64")}
    | {"category": TEXT, "source": TEXT, "qid": TEXT, "image": Sequence(TEXT)}
)
MATHVERSE = Features(
    {"sample_index": TEXT, "problem_index": TEXT, "problem_version": TEXT, "question": TEXT, "image": Image()}
    | {"answer": TEXT, "question_type": TEXT, "metadata": {n: TEXT for n in ("split", "source", "subject", "subfield")}}
    | {"query_wo": TEXT, "query_cot": TEXT, "question_for_eval": TEXT}
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "images").mkdir()
    an_image((1, 1, 1)).save(tmp_path / "images" / "1.png")
    an_image((2, 2, 2)).save(tmp_path / "images" / "2.png")


def prompts(folder: Path, features: Features, rows: list[dict[str, Any]], **task: Any) -> list[Any]:
    """What the rows become: question, images, answer, source and id."""
    for split in ("train", "heldout"):
        columns = {name: [row.get(name) for row in rows] for name in features}
        datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / f"{split}.parquet")
    files = {f"{split}_files": (str(folder / f"{split}.parquet"),) for split in ("train", "heldout")}
    made = make_task(Config(task=TaskConfig(name="files", **files, **task)))
    found = [made.prompt("heldout", index) for index in range(len(rows))]
    return [(p.question, len(p.images), p.answer, p.source, p.id.rpartition(":")[2]) for p in found]


def test_mmk12(tmp_path: Path) -> None:
    rows = [
        {"id": "7", "question": "<image>Find $x$.", "answer": r"$\frac{1}{2}$", "subject": "math", "image": an_image()},
        {"id": "8", "question": "Which?\nA. 1 N\nB. 2 N", "answer": "B", "subject": "physics", "image": an_image()},
    ]
    columns = {"images": "image", "source": "subject", "id": "id"}
    first, second = prompts(tmp_path, MMK12, rows, columns=columns, verifier="latex")
    assert first == ("Find $x$.", 1, r"$\frac{1}{2}$", "math", "7")
    assert second == ("Which?\nA. 1 N\nB. 2 N", 1, "B", "physics", "8")


def test_virl39k(tmp_path: Path) -> None:
    common = {"PassRate_32BTrained": 0.5, "PassRate_7BBase": None, "category": "(GradeSchool) Geometric", "source": "x"}
    rows = [
        common | {"question": "<image> <image>\nSame?", "answer": r"\boxed{A}", "qid": "q-1"},
        common | {"question": "Half of 1?", "answer": r"\boxed{\frac{1}{2}}", "qid": "q-2", "image": []},
    ]
    rows[0]["image"] = ["images/1.png", "images/2.png"]
    columns = {"images": "image", "source": "category", "id": "qid"}
    first, second = prompts(tmp_path, VIRL39K, rows, columns=columns, verifier="latex")
    assert first == ("Same?", 2, "A", "(GradeSchool) Geometric", "q-1")
    assert second == ("Half of 1?", 0, r"\frac{1}{2}", "(GradeSchool) Geometric", "q-2")
    assert latex(r"so \boxed{0.5}", second[2]) and not latex(r"so \boxed{2}", second[2])


def test_mathverse(tmp_path: Path) -> None:
    common = {"image": an_image(), "metadata": {"split": "testmini", "subject": "Plane Geometry"}, "problem_index": "1"}
    rows = [
        common | {"question": "Find AOB.\nChoices:\nA:145°\nB:35°", "answer": "A", "problem_version": "Text Dominant"},
        common | {"question": "", "answer": "A", "problem_version": "Vision Only", "question_for_eval": "Find AOB."},
        common | {"question": "How long?", "answer": "2.5", "question_type": "free-form"},
    ]
    columns = {"images": "image", "source": "metadata.subject"}
    found = prompts(tmp_path, MATHVERSE, rows, columns=columns, instruction="Think.", verifier="latex")
    assert found[0] == ("Find AOB.\nChoices:\nA:145°\nB:35°\nThink.", 1, "A", "Plane Geometry", "0")
    assert found[1][:3] == ("Think.", 1, "A"), "the question is in the picture"
    assert found[2][:3] == ("How long?\nThink.", 1, "2.5")


STEPS = [
    {"step": "S1", "score": 0.75, "num_mc_correct": 12, "num_mc_total": 16},
    {"step": "S2", "score": 0.0, "num_mc_correct": 0, "num_mc_total": 16},
]
RAW = {
    "image": "images/1.png",
    "question": "<image>\nHint: …\nQ",
    "question_orig": "Q",
    "answer": "4",
    "response": "S1 S2",
}
OPENING = "### Question:\nQ\n\n### Solution Process:\nS1"
TURNS = [("system", "You are …"), ("human", OPENING), ("gpt", "+"), ("human", "S2"), ("gpt", "-")]
VLPRM = {
    "id": "698d978c",
    "conversations": [{"role": "user", "content": [{"type": "text", "text": OPENING}]}],
    "first_incorrect_step": "['Visual Elements', 1]",
    "steps_with_score": STEPS,
    "rollout_ground_truth_answer": "6",
    "consensus_filtering_algo_label": "o4-mini_incorrect_and_MC_agrees_and_disagrees",
    "verifier_identified_first_incorrect_step_solution": None,
    "image": "images/1.png",
    "image_qwen_smart_resize": "images/1_qwen.png",
    "source": "RAVEN",
    "question_type": "abstract_visual_reasoning",
    "question": "Q",
}
CORPORA = {
    "visualprm400k raw.jsonl": (RAW | {"num_mc_sequences": 16, "steps_with_score": STEPS}, [(12, 16), (0, 16)]),
    "visualprm400k.jsonl": (
        {"id": 1, "image": "images/1.png", "conversations": [{"from": who, "value": said} for who, said in TURNS]},
        [(1, 1), (0, 1)],
    ),
    "visualprm400k of one step.jsonl": (
        {"image": "images/1.png", "conversations": [{"from": who, "value": said} for who, said in TURNS[1:3]]},
        [(1, 1)],
    ),
    "vl-prm300k.parquet": (VLPRM, [(12, 16), (0, 16)]),
}


@pytest.mark.parametrize("name", CORPORA)
def test_corpora_with_labelled_steps(name: str, tmp_path: Path) -> None:
    content, counts = CORPORA[name]
    file = tmp_path / name
    if file.suffix == ".parquet":
        datasets.Dataset.from_list([content, content]).to_parquet(file)
    else:
        file.write_text(f"{json.dumps(content)}\n" * 2)
    with open_lines(file) as lines:
        first, second = map(parse_record, lines)
    assert first == second
    assert (first.question, first.images) == ("Q", ("images/1.png",))
    assert [(step.correct, step.sampled) for step in first.steps] == counts
    assert [step.text for step in first.steps] == ["S1", "S2"][: len(counts)]
    corpus = index_corpus("mprm.warm_start", [str(file)], lambda path, line: [tmp_path / parse_record(line).images[0]])
    assert len(corpus) == 2


@pytest.mark.parametrize("turns", [TURNS[:2], TURNS[:4], [TURNS[1], ("gpt", "yes")], [("human", "Q"), ("gpt", "+")]])
def test_turns_that_are_no_labelled_steps_are_left_out(turns: list[tuple[str, str]]) -> None:
    content = {"image": "a.png", "conversations": [{"from": who, "value": said} for who, said in turns]}
    with pytest.raises(ValueError, match="conversations is neither"):
        parse_record(json.dumps(content).encode())


VISUAL = {
    "image": ["images/1.png"],
    "question": "<image>\nQ",
    "answer": "B",
    "policy_model": "m",
    "data_source": "MMMU",
}
VISUAL |= {"response": {"steps": ["S1", "S2"], "process_correctness": [1, -1]}}
PROCESS = {"id": "math-0", "generator": "g", "problem": "Q", "steps": ["S1", "S2"], "final_answer_correct": False}


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_benchmarks_of_labelled_steps(kind: str, tmp_path: Path) -> None:
    for bench, row in (("visualprocessbench", VISUAL), ("processbench", PROCESS | {"label": 1})):
        file = tmp_path / f"{bench}.{kind}"
        if kind == "parquet":
            datasets.Dataset.from_list([row]).to_parquet(file)
        else:
            file.write_text(json.dumps(row) if kind == "jsonl" else json.dumps([row], indent=1))
        (solution,) = read_benchmark(bench, file)  # type: ignore[arg-type]
        assert (solution.question, solution.steps, solution.labels) == ("Q", ("S1", "S2"), (1, -1))
