"""The tokenizer and the processor of the `internvl_chat` layout as Transformers' own.

A picture becomes square tiles, and a thumbnail where there are several. A conversation is that of the template
`internvl2_5`, with its system prompt where it brings none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from transformers import AutoTokenizer, GotOcr2ImageProcessor, InternVLProcessor, LlamaTokenizer
from transformers.convert_slow_tokenizer import SentencePieceExtractor
from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor
from transformers.tokenization_utils_base import generate_merges

from rewards.files.json_text import read_json
from rewards.files.whole_file import content_of
from rewards.models.internvl_chat.settings import tokens_a_tile

PICTURE = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
"""What the processor calls the layout's tokens of a picture. There is none for a video, which it also wants."""
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
"""Of the colours of ImageNet's pictures."""
END_OF_TURN = "<|im_end|>"
SYSTEM = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"  # noqa: RUF001
CHAT = f"""\
{{%- if messages[0]['role'] != 'system' -%}}{{{{- '<|im_start|>system\\n{SYSTEM}<|im_end|>\\n' -}}}}{{%- endif -%}}
{{%- for message in messages -%}}
{{{{- '<|im_start|>' + message['role'] + '\\n' -}}}}
{{%- if message['content'] is string -%}}{{{{- message['content'] -}}}}{{%- else -%}}
{{%- for part in message['content'] -%}}
{{{{- '<IMG_CONTEXT>\\n' if part['type'] == 'image' else part['text'] -}}}}
{{%- endfor -%}}{{%- endif -%}}
{{{{- '<|im_end|>\\n' -}}}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}{{{{- '<|im_start|>assistant\\n' -}}}}{{%- endif -%}}
"""


def native_processor(folder: Path, original: Mapping[str, Any]) -> InternVLProcessor:
    """The processor of a checkpoint.

    Args:
        folder: The checkpoint's.
        original: What its ``config.json`` holds, of this layout.

    Raises:
        ValueError: It has no tokenizer that can be read, or one without the layout's tokens.
    """
    tokenizer = _from_sentencepiece(folder) if (folder / "tokenizer.model").is_file() else _from_json(folder)
    known = tokenizer.get_vocab()
    for token in (*list(PICTURE.values())[:3], END_OF_TURN):
        if token not in known:
            raise ValueError(f"the tokenizer has no token {token!r}, which the layout writes")
    tile = dict.fromkeys(("height", "width"), original["vision_config"]["image_size"])
    pictures = GotOcr2ImageProcessor(
        size=tile,
        crop_to_patches=original.get("dynamic_image_size", True),
        min_patches=original.get("min_dynamic_patch", 1),
        max_patches=original.get("max_dynamic_patch", 12),
        image_mean=MEAN,
        image_std=DEVIATION,
    )
    videos = InternVLVideoProcessor(size=tile)
    return InternVLProcessor(pictures, tokenizer, videos, image_seq_length=tokens_a_tile(original), chat_template=CHAT)


def _from_json(folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder, extra_special_tokens=PICTURE, chat_template=CHAT)
    except Exception as error:  # a broken one can fail in any way
        raise ValueError(f"the tokenizer cannot be read: {' '.join(str(error).split())}") from None


def _from_sentencepiece(folder: Path) -> LlamaTokenizer:
    """InternLM2's, whose class is published as code: SentencePiece's pieces, some of them replaced by other tokens, and
    more tokens after them."""
    try:
        model = SentencePieceExtractor(str(folder / "tokenizer.model")).proto
    except Exception as error:  # protobuf's own kinds
        raise ValueError(f"tokenizer.model is damaged: {' '.join(str(error).split())}") from None
    pieces = [piece.piece for piece in model.pieces]
    normal = {piece.piece: place for place, piece in enumerate(model.pieces) if piece.type == 1}
    added = _added_tokens(folder)
    names = {place: f"<|unused_{place}|>" for place in range(len(pieces), max(added, default=0) + 1)}
    vocabulary = {name: place for place, name in {**dict(enumerate(pieces)), **names, **added}.items()}
    trained = model.trainer_spec
    tokenizer = LlamaTokenizer(
        vocabulary,
        generate_merges(normal),
        add_prefix_space=model.normalizer_spec.add_dummy_prefix,
        unk_token=pieces[trained.unk_id],
        bos_token=pieces[trained.bos_id],
        eos_token=pieces[trained.eos_id],
        pad_token=pieces[trained.eos_id],
        padding_side="left",
        extra_special_tokens=PICTURE,
        chat_template=CHAT,
    )
    tokenizer.add_bos_token = _read(folder / "tokenizer_config.json").get("add_bos_token", True)
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for _, token in sorted(added.items())])
    return tokenizer


def _added_tokens(folder: Path) -> dict[int, str]:
    """Tokens that are not SentencePiece's, by their number."""
    added = {number: token for token, number in _read(folder / "added_tokens.json").items()}
    configured = _read(folder / "tokenizer_config.json").get("added_tokens_decoder", {})
    return added | {int(number): entry["content"] for number, entry in configured.items()}


def _read(file: Path) -> dict[str, Any]:
    return read_json(content_of(file)) if file.is_file() else {}
