"""``sieve annotate``: a corpus of labelled rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from rl.commands.ending import one_line
from rl.commands.options import MOST_PROMPTS, check, one_of
from rl.errors import ConfigError
from rl.files.quiet import quieten_libraries
from rl.monitoring.terminal import typed_command

if TYPE_CHECKING:
    from rl.annotating.corpus import AnnotationOrder, CorpusTally


def annotate(
    config: Annotated[str, typer.Argument(metavar="CONFIG.yaml", help="Task, policy, engine, seed and budget.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key.sub=value", help="Changes, for example learner.samples=4.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="OUT.jsonl", help="The corpus.")] = None,
    prompts: Annotated[int | None, typer.Option(metavar="N", help="How many prompts; needed.")] = None,
    split: Annotated[str, typer.Option(help="train or heldout.")] = "train",
    first: Annotated[int, typer.Option(metavar="INDEX", help="The task's prompt to begin with.")] = 0,
) -> None:
    """Sample a policy's rollouts, label their steps, and write them in VisualPRM400K's format.

    `learner.samples` rollouts a prompt, all of them labelled as the section `annotation` says (its `share` is for
    training alone); a rollout without any label, as of those that a triage passes over, is not written. Images go to
    `OUT_images/`, their paths, relative to OUT's folder, into the records; of a prompt without an image `image` is
    null, and `sieve select` leaves it out.

    The same command goes on where it was stopped or killed; with more `--prompts` it makes the corpus longer.
    `OUT.jsonl.progress` says what is there.

    Example: `sieve annotate configs/quickstart.yaml --prompts 400 -o corpus.jsonl`
    """
    quieten_libraries()
    from rl.annotating import corpus
    from rl.config import load_config
    from rl.monitoring.console import Console

    with one_line("what is written stays; the same command goes on"):
        resolved = load_config(config, overrides or [])
        order = _order(output, prompts, split, first)
        console = Console()
        tally = corpus.annotate(resolved, order, console)
        console.say(_summary(tally, order))


def _order(output: Path | None, prompts: int | None, split: str, first: int) -> AnnotationOrder:
    from rl.annotating.corpus import AnnotationOrder
    from rl.tasks.task import Split

    if output is None:
        raise ConfigError("name the output with -o OUT.jsonl")
    if prompts is None:
        raise ConfigError("name the number of prompts with --prompts N")
    check(1 <= prompts <= MOST_PROMPTS, f"--prompts {prompts}: allowed is 1 to {MOST_PROMPTS:,}")
    check(first >= 0, f"--first {first}: allowed is 0 or more")
    check(output.suffix == ".jsonl", f"-o {output}: the name must end in .jsonl")
    check(output.parent.is_dir(), f"-o {output}: there is no folder {output.parent}")
    return AnnotationOrder(output, prompts, one_of("--split", split, get_args(Split)), first)


def _summary(tally: CorpusTally, order: AnnotationOrder) -> str:
    """What is in the corpus, what it took, and what to do with it."""
    from rl.monitoring.console import beside_fixed

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
        f"next:    {typed_command('sieve')} select {order.output}{counts} --ratio 0.25 --alpha 0.05 -o {chosen}"
    )
