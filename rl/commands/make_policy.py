"""The body of ``sieve make-policy``: checks where the policy is to go, and makes it there."""

from __future__ import annotations

from pathlib import Path

from rl.commands.ending import FAILURE, USER_ERROR, fail
from rl.errors import ConfigError
from rl.files.folders import check_new_folder

SEEDS = 2**32


def run(folder: Path, seed: int) -> None:
    """Make it, and say how good it is; a failure ends the process in one line. `rl.cli` describes the arguments."""
    try:
        check_new_folder("FOLDER", folder)
        if not 0 <= seed < SEEDS:
            raise ConfigError(f"--seed {seed}: allowed is 0 or more, and less than {SEEDS}")
        from rl.tiny_policy.make_policy import make_policy

        make_policy(folder, seed=seed)
    except ConfigError as error:
        fail(str(error), USER_ERROR)
    except OSError as error:
        fail(f"{' '.join(str(error).split())}; {_left(folder)}", FAILURE)
    except KeyboardInterrupt:
        fail(f"stopped; {_left(folder)}", FAILURE)


def _left(folder: Path) -> str:
    # It was not there before, and is measured once it is.
    return f"{folder} is written" if folder.exists() else "nothing was written"
