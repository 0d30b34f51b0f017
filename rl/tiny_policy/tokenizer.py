"""The tiny policy's tokenizer: one token a word, each with the space before it, so that text survives byte for byte."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rl.tasks.grid_scene import ATTRIBUTES

END_OF_TURN = "<|im_end|>"
PAD = "<|endoftext|>"
UNKNOWN = "<|unknown|>"
SPECIAL = (
    PAD,
    UNKNOWN,
    "<|im_start|>",
    END_OF_TURN,
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
NUMBERS = tuple(f" {number}" for number in range(200))
# Operators in text follow a space; "+" and "-" without one are free to be a reward model's verdicts.
WORDS = (
    *("\n", " ", "+", "-", "system", "user", "assistant"),
    *("Total:", "Chain:", "Compare:", "Modulo:", "Count:", "Answer:"),
    *(f"{step}:" for step in range(1, 10)),
    *(f" {attribute}" for attribute in ATTRIBUTES),
    *(" nothing", " +", " *", " =", " ?", " (", " )", " mod", " vs", " A", " B", " C", " more", " less", " same"),
)

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part['type'] == 'text' -%}{{- part['text'] -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Texts of the vocabulary's words survive encoding and decoding; any other word becomes the unknown token."""
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *WORDS, *NUMBERS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n| ?[^ \n]+| "), behavior="isolated")
    words.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=END_OF_TURN,
        additional_special_tokens=[token for token in SPECIAL if token not in (PAD, UNKNOWN, END_OF_TURN)],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=512,
    )
