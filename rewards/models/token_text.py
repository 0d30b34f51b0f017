"""The text of tokens, and where in it each token ends.

A token is bytes, not characters: a byte-level vocabulary spells most of the world's letters in several tokens, and a
SentencePiece vocabulary drops the space before the first word of what it decodes. So no token can be decoded on its
own: here each is decoded among its neighbours. This is the one place that says which characters a token holds.

A character belongs to the token that completes it. A token that completes one and begins the next holds the first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What decoders write for bytes that are no character, or none yet."""


@dataclass(frozen=True)
class TokenText:
    """What T tokens say.

    Attributes:
        text: The whole of it.
        ends: How many of its characters are complete after each token (T,); the last one is the length of the text.
    """

    text: str
    ends: tuple[int, ...]

    def tokens_up_to(self, end: int) -> int:
        """How many tokens it takes to hold the first ``end`` characters, 1 or more."""
        return bisect_left(self.ends, end) + 1


class TokenReader:
    """Reads tokens as text.

    Args:
        decode: The text of tokens, as the vocabulary's own decoder has it.
        before: A token to decode others after, so that they are not taken for the beginning of a text; empty for none.
    """

    def __init__(self, decode: Callable[[list[int]], str], before: Sequence[int] = ()) -> None:
        self._decode, self._before = decode, list(before)
        self._skipped = len(decode(self._before)) if before else 0
        self._known: dict[int, str] = {}

    def read(self, token_ids: Sequence[int]) -> TokenText:
        """The text of the tokens and where each ends; every character of it belongs to one token."""
        text, ends = "", list[int]()
        begun: list[int] = []  # tokens whose last character is not complete
        decode = self._decode  # of the first token; the others go on from a text
        for token in token_ids:
            piece = self._alone(token)
            if begun and piece and INCOMPLETE not in piece:
                # Nothing completes it any more: it is text that is no character.
                text, begun = text + decode(begun), []
                ends[-1], decode = len(text), self._going_on
            begun += [token] if piece else []
            said = decode(begun) if begun else ""
            ends.append(max(ends[-1] if ends else 0, len(text) + len(said.rstrip(INCOMPLETE))))
            if begun and not said.endswith(INCOMPLETE):
                text, begun, decode = text + said, [], self._going_on
        if begun:
            text += decode(begun)
            ends[-1] = len(text)
        return TokenText(text, tuple(min(end, len(text)) for end in ends))

    def _alone(self, token: int) -> str:
        if token not in self._known:
            self._known[token] = self._decode([*self._before, token])[self._skipped :]
        return self._known[token]

    def _going_on(self, tokens: list[int]) -> str:
        """The text of tokens that go on from another text."""
        return self._alone(tokens[0]) if len(tokens) == 1 else self._decode([*self._before, *tokens])[self._skipped :]
