"""Checkpoints whose files say what cannot be: ``sieve train --dry-run`` ends in one line that names file and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rl.cli import app
from rl.files.named_checkpoint import SHIPPED_POLICY
from tests.fixtures.runs import SMOKE

CONFIG, GENERATION = "config.json", "generation_config.json"
TOKENIZER, WORDS, PROCESSOR = "tokenizer_config.json", "tokenizer.json", "processor_config.json"

NO_OBJECTS = [
    (file, text) for file in (CONFIG, GENERATION, TOKENIZER, WORDS, PROCESSOR) for text in ("[]", "3", "null")
]
FIELDS: list[tuple[str, str, Any, list[str]]] = [
    (CONFIG, "model_type", ["llama"], ["config.json has model_type ['llama']", "allowed is the name of one"]),
    (CONFIG, "model_type", None, ["its model_type None is unknown"]),
    (CONFIG, "text_config", 3, ["config.json", "text_config"]),
    (CONFIG, "text_config.hidden_size", "wide", ["config.json", "'hidden_size' expected int", "'wide'"]),
    (CONFIG, "text_config.hidden_size", None, ["config.json", "'hidden_size' expected int", "None"]),
    (CONFIG, "text_config.hidden_size", -128, ["config.json has sizes that make no Qwen2_5_VLConfig model"]),
    (CONFIG, "text_config.num_attention_heads", 0, ["config.json has sizes that make no Qwen2_5_VLConfig model"]),
    (CONFIG, "text_config.num_attention_heads", 3, ["config.json", "num_heads", "128", "3"]),
    (CONFIG, "text_config.vocab_size", 100, ["of another shape", "[251, 128] for [100, 128]"]),
    (CONFIG, "text_config.num_hidden_layers", 10**9, ["num_hidden_layers 1,000,000,000; allowed are at most 1,000"]),
    (CONFIG, "vision_config.depth", 10**9, ["depth 1,000,000,000; allowed are at most 1,000"]),
    (CONFIG, "text_config.num_hidden_layers", 4, ["config.json", "num_hidden_layers"]),
    (CONFIG, "text_config.pad_token_id", 251, ["pad_token_id 251 for a vocab_size of 251; allowed is null, or"]),
    (GENERATION, "eos_token_id", "</s>", ["generation_config.json has eos_token_id '</s>'; allowed is the number"]),
    (GENERATION, "eos_token_id", [3, -1], ["generation_config.json has eos_token_id -1"]),
    (GENERATION, "eos_token_id", [3, 100_000], ["token 100000, and its model embeddings of 251"]),
]


def refused(folder: Path, file: str, text: str) -> str:
    """What is said of the shipped policy with another text in one of its files."""
    for whole in SHIPPED_POLICY.iterdir():
        if whole.name != file:
            (folder / whole.name).symlink_to(whole)
    (folder / file).write_text(text)
    result = CliRunner().invoke(app, ["train", str(SMOKE), "--dry-run", f"policy.checkpoint={folder}"])
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and len(result.stderr) < 1000, result.stderr
    assert result.stderr.startswith("sieve: policy.checkpoint: ")
    return result.stderr


@pytest.mark.parametrize(("file", "text"), NO_OBJECTS)
def test_a_file_that_is_no_object_is_named(file: str, text: str, tmp_path: Path) -> None:
    assert f"{file} is damaged: allowed is an object" in refused(tmp_path, file, text)


@pytest.mark.parametrize(("file", "field", "value", "words"), FIELDS)
def test_a_field_that_makes_no_sense_is_named(
    file: str, field: str, value: Any, words: list[str], tmp_path: Path
) -> None:
    content = json.loads((SHIPPED_POLICY / file).read_text())
    *parts, last = field.split(".")
    owner = content
    for part in parts:
        owner = owner[part]
    owner[last] = value
    said = refused(tmp_path, file, json.dumps(content))
    assert [word for word in words if word not in said] == [], said
