"""What a dry run says of the tables, source by source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from rewards.models.encoding import Encoder
from rl.config import Config
from rl.config.sections import EngineConfig, TaskConfig
from rl.errors import ConfigError
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.tasks.survey import survey_lines
from tests.fixtures.builders import an_image
from tests.fixtures.wrong_files import encoded


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(str(SHIPPED_POLICY))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    files = {"small": encoded(an_image(size=(84, 84)), "PNG"), "large": encoded(an_image(size=(280, 280)), "PNG")}
    files |= {"broken": b"no picture", "cut": encoded(PIL.Image.fromarray(noise), "JPEG")[:900]}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    rows = ["a,small", "a,large", "b,large", "b,small", "b,broken", "b,cut", "b,gone", "text,"]
    lines = [f"red = ?,1,{row.split(',')[1]},{row.split(',')[0]}" for row in rows]
    (tmp_path / "train.csv").write_text("\n".join(["question,answer,images,source", *lines, "red = ?,,,b"]))
    (tmp_path / "heldout.csv").write_text("question,answer\nred = ?,1\nred = <|im_end|> ?,1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def survey(encoder: Encoder | None, **task: Any) -> tuple[dict[str, list[str]], list[str], str]:
    """The cells of each source, by split and name, the lines that follow, and what it is refused for in the end."""

    def make() -> Encoder:
        if encoder is None:
            raise ConfigError("there is no processor here")
        return encoder

    named = {"train_files": ("train.csv",), "heldout_files": ("heldout.csv",)} | task
    engine = EngineConfig(max_completion_tokens=8, max_model_len=64)
    said, refused = [], ""
    try:
        for line in survey_lines(Config(task=TaskConfig(name="files", **named), engine=engine), make):
            said.append(line)
    except ConfigError as error:
        refused = str(error)
    empty, head, *lines = said
    assert empty == "" and head.split()[:4] == ["tables", "rows", "pictures", "resized"]
    found = [line.split() for line in lines[:4]]
    return {" ".join(words[:3]): words[3:] for words in found}, lines[4:], refused


def test_every_row_is_counted_with_what_becomes_of_it(encoder: Encoder, folder: Path) -> None:
    found, further, refused = survey(encoder, long_prompts="drop")
    # rows, pictures, resized, dropped, unreadable, longest
    assert found["train, train.csv: a"] == ["2", "2", "0", "1", "0", "22", "(train.csv:0)"]
    assert found["train, train.csv: b"] == ["6", "5", "0", "1", "4", "22", "(train.csv:3)"]
    assert found["train, train.csv: text"] == ["1", "0", "0", "0", "0", "11", "(train.csv:7)"]
    assert found["heldout, heldout.csv: heldout"] == ["2", "0", "0", "0", "1", "11", "(heldout.csv:0)"]
    said = "\n".join(further)
    for part in ("broken cannot be read", "cut cannot be read", "train.csv:1: the prompt has", "'<|im_end|>'"):
        assert part in said
    assert refused.startswith("5 rows of the tables are refused; the first: train.csv:")
    assert survey(encoder)[2].startswith("7 rows of the tables are refused"), "two are too long"


def test_rows_that_can_all_be_read_are_not_refused(encoder: Encoder, folder: Path) -> None:
    (folder / "train.csv").write_text("question,answer,images,source\nred = ?,1,small,a\nred = ?,2,,b\n")
    (folder / "heldout.csv").write_text("question,answer\nred = ?,1\n")
    assert survey(encoder)[2] == ""


def test_bounds_and_smaller_pictures_are_counted(encoder: Encoder, folder: Path) -> None:
    found, *_ = survey(encoder, long_prompts="shrink")
    assert found["train, train.csv: a"][:5] == ["2", "2", "1", "0", "0"]
    found, *_ = survey(encoder, max_pixels=60 * 60)
    assert found["train, train.csv: a"] == ["2", "2", "2", "0", "0", "17", "(train.csv:0)"]


def test_without_a_processor_all_else_is_counted(folder: Path) -> None:
    found, further, _ = survey(None, min_pixels=10_000)
    assert found["train, train.csv: a"] == ["2", "2", "1", "0", "0"]
    assert further[-1] == "  tokens were not counted: there is no processor here"


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"train_files": ("gone.csv",)}, "gone.csv: no such file"),
        ({"train_files": ("heldout.csv",)}, "heldout.csv: is in both"),
        ({"columns": {"question": "q"}}, "train.csv: no column 'q' for question"),
        ({"image_root": "gone"}, "task.image_root: 'gone' is no folder"),
    ],
)
def test_what_cannot_be_opened_is_said(task: dict[str, Any], said: str, folder: Path, encoder: Encoder) -> None:
    named = {"train_files": ("train.csv",), "heldout_files": ("heldout.csv",)} | task
    with pytest.raises(ConfigError) as refused:
        list(survey_lines(Config(task=TaskConfig(name="files", **named)), lambda: encoder))
    assert str(refused.value).startswith(said)


def test_references_that_the_verifier_cannot_read_are_named(folder: Path, encoder: Encoder) -> None:
    Path("heldout.csv").write_text("question,answer\nred = ?,1\nred = ?,1 or 2\n")
    _, further, _ = survey(encoder, verifier="numeric")
    assert any("numeric cannot read 1 of" in line and "heldout.csv: row 1 '1 or 2'" in line for line in further)
    assert not any("cannot read 1 of" in line for line in survey(encoder, verifier="exact")[1])


@pytest.mark.parametrize("mixture", [{"gone": 1.0}, {"a": 1.0, "gone": 2.0}, {"heldout": 1.0}])
def test_a_share_of_a_source_that_is_not_there_is_said(mixture: Any, folder: Path, encoder: Encoder) -> None:
    rows = "red = ?,1,small,a\nred = ?,2,small,b\nred = ?,3,,text\n"
    (folder / "train.csv").write_text(f"question,answer,images,source\n{rows}")
    (folder / "heldout.csv").write_text("question,answer\nred = ?,1\n")
    refused = survey(encoder, mixture=mixture)[2]
    assert refused == f"task.mixture: no source {[*mixture][-1]!r} among the training prompts; there are a, b, text"
    assert not survey(encoder, mixture={"a": 1.0, "text": 3.0})[2]


def test_other_tasks_have_no_tables(encoder: Encoder) -> None:
    assert list(survey_lines(Config(), lambda: encoder)) == []
