"""What `sieve train --dry-run` says of the tables: every row is looked at, of tables of the hub the first ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rewards.verification.references import unreadable_line
from rl.config import Config
from rl.errors import ConfigError
from rl.tasks.columns import Columns
from rl.tasks.files import check_mixture, image_folder, open_tables
from rl.tasks.fitting import Bounds
from rl.tasks.looking import SourceReport, look_through
from rl.tasks.making import make_room
from rl.tasks.questions import Questions, Reading
from rl.tasks.tables import HUB, Table

if TYPE_CHECKING:
    from rewards.models.encoding import Encoder

SAMPLE = 200
"""Rows of a table of the hub that are looked at."""


def survey_lines(config: Config, make_encoder: Callable[[], Encoder]) -> Iterator[str]:
    """Of each source of each table of `files`: its rows, those with pictures, those whose pictures are resized, those
    for which the model has no room, those that cannot be read, down to the last pixel, and the longest prompt; then
    which reference answers the verifier cannot read whole. Nothing for other tasks.

    Args:
        config: The experiment.
        make_encoder: Makes the policy's processor, which counts tokens; it raises ConfigError where there is none.

    Raises:
        ConfigError: After all lines: a table or a row of it would keep a run from starting.
    """
    if config.task.name != "files":
        return
    yield ""
    try:
        splits = dict(
            zip(
                ("train", "heldout"),
                open_tables(config.task.train_files, config.task.heldout_files, SAMPLE),
                strict=True,
            )
        )
        yield from _table_lines(config, splits, make_encoder)
    except ValueError as error:  # it names the table
        raise ConfigError(str(error)) from None


def _table_lines(config: Config, splits: dict[str, list[Table]], make_encoder: Callable[[], Encoder]) -> Iterator[str]:
    task = config.task
    room, uncounted = None, ""
    try:
        room = make_room(config, make_encoder())
    except ConfigError as error:
        uncounted = f"  tokens were not counted: {error}"
    reading = Reading(task.instruction, image_folder(task.image_root), Bounds(task.min_pixels, task.max_pixels), room)
    no_room = "dropped" if task.long_prompts == "drop" else "refused"
    rows: list[tuple[str, ...]] = [("tables", "rows", "pictures", "resized", no_room, "unreadable", "longest, tokens")]
    named: list[str] = []
    refused = 0
    references: list[tuple[str, str]] = []
    training: set[str] = set()
    for split, tables in splits.items():
        for table in tables:
            questions = Questions(Columns(table, task.columns), reading)
            look = look_through(questions, lambda _: None, whole=True, drop=True, pixels=True)
            references += look.references(table.name)
            training |= look.places.keys() if split == "train" else set()
            for source, report in look.reports.items():
                rows.append((f"  {split}, {table.name}: {source}", *_cells(report)))
                named += report.named
                refused += report.unreadable + (report.dropped if task.long_prompts != "drop" else 0)
    yield from _aligned(rows)
    yield from (f"  {problem}" for problem in named)
    if unreadable := unreadable_line(task.verifier, references):
        yield f"  {unreadable}"
    if uncounted:
        yield uncounted
    if any(table.name.startswith(HUB) for tables in splits.values() for table in tables):
        yield f"  of tables of the hub the first {SAMPLE} rows were looked at"
    check_mixture(task.mixture, training)
    if refused:
        raise ConfigError(f"{refused:,} rows of the tables are refused; the first: {named[0]}")


def _cells(report: SourceReport) -> tuple[str, ...]:
    counts = report.rows, report.pictures, report.resized, report.dropped, report.unreadable
    tokens, name = report.longest
    return (*(f"{count:,}" for count in counts), f"{tokens:,} ({name})" if tokens else "")


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The first column to the left, and so the last one, of any width; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *numbers, last in rows:
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:-1], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells, last]).rstrip()
