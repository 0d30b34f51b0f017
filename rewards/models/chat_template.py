"""A checkpoint's chat template: conversations as the text that its model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class ChatTemplate:
    """The chat template of a processor, or else of its tokenizer, and whether the processor takes pictures."""

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
        first = [role for role, _ in turns].index("user") if images else 0
        shown = [images if place == first else 0 for place in range(len(turns))]
        turn = self._turn_in_parts if self.sees and self._takes_parts else self._turn_as_text
        return self._rendered([turn(*one, count) for one, count in zip(turns, shown, strict=True)], answer_follows)

    @cached_property
    def _takes_parts(self) -> bool:
        """Whether a turn may be a list of pictures and texts: a language model's template knows texts alone, and fails,
        or writes the list."""
        try:
            written = self._rendered([self._turn_in_parts("user", "<<text>>", 0)])
        except Exception:  # templates fail in ways of their own
            return False
        return "<<text>>" in written and "'type'" not in written

    def _turn_in_parts(self, role: str, text: str, images: int) -> dict[str, Any]:
        return {"role": role, "content": [*[{"type": "image"}] * images, {"type": "text", "text": text}]}

    def _turn_as_text(self, role: str, text: str, images: int) -> dict[str, Any]:
        """Pictures by their own token, a line each, as LLaVA writes them."""
        return {"role": role, "content": f"{self.processor.image_token}\n" * images + text if images else text}

    def _rendered(self, messages: Sequence[dict[str, Any]], answer_follows: bool = False) -> str:
        owner = self.processor
        if getattr(owner, "chat_template", None) is None:
            owner = getattr(owner, "tokenizer", owner)
        if owner.chat_template is None:
            raise ValueError(
                "it has no chat template, which says how a question is asked; allowed is one in chat_template.jinja"
            )
        return owner.apply_chat_template(messages, add_generation_prompt=answer_follows, tokenize=False)
