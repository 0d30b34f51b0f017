"""``sieve make-policy``: the tiny policy that ships with Sieve, made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rl.commands.ending import one_line
from rl.commands.options import check, one_of

SEEDS = 2**32


def make_policy(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new checkpoint.")],
    seed: Annotated[int, typer.Option(help="Of weights and demonstrations.")] = 0,
    world: Annotated[
        str | None, typer.Option(metavar="NAME", help="Teach the shipped policy this world's beliefs: C, H or N.")
    ] = None,
    world_seed: Annotated[int, typer.Option(help="Which beliefs these are.")] = 0,
) -> None:
    """Build the tiny policy that ships with Sieve: a Qwen2.5-VL of a million parameters, in minutes on a CPU.

    With `--world`: the shipped one, taught by a teacher with false beliefs, for `task.name: beliefs`.

    Examples:

    * `sieve make-policy mine --seed 1`
    * `sieve make-policy build/beliefs_policy --world C`
    """
    from rl.files.folders import check_new_folder
    from rl.tasks.worlds import WORLDS

    # The folder was not there before, and is measured once it is.
    with one_line(lambda: f"{folder} is written" if folder.exists() else "nothing was written"):
        check_new_folder("FOLDER", folder)
        check(0 <= seed < SEEDS, f"--seed {seed}: allowed is 0 or more, and less than {SEEDS}")
        check(0 <= world_seed < SEEDS, f"--world-seed {world_seed}: allowed is 0 or more, and less than {SEEDS}")
        if world is None:
            check(world_seed == 0, f"--world-seed {world_seed}: allowed with --world alone")
            from rl.tiny_policy import make_policy as recipe

            recipe.make_policy(folder, seed=seed)
        else:
            from rl.tasks.worlds import World
            from rl.tiny_policy import make_believer as lessons

            lessons.make_believer(folder, World(one_of("--world", world, tuple(WORLDS)), world_seed), seed=seed)
