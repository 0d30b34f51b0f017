"""``sieve train``: trains, says why it stopped, and sums up; or shows what would run where."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rl.commands.ending import FAILURE, fail, one_line
from rl.commands.options import check
from rl.errors import (
    CheckpointError,
    ConfigError,
    MixedGroupError,
    RewardHackingError,
    UnreadableRolloutsError,
    WorkerError,
)
from rl.monitoring.terminal import printable, typed_command

if TYPE_CHECKING:
    from rewards.models.encoding import Encoder
    from rl.config import Config

USUAL_GPU_GB = 80.0


def train(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG.yaml", help="The experiment. Not needed with --resume.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key.sub=value", help="Changes, for example learner.samples=16.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print every key, who runs where, what each GPU holds; look at all prompts."),
    ] = False,
    gpu_gb: Annotated[
        float | None, typer.Option("--gpu-gb", help="Of --dry-run: a GPU's memory, GB; this machine's, or else 80.")
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
            show(resolved, gpu_gb, gpus_per_node)
            return
        folder = resume or choose_run_folder(resolved)
    _train(resolved, folder, resume is not None)


def _train(config: Config, folder: Path, resume: bool) -> None:
    """Train, or go on with the run in the folder, and say how it ended."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from rewards.records import PromptError
    from rewards.users_code import UsersCodeError
    from rl.files.run_files import checkpoints
    from rl.monitoring.console import Console
    from rl.monitoring.summary import summary_lines
    from rl.train import train

    named = WorkerError, CheckpointError, MixedGroupError, UnreadableRolloutsError, UsersCodeError
    sieve = typed_command("sieve")
    again = f"{sieve} train --resume {folder}"

    def further() -> str:
        return f"go on with: {again}" if checkpoints(folder) else f"{folder} has no checkpoint yet to go on from"

    console = Console()
    with one_line(further, failed=(*named, OSError), stopped="stopped at once"):
        try:
            outcome = train(config, folder, resume, console)
        except PromptError as error:
            raise ConfigError(f"{error}; once it is mended, {further()}") from None
        except RewardHackingError as error:
            fail(f"{error}; to go on all the same: {again} watch.action=warn", FAILURE)
    if outcome.summary is None:
        console.say(f"stopped after step {outcome.step}; go on with: {again}")
        return
    console.say("\n".join(summary_lines(folder, outcome.summary, sieve)))


def show(config: Config, gpu_gb: float | None, gpus_per_node: int) -> None:
    """Print the resolved configuration, who runs where, what each GPU will hold, and what is in the task's tables.

    Raises:
        ConfigError: An option is out of its range, a name stands for nothing, or the run does not fit the GPUs.
    """
    import yaml

    from rl.files.named_checkpoint import make_encoder
    from rl.instruments.planning.launch_plan import plan_lines
    from rl.tasks.survey import survey_lines

    if gpu_gb is not None:
        check(0 < gpu_gb < math.inf, f"--gpu-gb {gpu_gb:g}: allowed is a finite number above 0")
    check(gpus_per_node >= 1, f"--gpus-per-node {gpus_per_node}: allowed is 1 or more")
    _find_own_parts(config)
    opened = partial(make_encoder, config)
    lines = [
        *plan_lines(config, gpu_gb or _visible_gpu_gb(), gpus_per_node),
        *_system_prompt_lines(config, opened),
    ]
    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    for line in chain(lines, survey_lines(config, opened)):
        print(printable(line))


def _system_prompt_lines(config: Config, make_encoder: Callable[[], Encoder]) -> Iterator[str]:
    """How every prompt begins, where `task.system` says so and the checkpoint is on this machine."""
    from rl.files.named_checkpoint import policy_checkpoint

    if config.task.system and Path(policy_checkpoint(config)).is_dir():
        yield f"\nevery prompt begins: {make_encoder().opening([('system', config.task.system), ('user', '')])!r}"


def _find_own_parts(config: Config) -> None:
    import numpy as np

    from rl.reward_models.credit import make_credit
    from rl.reward_models.lessons import make_configured_selector
    from rl.reward_models.mprm import make_label_rule
    from rl.tasks.making import make_added_rewards, make_verifier

    make_credit(config, np.zeros_like)
    make_verifier(config)
    make_added_rewards(config)
    make_configured_selector(config)
    make_label_rule(config)


def _visible_gpu_gb() -> float:
    """Memory of this machine's first GPU, in GB; 80 where there is none."""
    import torch

    if not torch.cuda.is_available():
        return USUAL_GPU_GB
    return torch.cuda.get_device_properties(0).total_memory / 10**9
