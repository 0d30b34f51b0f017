"""A checkpoint's chat template: conversations as the text that its model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class ChatTemplate:
    """The chat template of a processor, and whether that one takes pictures."""

    processor: Any
    sees: bool

    def opening(self, turns: Sequence[tuple[str, str]], images: int = 0) -> str:
        """A conversation as in `render`, whose last turn has not yet ended.

        Raises:
            ValueError: The checkpoint's chat template leaves out its text.
        """
        *before, (role, text) = turns
        opening, found, _ = self.render([*before, (role, text + "<<end>>")], images).rpartition("<<end>>")
        if not found:
            raise ValueError(f"the checkpoint's chat template leaves out the text of a turn, {role}'s")
        return opening

    def pictures(self, images: int) -> str:
        """What the chat template writes for so many images before a user's text.

        Raises:
            ValueError: It writes them elsewhere.
        """
        bare, shown = (self.render([("user", "<<text>>")], count).partition("<<text>>")[0] for count in (0, images))
        # Idefics' template has a blank before a text alone.
        begun = next((begin for begin in (bare, bare.rstrip()) if shown.startswith(begin)), None)
        if begun is None or (images and shown == begun):
            raise ValueError("the checkpoint's chat template does not write images right before a user's text")
        return shown.removeprefix(begun)

    def check(self, images: int) -> None:
        """Whether it writes a user's text, once, and each of so many images.

        Raises:
            ValueError: It does not, or refuses them.
        """
        try:
            shown = [self.render([("user", "<<text>>")], count, answer_follows=True) for count in range(images + 1)]
        except Exception as error:  # templates refuse what they do not know in ways of their own
            raise ValueError(f"the checkpoint's chat template fails: {' '.join(str(error).split())}") from None
        if (times := shown[-1].count("<<text>>")) != 1:
            raise ValueError(f"the checkpoint's chat template writes a question {times} times; allowed is once")
        if (seen := sum(len(fewer) < len(more) for fewer, more in pairwise(shown))) < images:
            raise ValueError(f"the checkpoint's chat template shows {seen} of a prompt's {images} picture(s)")

    def render(self, turns: Sequence[tuple[str, str]], images: int = 0, answer_follows: bool = False) -> str:
        """A conversation of (role, text) in the checkpoint's chat template; images come first in the first
        user's turn."""
        messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in turns]
        if self.sees:
            for message in messages:
                message["content"] = [{"type": "text", "text": message["content"]}]
            first = messages[[role for role, _ in turns].index("user")]
            first["content"] = [{"type": "image"}] * images + first["content"]
        return self.processor.apply_chat_template(messages, add_generation_prompt=answer_follows, tokenize=False)
