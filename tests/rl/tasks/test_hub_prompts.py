"""Prompts from tables in the shapes of published datasets, taken as they are by a column map."""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
from datasets import Features, Image, Sequence, Value
from hypothesis import given
from hypothesis import strategies as st

from rewards.records import Prompt, PromptError
from rewards.verification.verifiers import multiple_choice
from rl.tasks.choices import answer_letter, letter_choices, read_choices
from rl.tasks.files import FileTask
from rl.tasks.images import refer_to_images
from tests.fixtures.builders import an_image

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)]
IMAGES = [an_image(colour) for colour in COLOURS]
TEXT = Value("string")

GEOMETRY3K = Features(
    {
        "images": Sequence(Image()),
        "problem": TEXT,
        "answer": TEXT,
        "id": Value("int64"),
        "choices": Sequence(TEXT),
        "ground_truth": TEXT,
    }
)
METADATA = {name: TEXT for name in ("category", "context", "grade", "language", "source", "split", "task")}
MATHVISTA = Features(
    {name: TEXT for name in ("pid", "question", "image", "unit", "answer", "question_type", "answer_type", "query")}
    | {
        "decoded_image": Image(),
        "choices": Sequence(TEXT),
        "precision": Value("float64"),
        "metadata": METADATA | {"img_height": Value("int64"), "img_width": Value("int64"), "skills": Sequence(TEXT)},
    }
)
MMMU = Features(
    {name: TEXT for name in ("id", "question", "options", "explanation", "img_type", "answer", "question_type")}
    | {f"image_{number}": Image() for number in range(1, 8)}
    | {name: TEXT for name in ("topic_difficulty", "subfield")}
)


MIXED = Features({"q": TEXT, "answer": TEXT, "images": TEXT, "options": TEXT, "about": {"kind": TEXT}})
MIXED_ROW = {"q": "Why?", "answer": "4", "about": {"kind": "logic"}}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def table(path: Path, features: Features, *rows: dict[str, Any]) -> str:
    """A Parquet file as the library uploads it; fields that a row does not name are null."""
    columns = {name: [row.get(name) for row in rows] for name in features}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(path)
    return str(path)


def a_task(tmp_path: Path, features: Features, columns: dict[str, str], *rows: dict[str, Any]) -> FileTask:
    names = [table(tmp_path / f"{split}.parquet", features, *rows) for split in ("train", "heldout")]
    return FileTask(names[:1], names[1:], columns)


def prompts(task: FileTask, count: int) -> list[Prompt]:
    return [task.prompt("heldout", index) for index in range(count)]


def shown(prompt: Prompt) -> list[int]:
    """Which of `IMAGES` a prompt shows."""
    assert all(image.mode == "RGB" for image in prompt.images)
    return [[image.tobytes() for image in IMAGES].index(image.tobytes()) for image in prompt.images]


GEOMETRY_ROWS = (
    {
        "images": IMAGES[:1],
        "problem": "<image>Find x.",
        "answer": r"2 \sqrt { 221 }",
        "id": 7,
        "choices": ["4.5", r"2 \sqrt { 221 }", "20"],
        "ground_truth": "B",
    },
    {"images": [IMAGES[1]], "problem": "<image> find y, with a < b", "answer": "3", "choices": [], "ground_truth": "3"},
)


def test_geometry3k(tmp_path: Path) -> None:
    task = a_task(tmp_path, GEOMETRY3K, {"question": "problem"}, *GEOMETRY_ROWS)
    first, second = prompts(task, 2)
    assert (first.question, first.answer, first.source) == ("Find x.", r"2 \sqrt { 221 }", "heldout")
    assert (second.question, second.answer) == ("find y, with a < b", "3")
    assert [shown(first), shown(second)] == [[0], [1]]
    assert first.id == f"{tmp_path / 'heldout.parquet'}:0"


def test_geometry3k_as_multiple_choice(tmp_path: Path) -> None:
    columns = {"question": "problem", "choices": "choices", "answer": "ground_truth"}
    first, second = prompts(a_task(tmp_path, GEOMETRY3K, columns, *GEOMETRY_ROWS), 2)
    assert first.question == "Find x.\n(A) 4.5\n(B) 2 \\sqrt { 221 }\n(C) 20"
    assert first.answer == "B"
    assert (second.question, second.answer) == ("find y, with a < b", "3")


