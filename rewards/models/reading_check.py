"""Whether a model reads rows as everything here takes for granted: alike alone and in a batch, and never ahead.

Rollouts of different lengths, with and without pictures, go through a model side by side, filled up with padding. Most
families give each the log-probabilities that it has alone. Some do not, and would learn from wrong numbers without a
word: learned positions that count the padding, states that run through it, pictures that are read elsewhere than where
they stand, tokens that see those after them. So a model is asked to read a few rows before anything is made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from rewards.models.encoding import Encoder
from rewards.records import Prompt


def check_reading(model: Any, encoder: Encoder) -> None:
    """Have a model read prompts without, with one and with two pictures, as far as its processor takes them.

    Where a processor tells types of tokens, the type of an answer's is found here, too: PaliGemma's prompts are read in
    both directions, and so would an answer be that is of their type.

    Args:
        model: Whole, and where it can compute.
        encoder: Its processor; told the type, and what to fill up rows with.

    Raises:
        ValueError: A row is read otherwise than alone, or ahead, or not at all.
        PromptError, ValueError: Processor or chat template take no prompt.
    """
    if model.base_model is model:
        raise ValueError(
            f"{type(model).__name__} has no part that gives states without its output layer (Transformers' "
            "base_model); allowed are models that have"
        )
    prompts = _prompts(encoder)
    one, two = two_words(encoder)
    if not model.get_input_embeddings().weight[encoder.pad_token : encoder.pad_token + 1].any():
        encoder.fill_token = one  # the magnitude of zeros has no gradient, and Gemma 3n takes it of every state
    answers = [(one, two, one, one, two, two), (two, one, two), (one, one, two, two)][: len(prompts)]
    for encoder.answer_type in (0, 1):
        batch = encoder.batch(prompts, answers)
        if _reads(model, encoder, prompts, answers, two):
            return
        if not batch.token_types:
            break
    raise ValueError(
        f"{type(model).__name__} reads a prompt and its answer otherwise beside longer ones than alone, or ahead of "
        "where it is; allowed are models that read from left to right, whatever stands beside"
    )


def two_words(encoder: Encoder) -> tuple[int, int]:
    """Two tokens that mean nothing to a model's machinery."""
    one, two, *_ = (token for token in range(len(encoder.tokenizer)) if token not in encoder.control_tokens)
    return one, two


def gradient(width: int, height: int) -> Image.Image:
    """A picture, darker above than below."""
    return Image.linear_gradient("L").convert("RGB").resize((width, height))


def taken(encoder: Encoder, prompts: Sequence[Prompt]) -> list[Prompt]:
    """Those that a processor takes, some of which want a picture in each, and that the chat template shows."""

    def takes(prompt: Prompt) -> bool:
        try:
            encoder.chat.check(len(prompt.images))
            encoder.batch([prompt], [()])
        except ValueError:
            return False
        return True

    return [prompt for prompt in prompts if takes(prompt)]


def _prompts(encoder: Encoder) -> list[Prompt]:
    """Of different lengths.

    Raises:
        PromptError, ValueError: See `check_reading`.
    """
    small, wide = gradient(64, 64), gradient(96, 48)
    pictures = [(), (small,), (small, wide)] if encoder.sees else [(), ()]
    prompts = [
        Prompt(f"a row with {len(images)} pictures, {place}", "", "? " * place + "?", images, "")
        for place, images in enumerate(pictures)
    ]
    if not (found := taken(encoder, prompts)):
        encoder.chat.check(len(pictures[1]))  # which say why
        encoder.batch(prompts[1:2], [()])
    return found


@torch.no_grad()
def _reads(
    model: Any, encoder: Encoder, prompts: Sequence[Prompt], answers: Sequence[tuple[int, ...]], after: int
) -> bool:
    """Whether the states after each prompt and each token of its answer are what they are alone, with one token more
    ``after`` them. A few may differ: an expert is chosen by a hair."""

    def states(some: Sequence[Prompt], theirs: Sequence[tuple[int, ...]]) -> torch.Tensor:
        batch = encoder.batch(some, theirs)
        found = model.base_model(**batch.model_inputs(model.device), use_cache=False).last_hidden_state
        return found[:, batch.prompt_ids.shape[1] - 1 :].float()

    was_training = model.training
    model.eval()
    try:
        together = states(prompts, answers)
        alone = [states([prompt], [(*answer, after)])[0] for prompt, answer in zip(prompts, answers, strict=True)]
    except Exception as error:  # whatever a model does that cannot
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{type(model).__name__} cannot read prompts of different kinds as a batch ({type(error).__name__}: "
            f"{reason}); allowed are models that can"
        ) from error
    finally:
        model.train(was_training)
    close = torch.finfo(model.dtype).eps ** 0.5
    apart = [
        ((row[: len(answer) + 1] - own[: len(answer) + 1]).norm(dim=-1) / own[: len(answer) + 1].norm(dim=-1)).median()
        for row, own, answer in zip(together, alone, answers, strict=True)
    ]
    return all(bool(difference <= close) for difference in apart)
