"""The body of ``sieve train``: trains, says why it stopped, and sums up."""

from __future__ import annotations

from pathlib import Path

from rewards.records import PromptError
from rewards.users_code import UsersCodeError
from rl.checkpoints.run_folder import choose_run_folder
from rl.commands.ending import FAILURE, USER_ERROR, fail
from rl.config import Config
from rl.errors import CheckpointError, MixedGroupError, RewardHackingError, UnreadableRolloutsError, WorkerError
from rl.files.run_files import checkpoints
from rl.monitoring.console import Console
from rl.monitoring.summary import summary_lines
from rl.monitoring.terminal import typed_command
from rl.train import train

FAILURES = (WorkerError, CheckpointError, MixedGroupError, UnreadableRolloutsError, UsersCodeError)


def run(config: Config, resume: Path | None) -> None:
    """Train, or go on with the run in the folder ``resume``, and say how it ended.

    Raises:
        ConfigError: A part that the configuration names cannot be made.
    """
    console = Console()
    folder = resume or choose_run_folder(config)
    sieve = typed_command("sieve")
    again = f"{sieve} train --resume {folder}"
    try:
        outcome = train(config, folder, resume is not None, console)
    except PromptError as error:
        fail(f"{error}; once it is mended, {_further(folder, again)}", USER_ERROR)
    except RewardHackingError as error:
        fail(f"{error}; to go on all the same: {again} watch.action=warn", FAILURE)
    except (*FAILURES, OSError) as error:
        fail(f"{' '.join(str(error).split())}; {_further(folder, again)}", FAILURE)
    except KeyboardInterrupt:
        fail(f"stopped at once; {_further(folder, again)}", FAILURE)
    if outcome.summary is None:
        console.say(f"stopped after step {outcome.step}; go on with: {again}")
        return
    console.say("\n".join(summary_lines(folder, outcome.summary, sieve)))


def _further(folder: Path, again: str) -> str:
    return f"go on with: {again}" if checkpoints(folder) else f"{folder} has no checkpoint yet to go on from"
