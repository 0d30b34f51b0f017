"""``sieve train``: trains, says why it stopped, and sums up."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rl.commands.dry_run import show
from rl.commands.ending import FAILURE, fail, one_line
from rl.commands.options import known_gpu
from rl.errors import (
    CheckpointError,
    ConfigError,
    MixedGroupError,
    RewardHackingError,
    UnreadableRolloutsError,
    WorkerError,
)
from rl.files.importing import importing
from rl.monitoring.terminal import typed_command

if TYPE_CHECKING:
    from rl.config import Config


def train(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG.yaml", help="The experiment. Not needed with --resume.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key.sub=value", help="Changes, for example learner.samples=16.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print every key, who runs where, what each GPU holds; open all parts, look at all rows."
        ),
    ] = False,
    gpu_gb: Annotated[
        float | None, typer.Option("--gpu-gb", help="Of --dry-run: a GPU's memory, GB; this machine's, or else 80.")
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of --dry-run: a known GPU instead, as `sieve plan --gpu` has them."),
    ] = None,
    gpus_per_node: Annotated[int, typer.Option("--gpus-per-node", help="Of --dry-run: GPUs of one machine.")] = 8,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Go on from the newest checkpoint of a run folder.")
    ] = None,
) -> None:
    """Train a policy and its reward model together.

    Examples:

    * `sieve train configs/quickstart.yaml seed=1`
    * `sieve train configs/quickstart.yaml learner.credit=outcome`
    * `sieve train --resume runs/quickstart-20261121-101500 steps=200`
    """
    changes = list(overrides or [])
    if resume is not None and config is not None:
        # With --resume the first free argument is an override: the run brings its own configuration.
        changes.insert(0, config)
    with one_line():
        from rl.checkpoints.run_folder import choose_run_folder, open_run_folder
        from rl.config import load_config

        if resume is not None:
            resolved = open_run_folder(resume, changes)
        elif config is None:
            raise ConfigError("name a configuration, for example configs/quickstart.yaml, or --resume RUN")
        else:
            resolved = load_config(config, changes)
        if dry_run:
            named = known_gpu(gpu).gb if gpu is not None else None
            show(resolved, named if gpu_gb is None else gpu_gb, gpus_per_node)
            return
        folder = resume or choose_run_folder(resolved)
    _train(resolved, folder, resume is not None)


def _start_ray_beside_imports() -> None:
    """Have Ray's servers start while a thread imports what a run needs: each takes seconds, the servers of waiting.

    They have to be this thread's children, since the kernel ends them together with the thread that began them.
    """
    from rl.workers.ray_cluster import join_ray

    with ThreadPoolExecutor(1) as beside:
        imported = beside.submit(import_module, "rl.train")
        with suppress(ConfigError, WorkerError):  # the run asks for Ray once more, and says what is wrong
            join_ray()
    imported.result()


def _train(config: Config, folder: Path, resume: bool) -> None:
    """Train, or go on with the run in the folder, and say how it ended."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with importing():
        if config.workers == "ray":
            _start_ray_beside_imports()
        from rewards.records import PromptError
        from rewards.users_code import UsersCodeError
        from rl.files.run_files import checkpoints
        from rl.monitoring.console import Console
        from rl.monitoring.summary import summary_lines
        from rl.train import train
        from rl.workers.ray_cluster import leave_ray, watch_ray

    named = WorkerError, CheckpointError, MixedGroupError, UnreadableRolloutsError, UsersCodeError
    sieve = typed_command("sieve")
    again = f"{sieve} train --resume {folder}"

    def further() -> str:
        return f"go on with: {again}" if checkpoints(folder) else f"{folder} has no checkpoint yet to go on from"

    def without_ray(died: str) -> None:
        with suppress(typer.Exit):
            fail(f"{died}; {further()}", FAILURE)
        sys.stdout.flush()
        os._exit(FAILURE)  # the main thread waits for Ray, which ends nothing any more

    console = Console()
    watch_ray(without_ray)
    with one_line(further, failed=(*named, OSError), stopped="stopped at once"):
        try:
            outcome = train(config, folder, resume, console)
        except PromptError as error:
            raise ConfigError(f"{error}; once it is mended, {further()}") from None
        except RewardHackingError as error:
            fail(f"{error}; to go on all the same: {again} watch.action=warn", FAILURE)
        finally:
            leave_ray()  # which a run that never came to its workers has not
    if outcome.summary is None:
        console.say(f"stopped after step {outcome.step}; go on with: {again}")
        return
    console.say("\n".join(summary_lines(folder, outcome.summary, sieve)))
