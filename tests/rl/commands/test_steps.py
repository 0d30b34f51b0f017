"""``sieve steps``: how texts are cut, as tokens of the policy, and what it refuses."""

# ruff: noqa: RUF001

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

from rl.cli import app
from rl.config import load_config
from rl.files.named_checkpoint import SHIPPED_POLICY
from tests.fixtures.byte_level import TEXTS, trained_vocabulary, write_processor
from tests.fixtures.recorded_streams import record_stream

GRID = "1: red 1 0 0 = 1\n2: 1 * 4 = 4\nAnswer: 4"


def sieve(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["steps", *map(str, arguments)], env={"COLUMNS": "200"})


def table_row(output: str, rule: str) -> list[str]:
    (line,) = [line for line in output.splitlines() if line.startswith(f"│ {rule} ")]
    return [cell.strip() for cell in line.strip("│").split("│")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_steps_tokens_and_the_answer_are_shown(folder: Path) -> None:
    (folder / "a.jsonl").write_text(json.dumps(GRID) + "\n" + json.dumps({"text": GRID}) + "\n", encoding="utf-8")
    result = sieve("a.jsonl", "--show", 1)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[:4] == [
        "line 1: 17 tokens",
        "  step 1       8  1: red 1 0 0 = 1⏎",
        "  step 2       7  2: 1 * 4 = 4⏎",
        "  no step      2  Answer: 4",
    ]
    assert "line 2" not in result.output
    assert table_row(result.output, "line *") == ["line *", "2 / 2 / 2", "7 / 7.5 / 8", "0 of 2"]
    assert table_row(result.output, "blank_line") == ["blank_line", "1 / 1 / 1", "15 / 15 / 15", "2 of 2"]


def test_a_byte_level_vocabulary_of_ones_own(folder: Path) -> None:
    checkpoint = write_processor(trained_vocabulary(), folder / "checkpoint")
    save_file({}, folder / "checkpoint" / "model.safetensors")
    shutil.copy(SHIPPED_POLICY / "config.json", checkpoint)
    (folder / "answer.txt").write_text(TEXTS["Chinese"], encoding="utf-8")
    keys = [
        f"policy.checkpoint={checkpoint}",
        "task.steps=sentence",
        "task.answer_marker=答案：",
        "task.reasoning_marker=【推理】",
    ]
    result = sieve("answer.txt", *keys)
    assert result.exit_code == 0, result.output
    shown = [line.split(maxsplit=3)[3] for line in result.output.splitlines() if line.startswith(("  step", "  no"))]
    assert shown == [
        "【观察】图中有一个红色的圆。",
        "它的直径是三厘米。⏎",
        "[reasoning] 【推理】所以面积是七。⏎",
        "答案：七",
    ]
    assert table_row(result.output, "sentence *")[1] == "3 / 3 / 3" and "characters" not in result.output


def test_what_the_tokenizer_cannot_spell_is_counted_in_characters(folder: Path) -> None:
    (folder / "a.txt").write_text("I look at it.\nThen I count.", encoding="utf-8")
    result = sieve("a.txt")
    assert result.exit_code == 0 and "text: 27 characters" in result.output
    assert "the tokenizer of grid_policy cannot spell these texts" in result.output


def test_a_recorded_run_brings_its_tokens_and_its_configuration(folder: Path) -> None:
    config = load_config(None, ["steps=2", "learner.prompts=2", "learner.samples=2", "evaluation.every=2"])
    record_stream(folder / "run", config)
    result = sieve(folder / "run", "--show", 1)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("step 1, ") and table_row(result.output, "line *")[3].startswith("0 of ")
    path = folder / "run" / "stream" / "step-000001.parquet"
    table = pq.read_table(path)
    for tokens in ([2**62], [300], [-1]):
        first, *others = table.to_pylist()
        first["token_ids"][:1] = tokens
        pq.write_table(pa.Table.from_pylist([first, *others], table.schema), path)
        result = sieve(folder / "run")
        assert result.exit_code == 2 and f"{path}: row 0: token_ids" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "contents", "told"),
    [
        (["nowhere.jsonl"], None, "nowhere.jsonl: cannot be read: No such file"),
        (["a.jsonl"], b"", "a.jsonl: holds no text"),
        (["a.txt"], b" \n", "a.txt: holds no text"),
        (["a.txt"], "x".encode("utf-16"), "a.txt: cannot be read: it is UTF-16"),
        (["a.jsonl"], b'"a"\n{', "a.jsonl:2: not JSON"),
        (["a.jsonl"], b"[[1]]", "a.jsonl:1: holds a list; allowed is a text, or an object with one"),
        (["a.jsonl"], rb'{"text": "\ud800"}', "a.jsonl:1: holds half of a character"),
        (["a.jsonl"], '"a"'.encode("utf-16"), "a.jsonl: cannot be read: it is UTF-16"),
        (["a.txt"], "a".encode("utf-16-le"), "a.txt: cannot be read: it holds zero bytes"),
        (["a.txt"], gzip.compress(b"a", mtime=0)[:-9], "a.txt: cannot be read: its compression is damaged"),
        (["a.parquet"], b"PAR1", "a.parquet: cannot be read: not readable as Parquet"),
        (["a.jsonl"], b'{"answer": "a"}', "a.jsonl:1: holds no text in response or completion"),
        (["a.jsonl", "--column", "b"], b'{"a": "x", "b": 3}', "holds no text in b; there is a, b; see --column"),
        (["a.jsonl", "--show", "-1"], b'"a"', "--show -1: allowed is 0 or more"),
        (["a.jsonl", "task.steps=sentences"], b'"a"', "did you mean sentence?"),
        (["a.jsonl", "task.steps=("], b'"a"', "configuration: task.steps: '(' is not allowed"),
        (["a.jsonl", "task.steps=nowhere:cut"], b'"a"', "task.steps: 'nowhere:cut' cannot be imported"),
        (["a.jsonl", "task.steps=json:loads"], b'"a"', "task.steps json:loads failed: JSONDecodeError"),
        (["a.jsonl", "absent.yaml"], b'"a"', "absent.yaml: cannot be read"),
        (["."], None, "holds no recorded stream"),
    ],
)
def test_wrong_input_is_refused_in_one_line(
    folder: Path, arguments: list[str], contents: bytes | None, told: str
) -> None:
    if contents is not None:
        (folder / arguments[0]).write_bytes(contents)
    result = sieve(*arguments)
    assert result.exit_code == 2, result.output
    assert told in result.output and result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl.gz", gzip.compress(json.dumps({"response": GRID}).encode())),
        ("a.json", json.dumps([{"response": GRID}, GRID]).encode()),
        ("a.txt", b"\xef\xbb\xbf" + GRID.encode()),
        ("a.txt.gz", gzip.compress(GRID.encode())),
    ],
    ids=["gzip of lines", "list", "byte order mark", "gzip of text"],
)
def test_files_are_read_as_other_commands_read_them(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    result = sieve(name, "--show", 1)
    assert result.exit_code == 0, result.output
    assert [line.split()[:2] for line in result.output.splitlines()[1:3]] == [["step", "1"], ["step", "2"]]


def test_a_rule_of_steps_is_no_markup(folder: Path) -> None:
    (folder / "a.txt").write_text(GRID)
    result = sieve("a.txt", r"task.steps='[/.]\s'")
    assert result.exit_code == 0 and r"│ [/.]\s *" in result.output, result.output


def test_what_moves_a_terminals_cursor_is_shown_as_a_code(folder: Path) -> None:
    (folder / "a.jsonl").write_text(json.dumps("red\x1b[2J\r\n" + "x" * 300))
    output = sieve("a.jsonl").output
    assert "\x1b" not in output and r"red\x1b[2J\r⏎" in output and "x" * 100 not in output
