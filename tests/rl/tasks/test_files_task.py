"""Prompts from files: what a row becomes, and what is said of files that cannot be used."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rewards.records import Prompt, PromptError
from rl.tasks.files import FileTask
from tests.fixtures.builders import an_image

RED, BLUE = an_image((255, 0, 0)), an_image((0, 0, 255))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def png(image: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def a_row(question: str = "How many?", **fields: Any) -> dict[str, Any]:
    return {"question": question, "answer": "4", "images": "red.png"} | fields


def lines(path: Path, *rows: dict[str, Any]) -> str:
    (path.parent / "red.png").write_bytes(png(RED))
    (path.parent / "blue.png").write_bytes(png(BLUE))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def table(path: Path, rows: list[dict[str, Any]]) -> str:
    lines(path.with_suffix(".jsonl"), *[])
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def pictures(prompt: Prompt) -> list[bytes]:
    assert all(image.mode == "RGB" for image in prompt.images)
    return [image.tobytes() for image in prompt.images]


def questions(task: FileTask, split: Any, count: int) -> str:
    return "".join(task.prompt(split, index).question for index in range(count))


def test_json_lines_with_image_paths(tmp_path: Path) -> None:
    name = lines(
        tmp_path / "train.jsonl",
        a_row(),
        a_row(images=["blue.png", "red.png"], source="pairs", answer="7"),
        a_row(images=None),
    )
    heldout = lines(tmp_path / "test.jsonl", a_row(images="blue.png", answer=3))
    task = FileTask([name], [heldout])
    first, second = task.prompt("train", 0), task.prompt("train", 1)
    assert (first.id, first.question, first.answer, first.source) == (f"{name}:0", "How many?", "4", "train")
    assert pictures(first) == [RED.tobytes()]
    assert (second.source, second.answer) == ("pairs", "7")
    assert pictures(second) == [BLUE.tobytes(), RED.tobytes()]
    assert task.prompt("train", 2).images == ()
    assert task.prompt("heldout", 0).answer == "3"
    assert pictures(task.prompt("heldout", 0)) == [BLUE.tobytes()]
    assert task.sources == ("pairs", "test", "train")


@pytest.mark.parametrize(
    "images",
    [
        pytest.param("red.png", id="path"),
        pytest.param(["red.png"], id="list of paths"),
        pytest.param(png(RED), id="bytes"),
        pytest.param([png(RED)], id="list of bytes"),
        pytest.param({"bytes": png(RED), "path": None}, id="the datasets library's bytes"),
        pytest.param([{"bytes": png(RED), "path": "elsewhere.png"}], id="its bytes go before its path"),
        pytest.param({"bytes": None, "path": "red.png"}, id="its path"),
    ],
)
def test_parquet_with_images_of_every_kind(images: Any, tmp_path: Path) -> None:
    name = table(tmp_path / "train.parquet", [a_row(images=images, answer=4)])
    prompt = FileTask([name], [lines(tmp_path / "test.jsonl", a_row())]).prompt("train", 0)
    assert pictures(prompt) == [RED.tobytes()]
    assert prompt.answer == "4"


def test_parquet_as_the_datasets_library_writes_it(tmp_path: Path) -> None:
    kinds = {"question": datasets.Value("string"), "answer": datasets.Value("string")}
    rows = {"question": ["a", "b"], "answer": ["1", "2"], "images": [[RED, BLUE], [BLUE.convert("L")]]}
    features = datasets.Features(kinds | {"images": datasets.List(datasets.Image())})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    task = FileTask([str(tmp_path / "train.parquet")], [lines(tmp_path / "test.jsonl", a_row())])
    assert pictures(task.prompt("train", 0)) == [RED.tobytes(), BLUE.tobytes()]
    assert pictures(task.prompt("train", 1)) == [BLUE.convert("L").convert("RGB").tobytes()]


def test_columns_of_other_names(tmp_path: Path) -> None:
    columns = {"question": "problem", "answer": "solution", "images": "image", "source": "topic"}
    row = {
        "problem": "Why?",
        "solution": 4,
        "image": "blue.png",
        "topic": 0,
        "question": "not this",
        "source": "nor this",
    }
    task = FileTask([lines(tmp_path / "a.jsonl", row)], [lines(tmp_path / "b.jsonl", row)], columns)
    prompt = task.prompt("train", 0)
    assert (prompt.question, prompt.answer, prompt.source) == ("Why?", "4", "0")
    assert pictures(prompt) == [BLUE.tobytes()]
    assert task.sources == ("0",)


def test_after_the_last_row_comes_the_first(tmp_path: Path) -> None:
    files = [
        lines(tmp_path / "one.jsonl", a_row("a"), a_row("b")),
        lines(tmp_path / "two.jsonl", a_row("c")),
        lines(tmp_path / "three.jsonl", a_row("d"), a_row("e")),
    ]
    task = FileTask(files[:2], files[2:])
    assert questions(task, "train", 8) == "abcabcab"
    assert questions(task, "heldout", 5) == "deded"
    assert task.prompt("train", 5).id == task.prompt("train", 2).id == f"{files[1]}:0"
    assert questions(FileTask(files[1::-1], files[2:]), "train", 4) == "cabc"


@pytest.mark.parametrize("name", ["part*.jsonl", "part[1].jsonl", "a ?.jsonl"])
def test_a_file_name_is_no_pattern(name: str, tmp_path: Path) -> None:
    for other in ("part1.jsonl", "part22.jsonl", "a b.jsonl"):
        lines(tmp_path / other, a_row("other"))
    task = FileTask([lines(tmp_path / name, a_row("own"))], [str(tmp_path / "part1.jsonl")])
    assert questions(task, "train", 2) == "ownown"


def test_files_are_read_without_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **named: asked.append(arguments) or [])
    task = FileTask([table(tmp_path / "a.parquet", [a_row()])], [lines(tmp_path / "b.jsonl", a_row())])
    assert pictures(task.prompt("train", 0)) == pictures(task.prompt("heldout", 0)) == [RED.tobytes()]
    assert asked == []


def refused(*arguments: Any) -> str:
    with pytest.raises(ValueError) as caught:
        FileTask(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    good = lines(tmp_path / "good.jsonl", a_row())
    bad = tmp_path / "bad.jsonl"
    for text in ("", "\n\n", "[]"):
        bad.write_text(text)
        assert refused([good], [str(bad)]).startswith(f"{bad}: "), text
    bad.write_text("")
    assert refused([str(bad)], [good]) == f"{bad}: holds no rows"
    bad.write_text('{"question": "a", \n')
    assert refused([str(bad)], [good]).startswith(f"{bad}: not readable as jsonl: ")
    parquet = tmp_path / "bad.parquet"
    parquet.write_bytes(b"PAR0")
    assert refused([good], [str(parquet)]).startswith(f"{parquet}: not readable as parquet: ")
    pq.write_table(pa.table({"question": pa.array([], pa.string()), "answer": [], "images": []}), parquet)
    assert refused([good], [str(parquet)]) == f"{parquet}: holds no rows"


def test_other_kinds_of_files_and_files_that_are_not_there(tmp_path: Path) -> None:
    good = lines(tmp_path / "good.jsonl", a_row())
    table = tmp_path / "rows.xlsx"
    table.write_text("question,answer,images\n")
    assert refused([str(table)], [good]).startswith(
        f"{table}: unknown kind of file; allowed: .jsonl, .json, .csv, .tsv, .parquet "
    )
    assert refused([str(tmp_path / "gone")], [good]).startswith(f"{tmp_path / 'gone'}: no such file or folder; allowed")
    assert refused([good], [str(tmp_path / "gone.jsonl")]) == f"{tmp_path / 'gone.jsonl'}: no such file"


@pytest.mark.parametrize("field", ["question", "answer"])
def test_a_missing_column_is_named_with_those_there_are(field: str, tmp_path: Path) -> None:
    row = {name: value for name, value in a_row().items() if name != field}
    bad, good = lines(tmp_path / "bad.jsonl", row), lines(tmp_path / "good.jsonl", a_row())
    message = refused([good], [bad])
    assert message.startswith(f"{bad}: no column {field!r} for {field}; there are {', '.join(row)};")
    assert message.endswith(f"task.columns.{field}")


def test_wrong_column_names_are_refused(tmp_path: Path) -> None:
    good, other = lines(tmp_path / "good.jsonl", a_row()), lines(tmp_path / "other.jsonl", a_row())
    assert refused([good], [other], {"quesion": "question"}) == (
        "task.columns: no field 'quesion'; allowed: question, answer, images, source, id, choices, unit, precision"
    )
    assert "no column 'problem' for question" in refused([good], [other], {"question": "problem"})
    assert "no column 'topic' for source" in refused([good], [other], {"source": "topic"})


@pytest.mark.parametrize("field", ["question", "answer"])
def test_a_row_without_question_or_answer_is_named(field: str, tmp_path: Path) -> None:
    bad = lines(tmp_path / "bad.jsonl", a_row(), a_row(), a_row(**{field: None}))
    assert refused([bad], [lines(tmp_path / "good.jsonl", a_row())]) == (
        f"{bad}: row 2: column {field!r}: no {field}; allowed is text or a number"
    )


def test_no_file_is_in_both_splits(tmp_path: Path) -> None:
    good = lines(tmp_path / "good.jsonl", a_row())
    assert "both task.train_files and task.heldout_files" in refused([good], [str(tmp_path / "." / "good.jsonl")])


@pytest.mark.parametrize("image", ["gone.png", "bad.jsonl", "", b"broken", {"bytes": None, "path": None}])
def test_an_image_that_cannot_be_read_is_named_with_its_row(image: Any, tmp_path: Path) -> None:
    good = lines(tmp_path / "good.jsonl", a_row())
    (tmp_path / "bad.jsonl").write_text("no image")
    fine: Any = png(RED) if isinstance(image, bytes) else {"bytes": png(RED), "path": None}
    fine = fine if not isinstance(image, str) else "red.png"
    name = table(tmp_path / "images.parquet", [a_row(images=fine), a_row(images=image)])
    message = refused([name], [good])
    assert message.startswith(f"{name}: row 1: column 'images': image ") and " cannot be read: " in message


def test_a_broken_image_of_the_datasets_library_is_named_with_its_row(tmp_path: Path) -> None:
    kinds = {"question": datasets.Value("string"), "answer": datasets.Value("string"), "images": datasets.Image()}
    rows = {"question": ["a"], "answer": ["1"], "images": [{"bytes": b"broken", "path": None}]}
    name = tmp_path / "train.parquet"
    datasets.Dataset.from_dict(rows, features=datasets.Features(kinds)).to_parquet(name)
    message = refused([str(name)], [lines(tmp_path / "good.jsonl", a_row())])
    assert message.startswith(f"{name}: row 0: column 'images': image cannot be read: ")


def test_an_image_that_is_gone_later_is_named_when_it_is_asked_for(tmp_path: Path) -> None:
    name = lines(tmp_path / "train.jsonl", a_row(), a_row(images=["red.png", "blue.png"]))
    task = FileTask([name], [lines(tmp_path / "good.jsonl", a_row())])
    whole = (tmp_path / "blue.png").read_bytes()
    for left, reason in ((whole[:60], "truncated"), (b"", "it is empty"), (None, "No such file")):
        (tmp_path / "blue.png").write_bytes(left) if left is not None else (tmp_path / "blue.png").unlink()
        assert pictures(task.prompt("train", 0)) == [RED.tobytes()]
        with pytest.raises(PromptError) as caught:
            task.prompt("train", 1)
        message = str(caught.value)
        assert message.startswith(
            f"{name}: row 1: column 'images': 2 of 2: image {tmp_path / 'blue.png'} cannot be read: "
        )
        assert reason in message and "\n" not in message


def test_an_edited_file_is_read_anew(tmp_path: Path) -> None:
    heldout = lines(tmp_path / "test.jsonl", a_row())
    for question in ("one?", "two?"):
        assert (
            questions(FileTask([lines(tmp_path / "train.jsonl", a_row(question))], [heldout]), "train", 1) == question
        )


def test_an_instruction_follows_every_question_on_a_line_of_its_own(tmp_path: Path) -> None:
    files = [lines(tmp_path / "train.jsonl", a_row("Why?"))], [lines(tmp_path / "test.jsonl", a_row("How?"))]
    task = FileTask(*files, instruction="Think in steps.")
    assert [task.prompt(split, 0).question for split in ("train", "heldout")] == [
        "Why?\nThink in steps.",
        "How?\nThink in steps.",
    ]


@pytest.mark.parametrize("kind", [lines, table])
def test_the_other_columns_of_a_row_are_there_for_a_verifier(kind: Any, tmp_path: Path) -> None:
    """Also those that a field is made of, by their own names; but no pictures, which a prompt has."""
    row = a_row("?") | {"problem": "How many?", "solution": "4", "box": [0, 0, 4, 4], "extra_info": {"split": "train"}}
    if kind is table:
        row |= {"picture": {"bytes": png(BLUE), "path": None}, "raw": b"abc"}
    suffix = "jsonl" if kind is lines else "parquet"
    path = tmp_path / f"train.{suffix}"
    train = table(path, [row]) if kind is table else lines(path, row)
    heldout = lines(tmp_path / "heldout.jsonl", a_row(problem="?", solution="4"))
    prompt = FileTask([train], [heldout], {"question": "problem", "answer": "solution"}).prompt("train", 0)
    found = dict(prompt.columns)
    assert {name: found[name] for name in ("problem", "solution", "box", "answer")} == {
        "problem": "How many?",
        "solution": "4",
        "box": [0, 0, 4, 4],
        "answer": "4",
    }
    assert found["extra_info"] == {"split": "train"} and not {"picture", "raw"} & set(found)
