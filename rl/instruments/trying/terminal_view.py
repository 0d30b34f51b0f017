"""A trial for a terminal: every step numbered, and coloured where there are colours."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from math import isnan

from rich.console import Console as Terminal
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rl.config import Config
from rl.instruments.step_preview import Piece
from rl.instruments.trying.remarks import difference_lines, step_lines
from rl.instruments.trying.trial import Boundary, RenderedPrompt, Trial, TriedAnswer
from rl.monitoring.terminal import printable

COLOURS = ("cyan", "magenta", "green", "blue")
"""Of steps, one after the other."""


def print_trial(terminal: Terminal, config: Config, trial: Trial) -> None:
    """All that was seen, and the warnings last.

    Args:
        terminal: Where.
        config: The experiment, as it is and not as it was tried.
        trial: What was seen.
    """
    for number, rendered in enumerate(trial.prompts, start=1):
        _print_prompt(terminal, f"prompt {number} of {len(trial.prompts)}", rendered)
        answers = trial.answers[number - 1] if number <= len(trial.answers) else []
        for place, answer in enumerate(answers, start=1):
            _print_answer(terminal, place, answer)
        terminal.print()
    if trial.ends:
        terminal.print(Text(f"an answer ends with {' or '.join(map(visible, trial.ends))}"))
    for line in difference_lines(trial):
        terminal.print(Text(line))
    if trial.stages:
        terminal.print(_stage_table(trial))
    for line in step_lines(config, trial):
        terminal.print(Text(line))
    terminal.print()
    for warning in trial.warnings:
        terminal.print(Text.assemble(("warning: ", "bold yellow"), printable(warning)))
    if not trial.warnings:
        terminal.print(Text("nothing to warn of", "green"))


def visible(text: str) -> str:
    r"""A text in one line in which line breaks are arrows, and nothing steers a terminal.

    >>> visible("1: so\n\x1b[31m2")
    '1: so⏎\\x1b[31m2'
    """
    return printable(text.replace("\n", "⏎"))


def picture_line(rendered: RenderedPrompt) -> str:
    """Its pictures and their tokens, in words."""
    images, counts = rendered.prompt.images, rendered.picture_tokens
    if not images:
        return f"no picture; {rendered.tokens:,} tokens"
    sizes = [f"{image.width} x {image.height}" for image in images]
    if len(counts) == len(images):
        shown = ", ".join(f"{size} ({count:,} tokens)" for size, count in zip(sizes, counts, strict=True))
    else:
        shown = f"{', '.join(sizes)} ({sum(counts):,} tokens in all)"
    return f"{'picture' if len(images) == 1 else f'{len(images)} pictures'} {shown}; {rendered.tokens:,} tokens in all"


def answer_facts(answer: TriedAnswer) -> str:
    """Its tokens, why it ended, and how far engine and learner are apart."""
    rollout = answer.rollout
    facts = f"{len(rollout.token_ids):,} tokens, finish reason {rollout.finish_reason}"
    apart = f", engine minus learner {answer.difference:.1e} nats" if not isnan(answer.difference) else ""
    return facts + apart


def step_facts(score: float | None, boundary: Boundary | None) -> str:
    """What the MPRM and the continuations say of a step."""
    said = [f"MPRM {score:.2f}"] if score is not None else []
    if boundary is not None:
        counted = f"{boundary.correct:g} of {boundary.sampled:g} right" if boundary.sampled else "no label"
        said.append(counted)
    return ", ".join(said)


def came_out(boundary: Boundary) -> str:
    """What became of the first continuation, in words."""
    return "cut off" if boundary.right is None else "right" if boundary.right else "wrong"


def numbered(answer: TriedAnswer) -> Iterator[tuple[Piece, float | None, Boundary | None]]:
    """Its pieces, each step with its score and what was continued from its end."""
    steps = iter(zip_longest(answer.scores, answer.boundaries))
    for piece in answer.pieces:
        score, boundary = next(steps, (None, None)) if piece.number else (None, None)
        yield piece, score, boundary


def _print_prompt(terminal: Terminal, name: str, rendered: RenderedPrompt) -> None:
    prompt = rendered.prompt
    head = Text.assemble((name, "bold"), f"  {visible(prompt.id)} ({visible(prompt.source)}), {picture_line(rendered)}")
    terminal.print(head)
    shown = [(visible(text), "bold yellow" if special else "") for text, special in rendered.pieces]
    terminal.print(Padding(Text.assemble(*shown), (0, 0, 0, 2), expand=False))
    terminal.print(Padding(Text(f"reference: {visible(prompt.answer)}"), (0, 0, 0, 2), expand=False))


def _print_answer(terminal: Terminal, number: int, answer: TriedAnswer) -> None:
    colour = "green" if answer.rollout.outcome > 0 else "red"
    verdict = visible(answer.verdict), colour
    terminal.print(Text.assemble("  ", (f"answer {number}  ", "bold"), verdict, f"; {answer_facts(answer)}"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right")
    table.add_column(overflow="fold", ratio=1)
    table.add_column(justify="right")
    for piece, score, boundary in numbered(answer):
        style = COLOURS[(piece.number - 1) % len(COLOURS)] if piece.number else "dim"
        label = str(piece.number) if piece.number else ""
        text = Text(visible(piece.text), style)
        table.add_row(Text(label, f"bold {style}"), text, Text(step_facts(score, boundary)))
        if boundary is not None and boundary.text:
            table.add_row("", Text(f"↳ {visible(boundary.text)}", "dim"), Text(came_out(boundary), "dim"))
    terminal.print(Padding(table, (0, 0, 0, 4), expand=False))


def _stage_table(trial: Trial) -> Table:
    table = Table("stage")
    for heading in ("seconds", "GiB then"):
        table.add_column(heading, justify="right")
    for stage in trial.stages:
        table.add_row(stage.name, f"{stage.seconds:.1f}", f"{stage.memory:.1f}")
    return table
