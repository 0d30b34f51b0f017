"""``sieve make-real``: the real quickstart's policy and questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rl.commands.ending import one_line
from rl.commands.make_policy import SEEDS
from rl.commands.options import check


def make_real(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new folder: a checkpoint, tables, pictures.")],
    seed: Annotated[int, typer.Option(help="Of the vision tower and the demonstrations.")] = 0,
) -> None:
    """Give SmolLM2 a vision tower, and teach it to answer easy-VQA and sums of handwritten digits, with mistakes."""
    from rl.files.folders import check_new_folder

    with one_line(lambda: f"{folder} is written" if folder.exists() else "nothing was written"):
        check_new_folder("FOLDER", folder)
        check(0 <= seed < SEEDS, f"--seed {seed}: allowed is 0 or more, and less than {SEEDS}")
        from rl.real_policy import make_real as recipe

        recipe.make_real(folder, seed=seed)