MATHVISTA_ROWS = (
    {
        "question": "What is the age gap?",
        "image": "images/1.jpg",
        "decoded_image": IMAGES[0],
        "unit": "years",
        "precision": 1.0,
        "answer": "8.5",
        "metadata": {"source": "KVQA", "skills": ["arithmetic"], "img_height": 2},
        "query": "Hint: Please answer.\nQuestion: What is the age gap? (Unit: years)",
    },
    {
        "question": "Is AB longer?",
        "image": "images/2.jpg",
        "decoded_image": IMAGES[1],
        "choices": ["Yes", "No"],
        "answer": "No",
        "metadata": {"source": "GEOS", "skills": []},
        "query": "Hint: Please answer.\nQuestion: Is AB longer?\nChoices:\n(A) Yes\n(B) No",
    },
)
MATHVISTA_COLUMNS = {
    "images": "decoded_image",
    "choices": "choices",
    "unit": "unit",
    "precision": "precision",
    "source": "metadata.source",
}


def test_mathvista(tmp_path: Path) -> None:
    task = a_task(tmp_path, MATHVISTA, MATHVISTA_COLUMNS, *MATHVISTA_ROWS)
    free, choice = prompts(task, 2)
    assert (free.question, free.answer, free.source) == (
        "What is the age gap?\n(Unit: years)\n(Decimal places: 1)",
        "8.5",
        "KVQA",
    )
    assert (choice.question, choice.answer, choice.source) == ("Is AB longer?\n(A) Yes\n(B) No", "B", "GEOS")
    assert task.sources == ("GEOS", "KVQA")
    assert [shown(free), shown(choice)] == [[0], [1]]


def test_mathvista_with_its_own_wording(tmp_path: Path) -> None:
    """What the query says already is not said again."""
    columns = MATHVISTA_COLUMNS | {"question": "query"}
    del columns["precision"]
    task = a_task(tmp_path, MATHVISTA, columns, *MATHVISTA_ROWS)
    assert [prompt.question for prompt in prompts(task, 2)] == [row["query"] for row in MATHVISTA_ROWS]
    assert [prompt.answer for prompt in prompts(task, 2)] == ["8.5", "B"]


MMMU_ROWS = (
    {
        "question": "<image 1> Baxter Company has a ratio in <image 1>. What is it?",
        "options": r"['$6', '$7', 'it\'s \\frac{1}{2}', \"none\"]".replace('\\"', '"'),
        "answer": "C",
        "image_1": IMAGES[0],
    },
    {
        "question": "Which belongs with <image 2>?",
        "options": "['<image 1>', '<image 3>']",
        "answer": "B",
        **{f"image_{number + 1}": image for number, image in enumerate(IMAGES)},
    },
    {
        "question": "What is shown? <image 1>",
        "options": "[]",
        "question_type": "open",
        "answer": "['a spiral', 'spiral']",
        "image_1": IMAGES[3],
    },
)
MMMU_TEXT = {name: MMMU_ROWS[1][name] for name in ("question", "options", "answer")}
MMMU_COLUMNS = {"images": "image_*", "choices": "options"}


def test_mmmu(tmp_path: Path) -> None:
    first, second, third = prompts(a_task(tmp_path, MMMU, MMMU_COLUMNS, *MMMU_ROWS), 3)
    assert first.question == (
        "Baxter Company has a ratio in image 1. What is it?\n(A) $6\n(B) $7\n(C) it's \\frac{1}{2}\n(D) none"
    )
    assert (first.answer, shown(first)) == ("C", [0])
    assert second.question == "Which belongs with image 1?\n(A) image 2\n(B) image 3"
    assert (second.answer, shown(second)) == ("B", [1, 0, 2])  # the fourth is of the explanation
    assert (third.question, third.answer, shown(third)) == ("What is shown?", "a spiral", [3])


def test_images_of_several_columns_come_in_the_order_of_their_numbers_or_of_the_list(tmp_path: Path) -> None:
    kinds = Features({"question": TEXT, "answer": TEXT, "shot10": Image(), "shot9": Image(), "shot1": Image()})
    row = {"question": "?", "answer": "4", "shot1": IMAGES[0], "shot9": IMAGES[1], "shot10": IMAGES[2]}
    assert shown(prompts(a_task(tmp_path, kinds, {"images": "shot*"}, row), 1)[0]) == [0, 1, 2]
    assert shown(prompts(a_task(tmp_path, kinds, {"images": "shot10, shot1"}, row), 1)[0]) == [2, 0]


