"""``sieve make-policy``: the tiny policy that ships with Sieve, made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rl.commands.ending import one_line
from rl.commands.options import check

SEEDS = 2**32


def make_policy(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new checkpoint.")],
    seed: Annotated[int, typer.Option(help="Of weights and demonstrations.")] = 0,
) -> None:
    """Build the tiny policy that ships with Sieve: a Qwen2.5-VL of a million parameters, in minutes on a CPU."""
    from rl.files.folders import check_new_folder

    # The folder was not there before, and is measured once it is.
    with one_line(lambda: f"{folder} is written" if folder.exists() else "nothing was written"):
        check_new_folder("FOLDER", folder)
        check(0 <= seed < SEEDS, f"--seed {seed}: allowed is 0 or more, and less than {SEEDS}")
        from rl.tiny_policy import make_policy as recipe

        recipe.make_policy(folder, seed=seed)
