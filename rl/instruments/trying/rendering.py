"""A prompt as the model reads it: special tokens visible, and the tokens that its pictures became."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

from rewards.models.encoding import Encoder
from rewards.records import Prompt
from rl.instruments.trying.trial import RenderedPrompt


def render(encoder: Encoder, prompt: Prompt) -> RenderedPrompt:
    """The prompt through the checkpoint's chat template and processor.

    Raises:
        PromptError: The processor cannot read it.
    """
    tokens = _tokens(encoder, prompt)
    return RenderedPrompt(prompt, tuple(_pieces(encoder, tokens)), len(tokens), _picture_tokens(encoder, prompt))


def answer_ends(encoder: Encoder) -> tuple[str, ...]:
    """What ends an answer, as it is spelled."""
    ends = sorted(encoder.end_tokens)
    spelled = encoder.tokenizer.convert_ids_to_tokens(ends)
    return tuple(word or f"token {end}" for word, end in zip(spelled, ends, strict=True))


def _tokens(encoder: Encoder, prompt: Prompt) -> list[int]:
    return encoder.batch([prompt], [()]).prompt_ids[0].tolist()


def _pieces(encoder: Encoder, tokens: list[int]) -> Iterator[tuple[str, bool]]:
    """Texts in between special tokens, and these, equal ones in a row as one."""
    special = {token for token, added in encoder.tokenizer.added_tokens_decoder.items() if added.special}
    special |= encoder.placeholders
    for key, run in groupby(tokens, key=lambda token: token if token in special else None):
        alike = list(run)
        if key is None:
            yield encoder.tokenizer.decode(alike, clean_up_tokenization_spaces=False), False
        else:
            spelled = encoder.tokenizer.convert_ids_to_tokens(key)
            yield spelled if len(alike) == 1 else f"{spelled} x {len(alike):,}", True


def _picture_tokens(encoder: Encoder, prompt: Prompt) -> tuple[int, ...]:
    """Of each picture, where it becomes as many tokens alone as among the others; else of all."""

    def count(shown: Prompt) -> int:
        return sum(token in encoder.placeholders for token in _tokens(encoder, shown))

    whole = count(prompt)
    alone = [
        count(replace(prompt, id=f"{prompt.id}, picture {number}", images=(image,)))
        for number, image in enumerate(prompt.images, start=1)
    ]
    return tuple(alone) if sum(alone) == whole else (whole,)
