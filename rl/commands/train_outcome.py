"""``sieve train-outcome``: an outcome reward model from preference pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rl.commands.ending import MODEL_FAILURES, one_line
from rl.commands.options import check
from rl.errors import ConfigError
from rl.files.quiet import quieten_libraries

if TYPE_CHECKING:
    from rl.reward_models.outcome_training import Trained


def train_outcome(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG.yaml", help="Its sections policy and outcome_model say what learns.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="key.sub=value", help="Changes, for example outcome_model.pairs_epochs=3."),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(metavar="PAIRS.jsonl", help="Preference pairs, or a folder of *.jsonl; may be repeated."),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="The new model.")] = None,
    held_out: Annotated[
        float, typer.Option("--held-out", metavar="SHARE", help="Share of the prompts whose pairs only measure.")
    ] = 0.1,
) -> None:
    """Train an outcome reward model from preference pairs, and measure it on pairs of prompts that it has not seen.

    A pair is a line of JSON: `{"image": "cats.png", "prompt": "How many cats?", "chosen": "Two.\\nAnswer: 2",
    "rejected": "Answer: 3"}`. Image paths are relative to the file; `image` may be a list, or null.

    Example: `sieve train-outcome configs/quickstart.yaml --pairs pairs.jsonl -o my_outcome_model`
    """
    quieten_libraries()
    from rl.config import load_config
    from rl.files.folders import check_new_folder
    from rl.monitoring.console import Console
    from rl.reward_models.outcome_training import TrainingOrder, train_on_pairs

    with one_line("nothing was written", failed=MODEL_FAILURES):
        resolved = load_config(config, overrides or [])
        named = tuple(pairs or resolved.outcome_model.pairs)
        check(bool(named), "name the preference pairs with --pairs FILE.jsonl")
        if output is None:
            raise ConfigError("name the new model's folder with -o FOLDER")
        check(0 < held_out < 1, f"--held-out {held_out:g}: allowed is a share above 0 and below 1")
        check_new_folder("-o", output)
        order = TrainingOrder(named, "--pairs" if pairs else "outcome_model.pairs", output, held_out)
        console = Console()
        console.say(_summary(train_on_pairs(resolved, order, console), output))


def _summary(trained: Trained, output: Path) -> str:
    before, after = trained.before, trained.after
    first, last = trained.ends()
    return (
        f"\ntrained    {len(trained.losses):,} updates, loss {first:.3f} -> {last:.3f}\n"
        f"held out   {after.pairs:,} pairs, in the right order {before.accuracy:.3f} -> {after.accuracy:.3f} "
        f"(± {after.margin:.3f}; 0.5 is chance)\n"
        f"written    {output}\n\n"
        f"next:      train with outcome_model.checkpoint={output} outcome_model.reward=hybrid"
    )
