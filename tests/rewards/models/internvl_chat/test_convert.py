"""A converted checkpoint of the layout `internvl_chat` scores what the original scores, by its description."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, AutoTokenizer
from typer.testing import CliRunner

from rewards.models.encoding import Encoder
from rewards.models.rollout_of_steps import rollout_of_steps
from rewards.process_model.config import MPRMConfig
from rewards.process_model.mprm import open_mprm
from rewards.process_model.reading import SYSTEM_PROMPT
from rewards.records import Prompt
from rl.cli import app
from tests.fixtures.original_internvl_chat import SPECIAL, TILE, original_logits, write_original
from tests.fixtures.policy_families import a_picture

KINDS = [("InternLM2ForCausalLM", "layer_norm"), ("Qwen2ForCausalLM", "rms_norm")]
STEPS = ["Step 1: 2 + 3 = 5", "so  5 red circles — and 2 blue\tones", "Step 3: 7"]
DEFAULT_SYSTEM = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"  # noqa: RUF001
)


def converted(source: Path, output: Path) -> str:
    """The command's output, once it is done."""
    result = CliRunner().invoke(app, ["convert-prm", str(source), "-o", str(output)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Path, dict[str, Any], Path]]:
    """The folder of an original, its configuration, and the folder that it was converted into."""
    made: dict[str, tuple[Path, dict[str, Any], Path]] = {}

    def find(language: str, norm: str) -> tuple[Path, dict[str, Any], Path]:
        if language not in made:
            folder = tmp_path_factory.mktemp(language)
            config = write_original(folder / "original", language, norm)
            (folder / "original" / "modeling_internvl_chat.py").write_text("raise SystemExit('code was run')")
            assert "InternVLForConditionalGeneration" in converted(folder / "original", folder / "converted")
            made[language] = folder / "original", config, folder / "converted"
        return made[language]

    return find


