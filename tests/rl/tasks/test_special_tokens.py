"""Special tokens of a checkpoint in a question: named with their row, before anything starts and at every reader."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rewards.models.encoding import Encoder
from rewards.records import PromptError
from rl.config import Config
from rl.config.sections import TaskConfig
from rl.errors import ConfigError
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.tasks.making import make_task
from tests.fixtures.builders import a_prompt
from tests.fixtures.tiny_families import FAMILIES, write_tiny_checkpoint

SPELLED = ["<|image_pad|>", "<|vision_start|>", "<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|video_pad|>"]
HARMLESS = ["<|image|>", "<image>", "a < b | c > d", "<|", "image_pad", "im_end", "<b>bold</b>", "{{ x }}", "<think>"]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(str(SHIPPED_POLICY))


@pytest.mark.parametrize("spelled", SPELLED)
def test_a_special_token_is_named_with_its_row(spelled: str, encoder: Encoder, tmp_path: Path) -> None:
    rows = [{"question": "?", "answer": 1}, {"question": f"What is {spelled} here?", "answer": 1}]
    for name, kept in {"train": rows, "heldout": rows[:1]}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, kept)))
    named = {f"{split}_files": (str(tmp_path / f"{split}.jsonl"),) for split in ("train", "heldout")}
    config = Config(task=TaskConfig(name="files", shuffle=False, **named))
    said = f"{tmp_path}/train.jsonl:1: its question holds '{spelled}', a special token of this checkpoint"
    with pytest.raises(ConfigError) as caught:
        make_task(config, encoder)
    assert str(caught.value).startswith(said)
    prompt = make_task(config).prompt("train", 1)
    for read in (encoder.prompt_tokens, encoder.head_length):
        with pytest.raises(PromptError) as error:
            read(prompt)
        assert str(error.value).startswith(said)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_so_are_those_of_every_family(family: str, tmp_path: Path) -> None:
    encoder = Encoder(write_tiny_checkpoint(family, tmp_path))
    special = {*encoder.tokenizer.all_special_tokens} - {encoder.tokenizer.unk_token}
    assert special
    for token in special:
        with pytest.raises(PromptError, match="a special token"):
            encoder.chat_text(replace(a_prompt(), question=f"a{token}b"))


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_one_is_asked(text: str, encoder: Encoder) -> None:
    assert encoder.prompt_tokens(replace(a_prompt(), question=text))
