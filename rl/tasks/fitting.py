"""Pictures and prompts that fit: bounds on pixels, and what becomes of a prompt that is too long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import PIL.Image

from rewards.records import Prompt, PromptError
from rl.config.sections import LongPrompts

if TYPE_CHECKING:  # it brings Transformers
    from rewards.models.encoding import Encoder

Size = tuple[int, int]
"""Width and height in pixels."""
TRIES = 24
"""Times that pictures are made smaller by a tenth of their pixels to make a prompt fit."""


class TooLongError(PromptError):
    """A prompt that its model has no room for."""


@dataclass(frozen=True)
class Bounds:
    """How many pixels a picture may have; None for no bound. Every reader, engine or model, sees it so. Where no whole
    pixels lie between both bounds, the upper one counts."""

    least: int | None = None
    most: int | None = None

    def size(self, size: Size) -> Size:
        """A picture's size within the bounds, in its own shape as nearly as whole pixels can be.

        >>> Bounds(most=5000).size((200, 100)), Bounds(least=400).size((5, 5)), Bounds(100, 5000).size((40, 30))
        ((100, 50), (20, 20), (40, 30))
        """
        width, height = size
        if self.least is not None and width * height < self.least:
            scale = math.sqrt(self.least / (width * height))
            width, height = math.ceil(width * scale), math.ceil(height * scale)
        if self.most is not None and width * height > self.most:
            scale = math.sqrt(self.most / (width * height))
            width, height = max(1, int(width * scale)), max(1, int(height * scale))
            # A side of a single pixel has not become as short as it should.
            width = min(width, self.most // height) or 1
            height = min(height, self.most // width)
        return width, height


NO_BOUNDS = Bounds()


@dataclass(frozen=True)
class Room:
    """What a model has room for.

    Attributes:
        encoder: Of the policy.
        tokens: Most tokens of a prompt, with its pictures; None for any number.
        images: Most pictures of a prompt; None for any number.
        policy: What becomes of a longer prompt: it is refused, dropped, or shown in smaller pictures.
        key: Of the configuration, that says how many tokens, for messages.
    """

    encoder: Encoder
    tokens: int | None
    images: int | None
    policy: LongPrompts
    key: str

    def fitted(self, prompt: Prompt, sizes: Sequence[Size], least: int | None) -> tuple[list[Size], int]:
        """The sizes at which a prompt's pictures fit, and the prompt's tokens then.

        Args:
            prompt: Without its pictures.
            sizes: Theirs.
            least: Fewest pixels that one may be made smaller to.

        Raises:
            TooLongError: It cannot be made to fit, or must not.
            PromptError: Its question holds a special token, or it has pictures, which the policy does not read.
        """
        if sizes and not self.encoder.sees:
            raise PromptError(f"{prompt.id}: the policy's checkpoint reads no pictures, and the prompt has some")
        if self.images is not None and len(sizes) > self.images:
            raise TooLongError(
                f"{prompt.id}: the prompt has {len(sizes)} images; allowed with engine.images_per_prompt "
                f"{self.images} are no more than that"
            )
        tokens = self.length(prompt, sizes)
        if self.tokens is None or tokens <= self.tokens:
            return list(sizes), tokens
        if self.policy == "shrink" and sizes:
            for attempt in range(TRIES):
                smaller = [_smaller(size, 0.9 ** (attempt + 1), least) for size in sizes]
                if (shrunk := self.length(prompt, smaller)) <= self.tokens:
                    return smaller, shrunk
        raise TooLongError(
            f"{prompt.id}: the prompt has {tokens:,} tokens, with its images; allowed with {self.key} are "
            f"{self.tokens:,}; task.max_pixels makes pictures smaller, and task.long_prompts drops or shrinks"
        )

    def length(self, prompt: Prompt, sizes: Sequence[Size]) -> int:
        """Tokens of a prompt with pictures of these sizes."""
        blank = [PIL.Image.new("RGB", (1, 1))] * len(sizes)
        text = len(self.encoder.prompt_tokens(replace(prompt, images=tuple(blank))))
        return text + sum(self._image_tokens(size) + self._beside for size in sizes)

    def _image_tokens(self, size: Size) -> int:
        width, height = size
        return self.encoder.image_tokens(width, height)

    @cached_property
    def _beside(self) -> int:
        """Tokens that a processor writes around a picture's own, less the placeholder in their place."""
        probe = Prompt("a picture's length", "", "", (PIL.Image.new("RGB", (64, 64)),), "")
        return self.encoder.head_length(probe) - len(self.encoder.prompt_tokens(probe)) - self._image_tokens((64, 64))


def _smaller(size: Size, share: float, least: int | None) -> Size:
    pixels = size[0] * size[1]
    return Bounds(most=min(pixels, max(int(pixels * share), least or 1, 1))).size(size)