def refused(tmp_path: Path, features: Features, columns: dict[str, str], *rows: dict[str, Any]) -> str:
    with pytest.raises(ValueError) as caught:
        prompts(a_task(tmp_path, features, columns, *rows), len(rows))
    assert isinstance(caught.value, PromptError) == (": row " in str(caught.value))
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"options": "two of them"}, "column 'options': 'two of them' is no list of choices; allowed is a list, or "),
        ({"options": str(list(range(27)))}, "column 'options': 27 choices; allowed are 26"),
        ({"answer": "E"}, "column 'answer': 'E' is neither a letter from A to D nor one of the choices"),
        ({"answer": "?"}, "column 'answer': '?' is neither a letter from A to D nor one of the choices"),
        ({"answer": " "}, "column 'answer': no answer; allowed is text or a number"),
        ({"question": None}, "column 'question': no question; allowed is text or a number"),
        ({"question": "See <image 4>."}, "column 'question': refers to <image 4>; the row's images are 1"),
        ({"question": "<image><image>"}, "column 'question': refers to <image> 2 times; the row's images are 1"),
        (
            {"image_1": {"bytes": b"GIF", "path": None}},
            "column 'image_1', 'image_2', 'image_3', 'image_4', 'image_5', ",
        ),
        ({"image_1": None}, "column 'question': refers to <image 1>; the row's images are none"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    message = refused(tmp_path, MMMU, MMMU_COLUMNS, MMMU_ROWS[2], MMMU_ROWS[0] | wrong)
    assert re.sub(r"^(train|heldout)\.parquet: row 1: ", "", message).startswith(said)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"images": "image_1", "choices": "choices"}, "no column 'choices' for choices; there are id, question, "),
        ({"images": "picture_*"}, "no column 'picture_*' for images; "),
        ({"images": "image_1, image_8"}, "no column 'image_1, image_8' for images; "),
        ({"images": "image_1", "source": "subfield.name"}, "no column 'subfield.name' for source; "),
    ],
)
def test_a_column_that_is_not_there_is_named(columns: dict[str, str], said: str, tmp_path: Path) -> None:
    message = refused(tmp_path, MMMU, columns, MMMU_ROWS[0])
    assert message.startswith(f"train.parquet: {said}")


def test_letters_and_texts_of_choices_are_told_apart_by_the_whole_table(tmp_path: Path) -> None:
    """An answer can be the letter of one choice and the text of another."""
    kinds = Features({"question": TEXT, "answer": TEXT, "images": Sequence(Image()), "choices": Sequence(TEXT)})
    row = {"question": "?", "images": [], "choices": ["B", "A"]}
    by_letter = a_task(tmp_path, kinds, {"choices": "choices"}, row | {"answer": "A"}, row | {"answer": "B"})
    assert [prompt.answer for prompt in prompts(by_letter, 2)] == ["A", "B"]
    other = {"question": "?", "images": [], "choices": ["yes", "no"], "answer": "no"}
    by_text = a_task(tmp_path, kinds, {"choices": "choices"}, row | {"answer": "A"}, other)
    assert [prompt.answer for prompt in prompts(by_text, 2)] == ["B", "B"]


def test_json_lines_of_mixed_kinds(tmp_path: Path) -> None:
    """What differs from row to row is read as each row has it."""
    IMAGES[0].save(tmp_path / "a.png")
    rows = [
        {"q": "Which?", "answer": "no", "images": ["a.png"], "options": ["yes", "no"], "about": {"kind": "logic"}},
        {"q": "<image> Which?", "answer": 1, "images": "a.png", "options": "[0.5, 1, 2]", "about": None},
        {"q": "How many?", "answer": 2.5, "images": None, "options": None, "about": {"kind": "sums", "year": 1}},
    ]
    lines = tmp_path / "rows.jsonl"
    lines.write_text("\n".join(map(json.dumps, rows)))
    columns = {"question": "q", "choices": "options", "source": "about.kind"}
    task = FileTask([table(tmp_path / "one.parquet", MIXED, MIXED_ROW)], [str(lines)], columns)
    first, second, third = prompts(task, 3)
    assert [prompt.answer for prompt in (first, second, third)] == ["B", "B", "2.5"]
    assert [prompt.source for prompt in (first, second, third)] == ["logic", "rows", "sums"]
    assert second.question == "Which?\n(A) 0.5\n(B) 1\n(C) 2"
    assert [shown(prompt) for prompt in (first, second, third)] == [[0], [0], []]