def original_tokens(folder: Path) -> Callable[[str], list[int]]:
    """The original's tokenizer: between its special tokens, SentencePiece alone."""
    if not (folder / "tokenizer.model").is_file():
        plain = AutoTokenizer.from_pretrained(folder)
        return lambda text: plain(text, add_special_tokens=False)["input_ids"]
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    added = json.loads((folder / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    numbers = {entry["content"]: int(number) for number, entry in added.items()}

    def tokens(text: str) -> list[int]:
        parts = re.split("(" + "|".join(map(re.escape, SPECIAL)) + ")", text)
        return [
            token
            for part in parts
            for token in ([numbers[part]] if part in numbers else pieces.encode(part, out_type=int))
        ]

    return tokens


@pytest.mark.parametrize(("language", "norm"), KINDS)
def test_scores_are_what_they_were(language: str, norm: str, original: Callable[..., Any]) -> None:
    source, config, folder = original(language, norm)
    encoder = Encoder(str(folder))
    picture = a_picture(112, 56, 7)
    prompt = Prompt("p", "", "how many red circles are there?", (picture,), "")
    rollout = rollout_of_steps("p", prompt.question, STEPS, encoder, "\n", False, "")
    mprm = open_mprm(str(folder), encoder, MPRMConfig(input_format="chat"))
    (said,) = mprm.score([prompt], [rollout])

    tokens, tiles = original_tokens(source), encoder.processor.image_processor(picture, return_tensors="pt")
    picture_tokens = "<img>" + "<IMG_CONTEXT>" * (4 * len(tiles["pixel_values"])) + "</img>"
    turns = [f"{picture_tokens}\n### Question:\n{prompt.question}\n\n### Solution Process:\n{STEPS[0]}", *STEPS[1:]]
    text = f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n"
    sequence = [1] if language == "InternLM2ForCausalLM" else []
    sequence += tokens(text)
    ends = []
    for turn in turns:
        sequence += tokens(f"<|im_start|>user\n{turn}<|im_end|>\n<|im_start|>assistant\n")
        ends.append(len(sequence) - 1)
        sequence += tokens("+<|im_end|>\n")
    state = load_file(source / "model.safetensors")
    (context,) = tokens("<IMG_CONTEXT>")
    logits = original_logits(state, config, sequence[: ends[-1] + 1], tiles["pixel_values"], context)[ends]
    (right,), (wrong,) = tokens("+"), tokens("-")
    expected = torch.sigmoid(logits[:, right] - logits[:, wrong]).numpy()
    np.testing.assert_allclose(said.scores, expected, atol=1e-5)
    assert np.ptp(expected) > 1e-3, "steps that all score the same would tell nothing"


@pytest.mark.parametrize(("language", "norm"), KINDS)
def test_text_becomes_the_tokens_that_it_was(language: str, norm: str, original: Callable[..., Any]) -> None:
    source, _, folder = original(language, norm)
    tokens, encoder = original_tokens(source), Encoder(str(folder))
    for text in (
        "Question: how many?",
        " two  blanks first, one last ",
        "a\n\nb\tc",
        "größer, 數學, 🙂",
        "<|im_start|>user\nred<|im_end|>\n<img><IMG_CONTEXT></img>+-",
    ):
        assert encoder.tokens(text) == tokens(text), text
        assert encoder.decode(encoder.plain_tokens(text)) == text


def test_a_picture_becomes_tiles_and_a_thumbnail(original: Callable[..., Any]) -> None:
    _, _, folder = original(*KINDS[0])
    picture = a_picture(112, 56, 3)
    found = AutoProcessor.from_pretrained(folder).image_processor(picture, return_tensors="pt")["pixel_values"]
    parts = [picture.crop((0, 0, TILE, TILE)), picture.crop((TILE, 0, 2 * TILE, TILE))]
    parts.append(picture.resize((TILE, TILE), Image.Resampling.BICUBIC))
    levels = torch.tensor(np.stack(parts), dtype=torch.float32).permute(0, 3, 1, 2) / 255
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    torch.testing.assert_close(found[:2], ((levels - mean) / deviation)[:2], atol=1e-5, rtol=0)
    assert (found * deviation + mean - levels)[2].abs().max() < 3 / 255, "libraries round in their own ways"


def test_a_conversation_without_a_system_prompt_has_the_templates_own(original: Callable[..., Any]) -> None:
    encoder = Encoder(str(original(*KINDS[0])[2]))
    asked = encoder.chat.render([("user", "Why?")], images=1, answer_follows=True)
    assert asked == (
        f"<|im_start|>system\n{DEFAULT_SYSTEM}<|im_end|>\n"
        "<|im_start|>user\n<IMG_CONTEXT>\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert encoder.end_token == encoder.tokens("<|im_end|>")[0]


def _change(*keys: str, value: Any) -> Callable[[Path], None]:
    """Put a value into the configuration; None leaves the key out."""

    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        section = config
        for key in keys[:-1]:
            section = section[key]
        section.pop(keys[-1]) if value is None else section.update({keys[-1]: value})
        (folder / "config.json").write_text(json.dumps(config))

    return change


def _weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors")

    return changed


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_change("model_type", value="llava"), "model_type is 'llava'; allowed is internvl_chat"),
        (_change("ps_version", value="v1"), "ps_version is 'v1'; allowed is v2"),
        (_change("template", value="Hermes-2"), "template is 'Hermes-2'; allowed is internvl2_5"),
        (
            _change("llm_config", "architectures", value=["Phi3ForCausalLM"]),
            "is 'Phi3ForCausalLM'; allowed is InternLM2F",
        ),
        (_change("llm_config", "rope_pos_id_version", value="v2pe"), "rope_pos_id_version is 'v2pe'"),
        (_change("llm_config", value=None), "config.json has no section llm_config"),
        (_change("vision_config", "hidden_size", value=None), "config.json has no vision_config.hidden_size"),
        (_change("downsample_ratio", value=None), "config.json has no downsample_ratio"),
        (_change("llm_config", "num_attention_heads", value=8), "wqkv.weight has 128 rows, which do not fit"),
        (_change("llm_config", "vocab_size", value=9), "lm_head.weight is ["),
        (_weights(lambda state: state.pop("mlp1.3.bias")), "multi_modal_projector.linear_2.bias is missing"),
        (
            _weights(lambda state: state.update({"extra.weight": torch.ones(2)})),
            "extra.weight is [2]; config.json wants",
        ),
        (lambda folder: (folder / "config.json").write_text("[1]"), "config.json is damaged: allowed is an object"),
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
        (lambda folder: (folder / "tokenizer.model").write_bytes(b"no model"), "tokenizer.model is damaged"),
        (lambda folder: (folder / "tokenizer_config.json").unlink(), "no token '<|im_end|>', which the layout writes"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "model.bin"), "holds no *.safetensors"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_one_line(
    spoil: Callable[[Path], Any], reason: str, tmp_path: Path
) -> None:
    source, output = tmp_path / "original", tmp_path / "converted"
    write_original(source, "InternLM2ForCausalLM")
    spoil(source)
    result = CliRunner().invoke(app, ["convert-prm", str(source), "-o", str(output)])
    assert (result.exit_code, result.output.count("\n")) == (2, 1), result.output
    assert result.output.startswith("sieve: CHECKPOINT") and reason in result.output
    assert not output.exists() and list(tmp_path.iterdir()) == [source]
