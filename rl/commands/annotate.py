"""The command line of ``sieve annotate``: checks what it was given, annotates, and says what was done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from rl.annotating.corpus import Order, Tally, annotate
from rl.config import load_config
from rl.errors import ConfigError
from rl.monitoring.console import Console, beside_fixed
from rl.tasks.task import Split


def run(
    config: str, overrides: Sequence[str], output: Path | None, prompts: int | None, split: str, first: int, sieve: str
) -> None:
    """Annotate, and print the summary; ``sieve`` is how the user can type the command. `rl.cli` describes the rest.

    Raises:
        ConfigError: An argument, the configuration or the output is wrong.
        SamplingError, UnreadableRolloutsError, OSError: It failed.
    """
    resolved = load_config(config, overrides)
    order = make_order(output, prompts, split, first)
    console = Console()
    tally = annotate(resolved, order, console)
    console.say(summary(tally, order, sieve))


def make_order(output: Path | None, prompts: int | None, split: str, first: int) -> Order:
    """The order that the options describe.

    Raises:
        ConfigError: An option is out of its range, or there is nowhere to write to.
    """
    if output is None:
        raise ConfigError("name the output with -o OUT.jsonl")
    if prompts is None:
        raise ConfigError("name the number of prompts with --prompts N")
    _check(prompts >= 1, f"--prompts {prompts}: allowed is 1 or more")
    _check(first >= 0, f"--first {first}: allowed is 0 or more")
    _check(output.suffix == ".jsonl", f"-o {output}: the name must end in .jsonl")
    _check(output.parent.is_dir(), f"-o {output}: there is no folder {output.parent}")
    for known in get_args(Split):
        if split == known:
            return Order(output, prompts, known, first)
    raise ConfigError(f"--split {split!r}: allowed is one of {', '.join(get_args(Split))}")


def summary(tally: Tally, order: Order, sieve: str) -> str:
    """What is in the corpus, what it took, and what to do with it."""
    left_out = f"; {tally.left_out:,} without any label left out" if tally.left_out else ""
    missing = f"; {tally.missing:,} of them without a label" if tally.missing else ""
    bargain = beside_fixed(tally.tokens, tally.fixed_tokens)
    mixed = tally.mixed / tally.rollouts if tally.rollouts else 0.0
    chosen = order.output.with_name(f"{order.output.stem}_chosen.jsonl")
    # Published selection reads the score alone, which is 0.0 for a missing step.
    counts = " --counts" if tally.missing else ""
    return (
        f"\ncorpus   {tally.prompts:,} prompts, {tally.rollouts:,} rollouts{left_out}\n"
        f"         {tally.steps:,} steps{missing}\n"
        f"         {100 * mixed:.1f} % of the rollouts have right and wrong steps\n"
        f"labels   {tally.continuations:,} continuations, {tally.tokens:,} tokens{bargain}\n"
        f"         {tally.truncated:,} continuations were cut off, and left out\n"
        f"took     {tally.seconds / 60:.1f} minutes\n"
        f"written  {order.output}\n\n"
        f"next:    {sieve} select {order.output}{counts} --ratio 0.25 --alpha 0.05 -o {chosen}"
    )


def _check(fine: bool, message: str) -> None:
    if not fine:
        raise ConfigError(message)
