"""Chat templates where processors have none of their own, and where they are a language model's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rewards.models.encoding import Encoder
from rewards.records import Prompt
from tests.fixtures.builders import an_image
from tests.fixtures.tiny_families import write_tiny_checkpoint

TEXTS_ALONE = (
    "{% for turn in messages %}{{ '<|im_start|>' + turn['role'] + '\n' + turn['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PROMPT = Prompt("two", "s", "How many?", (an_image((255, 0, 0)), an_image((0, 0, 255))), "4")


def in_the_tokenizer(folder: Path, template: str | None = None) -> str:
    """A checkpoint whose processor has no chat template, but its tokenizer; its own, or another."""
    checkpoint = write_tiny_checkpoint("llava_onevision", folder)
    file, settings = folder / "chat_template.jinja", json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = file.read_text() if template is None else template
    file.unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return checkpoint


def test_the_tokenizers_stands_in_for_the_processors(tmp_path: Path) -> None:
    encoder = Encoder(in_the_tokenizer(tmp_path / "one"))
    assert encoder.processor.chat_template is None
    whole = Encoder(write_tiny_checkpoint("llava_onevision", tmp_path / "other"))
    assert encoder.chat_text(PROMPT) == whole.chat_text(PROMPT)
    assert encoder.end_tokens == whole.end_tokens


def test_a_language_models_takes_texts_and_pictures_by_their_token(tmp_path: Path) -> None:
    encoder = Encoder(in_the_tokenizer(tmp_path, TEXTS_ALONE))
    asked = "<|im_start|>user\n<image>\n<image>\nHow many?<|im_end|>\n<|im_start|>assistant\n"
    assert encoder.chat_text(PROMPT) == asked
    assert encoder.chat.pictures(2) == "<image>\n<image>\n"
    assert sum(token in encoder.placeholders for token in encoder.prompt_tokens(PROMPT)) == 2
    assert "pixel_values" in encoder.batch([PROMPT], [()]).images


def test_none_at_all_is_refused(tmp_path: Path) -> None:
    checkpoint = in_the_tokenizer(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": None}))
    with pytest.raises(ValueError, match="chat_template"):
        Encoder(checkpoint)
