"""``sieve steps``: how texts would be cut into steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rl.commands.ending import one_line
from rl.commands.options import check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rl.config import Config
    from rl.instruments.step_preview import Cut

WIDTH = 96
"""Characters of a step that are shown."""


def steps(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A text, JSON or Parquet of texts, or the folder of a run with `record: true`."
        ),
    ],
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG.yaml", help="The experiment; the run's own, or else the defaults.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key.sub=value", help="Changes, for example task.steps=sentence.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of JSON objects: where the text is; `response`, `text`, … else.")
    ] = None,
    show: Annotated[int, typer.Option(metavar="N", help="How many texts to show step by step.")] = 3,
) -> None:
    """Show how texts would be cut into steps, by `task.steps` and the tokenizer of `policy.checkpoint`.

    Nothing is sampled, and no weights are read. The table at the end says what each named rule would make of the texts:
    a text of one step gets one label, which says no more than its outcome. A policy may write a text in other tokens
    than the tokenizer does; a recorded run has its own.

    Example: `sieve steps answers.jsonl configs/quickstart.yaml task.steps=sentence`
    """
    from rewards.users_code import UsersCodeError
    from rl.config import load_config
    from rl.files.named_checkpoint import make_encoder
    from rl.instruments.replay.stream import open_stream
    from rl.instruments.replay.written_by import check_written
    from rl.instruments.step_preview import cut, read_texts, rules_beside, spells, with_rule

    with one_line(wrong=(UsersCodeError,)):
        check(show >= 0, f"--show {show}: allowed is 0 or more")
        changes = list(overrides or [])
        if config is not None and "=" in config and not Path(config).exists():
            changes.insert(0, config)
            config = None
        recorded = next((f for f in (file / "config.yaml", file.parent / "config.yaml") if f.is_file()), None)
        resolved = load_config(config or (recorded if file.is_dir() else None), changes)
        texts = read_texts(file, column)
        encoder = make_encoder(resolved)
        if file.is_dir():
            check_written(resolved, open_stream(file))
        unspelled = not spells(encoder, [given for given in texts if given.token_ids is None])
        cuts = [cut(encoder, given, unspelled) for given in texts]
        others = {
            name: [cut(with_rule(encoder, rule), given, unspelled) for given in texts]
            for name, rule in rules_beside(resolved.task.steps).items()
        }
        _print(file, resolved, cuts, others, show, unspelled)


def _print(
    file: Path, config: Config, cuts: Sequence[Cut], others: dict[str, list[Cut]], show: int, unspelled: bool
) -> None:
    from rich.console import Console
    from rich.table import Table

    from rl.instruments.step_preview import counts
    from rl.monitoring.terminal import cell, say

    terminal, unit = Console(highlight=False), "characters" if unspelled else "tokens"
    for entry in cuts[:show]:
        say(terminal, f"{entry.place}: {sum(piece.tokens for piece in entry.pieces):,} {unit}")
        for piece in entry.pieces:
            name, kind = f"step {piece.number}" if piece.number else "no step", piece.kind and f"[{piece.kind}] "
            say(terminal, f"  {name:8} {piece.tokens:5,}  {kind}{_on_one_line(piece.text)}")
        say(terminal, "")
    table = Table("rule", caption=f"{len(cuts):,} texts: least / median / most")
    for heading in ("steps a text", f"{unit} a step", "texts of 1 step or none"):
        table.add_column(heading, justify="right")
    table.add_row(*map(cell, counts(f"{config.task.steps} *", cuts)), style="bold")
    for name, made in others.items():
        table.add_row(*counts(name, made))
    terminal.print(table)
    for line in _remarks(file, config, cuts, unspelled):
        say(terminal, line)


def _remarks(file: Path, config: Config, cuts: Sequence[Cut], unspelled: bool) -> list[str]:
    """What a user should know of the cut."""
    remarks = [f"* task.steps; {file}, with the tokenizer of {config.policy.checkpoint}"]
    if unspelled:
        remarks.append(
            f"the tokenizer of {config.policy.checkpoint} cannot spell these texts, so characters are counted; name "
            "yours with policy.checkpoint=NAME"
        )
    if whole := sum(len(entry.lengths) <= 1 for entry in cuts):
        remarks.append(f"{whole:,} of {len(cuts):,} texts have one step or none: another rule may find more")
    if inside := sum(entry.inside for entry in cuts):
        remarks.append(f"{inside:,} steps end inside of a token, which is then the last one of the step that ends")
    limit = config.engine.max_completion_tokens
    longer = sum(sum(piece.tokens for piece in entry.pieces) > limit for entry in cuts)
    if longer and not unspelled:
        remarks.append(f"{longer:,} texts are longer than engine.max_completion_tokens, {limit:,}")
    return remarks


def _on_one_line(text: str) -> str:
    """Line breaks as arrows, what moves a terminal's cursor as a code, and the middle of a long text left out."""
    shown = "".join(
        character if character.isprintable() else "⏎" if character == "\n" else repr(character)[1:-1]
        for character in text
    )
    return shown if len(shown) <= WIDTH else f"{shown[: WIDTH - 24]} … {shown[-20:]}"