@pytest.mark.parametrize(
    ("question", "there", "asked", "order"),
    [
        ("Find x.<image>", "a", "Find x.", [0]),
        ("Look at <image> and say.", "a", "Look at and say.", [0]),
        ("First:\n<image>\nThen say.", "a", "First:\nThen say.", [0]),
        ("<image><image>Compare.", "ab", "Compare.", [0, 1]),
        ("<image> is left, <image> right.", "ab", "image 1 is left, image 2 right.", [0, 1]),
        ("<image 2> is left of <image 1>.", "ab", "image 1 is left of image 2.", [1, 0]),
        ("<image 1>'s left side", "a", "image 1's left side", [0]),
        ("Left:<image 1>Right:\n<image 3>", "a-c", "Left: image 1 Right:\nimage 2", [0, 2]),
        ("What? <image 2>\n<image 1>", "abc", "What?", [1, 0]),
        ("Say again <image 1>, <image 1>.", "ab", "Say again image 1, image 1.", [0]),
        ("<image>What?", "-b", "What?", [1]),
        ("Only one <image>?", "ab", "Only one image 1?", [0, 1]),
        ("No picture needed.", "-bc", "No picture needed.", [1, 2]),
        ("a < b, an <image of> it", "", "a < b, an <image of> it", []),
    ],
)
def test_placeholders(question: str, there: str, asked: str, order: list[int]) -> None:
    images = [None if name == "-" else name for name in there]
    assert refer_to_images(question, [], images) == (asked, [], order)


PIECES = st.lists(st.one_of(st.sampled_from(["<image 1>", "<image 2>", "<image 3>", "\n", " "]), st.text("aB.? ")))


@given(PIECES.map("".join), st.lists(PIECES.map("".join), max_size=3))
def test_no_placeholder_is_left_and_every_name_has_its_image(question: str, choices: list[str]) -> None:
    asked, options, order = refer_to_images(question, choices, ["a", "b", "c"])
    texts = [question, *choices]
    numbers = [int(number) for text in texts for number in re.findall(r"<image (\d)>", text)]
    assert order == ([number - 1 for number in dict.fromkeys(numbers)] if numbers else [0, 1, 2])
    named = [re.findall(r"image (\d)", text) for text in (asked, *options)]
    assert all(1 <= int(name) <= len(order) for names in named for name in names)
    assert "<image" not in "".join((asked, *options))
    for option, choice in zip(options, choices, strict=True):  # options keep all their names, in their order
        meant = [int(number) - 1 for number in re.findall(r"<image (\d)>", choice)]
        assert [order[int(name) - 1] for name in re.findall(r"image (\d)", option)] == meant
    words = [re.sub(r"<?image \d>?|\s", "", text) for text in (question, asked)]
    assert words[0] == words[1]


@given(st.lists(st.text(min_size=1).filter(lambda text: text == text.strip()), max_size=26, unique=True), st.data())
def test_choices_come_back_from_their_text_and_answers_find_their_letter(choices: list[str], data: Any) -> None:
    assert read_choices(str(choices)) == read_choices(choices) == choices
    if choices:
        index = data.draw(st.integers(0, len(choices) - 1))
        letter = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[index]
        assert answer_letter(choices[index], choices) == letter
        assert answer_letter(letter, choices, letter_first=True) == letter
        assert letter_choices(choices).count(f"({letter}) {choices[index]}") >= 1


def test_the_letter_is_what_the_verifier_wants(tmp_path: Path) -> None:
    choice = prompts(a_task(tmp_path, MATHVISTA, MATHVISTA_COLUMNS, *MATHVISTA_ROWS), 2)[1]
    answers = {text: multiple_choice(f"Answer: {text}", choice.answer) for text in ("(B)", "B. No", "A", "(A) Yes")}
    assert answers == {"(B)": True, "B. No": True, "A": False, "(A) Yes": False}


def test_memory_does_not_grow_with_the_rows_that_were_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    picture = PIL.Image.fromarray(noise)  # 30 kB, which no format makes smaller
    rows = [dict.fromkeys(["image_1", "image_2", "image_3"], picture) | MMMU_TEXT for _ in range(60)]
    task = a_task(tmp_path, MMMU, MMMU_COLUMNS, *rows)
    prompts(task, 5)
    tracemalloc.start()
    before = pa.total_allocated_bytes(), tracemalloc.get_traced_memory()[0]
    assert all(len(task.prompt("heldout", index).images) == 3 for index in range(60))
    after = pa.total_allocated_bytes(), tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert max(now - then for now, then in zip(after, before, strict=True)) < 1_000_000  # of 5.4 MB that were read
