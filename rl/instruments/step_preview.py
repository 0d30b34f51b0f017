"""How texts would be cut into steps, before anything is sampled: step by step, and counted for every rule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rewards.files.json_text import read_json
from rewards.files.plain_text import UnreadableTextError, named_kind, open_lines, open_text
from rewards.models.encoding import Encoder
from rewards.models.named_rules import RULES
from rewards.models.step_rule import StepRule
from rewards.models.steps import gaps, step_spans
from rewards.models.token_text import TokenText
from rl.errors import ConfigError
from rl.instruments.replay.stream import open_stream

COLUMNS = ("response", "completion", "text", "output", "solution", "chosen")
"""Where a JSON object's text is looked for, in this order."""
RECORDS = (".jsonl", ".json", ".parquet")
"""Kinds of files that hold a text a record."""


@dataclass(frozen=True)
class Given:
    """A text to cut: where it stands, what it says, and its tokens, if a policy wrote it and they were recorded."""

    place: str
    text: str
    token_ids: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Piece:
    """A step, with its kind; or, where ``number`` is 0, what is in no step, such as the final answer."""

    number: int
    tokens: int
    kind: str
    text: str


@dataclass(frozen=True)
class Cut:
    """A text in pieces, which together are all of its tokens; and how many steps end inside of a token."""

    place: str
    pieces: tuple[Piece, ...]
    inside: int

    @property
    def lengths(self) -> list[int]:
        """Tokens of each step."""
        return [piece.tokens for piece in self.pieces if piece.number]


def read_texts(file: Path, column: str | None = None) -> list[Given]:
    """The texts of a file: a recorded run's folder, records (JSON lines, a JSON list or Parquet: texts, or objects with
    one in ``column``, or else in one of `COLUMNS`), or any other file of text, which is one. Both may be compressed.

    Raises:
        ConfigError: There are none, or one cannot be read.
    """
    if file.is_dir():
        stream = open_stream(file)
        names = ("prompt_id", "text", "token_ids")
        return [
            Given(f"step {step}, {name}", text, tuple(tokens))
            for step in stream.steps
            for name, text, tokens in stream.columns(step, names)
        ]
    of_records = named_kind(file) in RECORDS
    try:
        with (open_lines if of_records else open_text)(file) as kept:
            content = kept.read().decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: cannot be read: not UTF-8 text") from None
    except (OSError, UnreadableTextError) as error:
        raise ConfigError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if of_records:
        # Not splitlines: JSON may hold the other line separators of Unicode as they are.
        lines = enumerate(content.split("\n"), start=1)
        texts = [Given(f"line {n}", _text_of_line(f"{file}:{n}", line, column)) for n, line in lines if line.strip()]
    else:
        texts = [Given("text", content.replace("\r\n", "\n"))] if content.strip() else []
    if not texts:
        raise ConfigError(f"{file}: holds no text")
    return texts


def _text_of_line(place: str, line: str, column: str | None) -> str:
    try:
        value: Any = read_json(line)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None
    if isinstance(value, dict):
        wanted = (column,) if column else COLUMNS
        found = [value[name] for name in wanted if isinstance(value.get(name), str)]
        if not found:
            there = ", ".join(map(str, value)) or "nothing"
            raise ConfigError(f"{place}: holds no text in {' or '.join(wanted)}; there is {there}; see --column")
        value = found[0]
    if not isinstance(value, str):
        raise ConfigError(f"{place}: holds a {type(value).__name__}; allowed is a text, or an object with one")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{place}: holds half of a character; allowed is text that UTF-8 can hold") from None
    return value


def spells(encoder: Encoder, texts: Iterable[Given]) -> bool:
    """Whether the tokenizer can spell all texts."""
    unknown = encoder.tokenizer.unk_token_id
    return unknown is None or not any(unknown in encoder.plain_tokens(given.text) for given in texts)


def cut(encoder: Encoder, given: Given, by_characters: bool = False) -> Cut:
    """Cut a text as rollouts are cut; ``by_characters`` counts each character as a token, for a tokenizer that cannot
    spell it."""
    if by_characters:
        read = TokenText(given.text, tuple(range(1, len(given.text) + 1)))
    else:
        read = encoder.read_with_special(given.token_ids or encoder.plain_tokens(given.text))
    spans = step_spans(read, encoder.rule, encoder.answer, encoder.markers)
    bounds = (0, *read.ends)
    pieces: list[Piece] = []
    last = 0
    for number, span in enumerate(spans, start=1):
        pieces += [_piece(read, 0, last, span.start)] if span.start > last else []
        pieces.append(_piece(read, number, span.start, span.end, span.kind))
        last = span.end
    pieces += [_piece(read, 0, last, len(read.ends))] if last < len(read.ends) else []
    inside = {gap.end for gap in gaps(read.text, encoder.rule, encoder.answer)} - set(bounds)
    return Cut(given.place, tuple(pieces), len(inside))


def _piece(read: TokenText, number: int, start: int, end: int, kind: str = "") -> Piece:
    bounds = (0, *read.ends)
    return Piece(number, end - start, kind, read.text[bounds[start] : bounds[end]])


def with_rule(encoder: Encoder, rule: StepRule) -> Encoder:
    """The encoder with another rule of steps."""
    other = copy(encoder)
    other.rule = rule
    return other


def counts(name: str, cuts: Sequence[Cut]) -> tuple[str, ...]:
    """A row of the table of rules: steps of a text, tokens of a step (least, median, most), and texts with no step or
    a single one."""
    steps, lengths = [len(entry.lengths) for entry in cuts], [n for entry in cuts for n in entry.lengths]
    whole = sum(number <= 1 for number in steps)
    return name, _spread(steps), _spread(lengths), f"{whole:,} of {len(cuts):,}"


def _spread(values: Sequence[int]) -> str:
    return f"{min(values):,} / {np.median(values):,g} / {max(values):,}" if values else "-"


def rules_beside(name: str) -> dict[str, StepRule]:
    """The named rules, but the one that is configured."""
    return {other: rule for other, rule in RULES.items() if other != name}
