"""The command line: ``sieve``."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:  # everything heavy is imported where it is used: `sieve --help` answers at once
    from rl.config import Config
    from rl.console import Console

app = typer.Typer(
    name="sieve",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Online reinforcement learning for vision-language reasoning, with a process reward model that learns from
    the rollouts worth learning from.

    Start with `sieve train configs/quickstart.yaml`: about five minutes on a laptop, no GPU needed. Watch it with
    `tensorboard --logdir runs`.

    Exit codes: 0 done, 1 it failed, 2 the input is wrong.""",
)

USER_ERROR, FAILURE = 2, 1


@app.command()
def train(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG.yaml", help="The experiment. Not needed with --resume.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key.sub=value", help="Changes, for example learner.samples=16.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print every key with its value, and who runs where.")
    ] = False,
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
    from rl.config import ConfigError, load_config

    changes = list(overrides or [])
    if resume is not None and config is not None:
        # With --resume the first free argument is an override: the run brings its own configuration.
        changes.insert(0, config)
    try:
        if resume is not None:
            from rl.train import open_run_folder

            resolved = open_run_folder(resume, changes)
        elif config is None:
            raise ConfigError("name a configuration, for example configs/quickstart.yaml, or --resume RUN")
        else:
            resolved = load_config(config, changes)
        if dry_run:
            _print_plan(resolved)
            return
        _run(resolved, resume)
    except ConfigError as error:
        _fail(str(error), USER_ERROR)


@app.command("make-policy")
def make_policy(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the checkpoint goes.")],
    seed: Annotated[int, typer.Option(help="Of weights and demonstrations.")] = 0,
) -> None:
    """Build the tiny policy that ships with Sieve: a Qwen2.5-VL of a million parameters, in minutes on a CPU."""
    from rl.policy.make_policy import make_policy as build

    build(folder, seed=seed)


def main() -> None:
    """Entry point of the ``sieve`` command."""
    app()


def _run(config: Config, resume: Path | None) -> None:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from rl.console import Console
    from rl.rollouts import UnreadableRolloutsError
    from rl.train import choose_run_folder
    from rl.train import train as run
    from rl.workers import WorkerError

    console = Console()
    folder = resume or choose_run_folder(config)
    again = f"{_command('sieve')} train --resume {folder}"
    try:
        outcome = run(config, folder, resume is not None, console)
    except (WorkerError, UnreadableRolloutsError) as error:
        _fail(f"{error}\nthe run folder is {folder}; if it has a checkpoint, go on with: {again}", FAILURE)
    except KeyboardInterrupt:
        _fail(f"stopped at once; if {folder} has a checkpoint, go on with: {again}", FAILURE)
    if outcome.summary is None:
        console.say(f"stopped after step {outcome.step}; go on with: {again}")
        return
    _print_summary(console, folder, outcome.summary)


def _print_summary(console: Console, folder: Path, summary: dict[str, Any]) -> None:
    policy, mprm, bill = summary["policy"], summary["mprm"], summary["annotation"]
    start, end = policy["accuracy_start"], policy["accuracy_end"]
    lines = ["", f"policy   held-out accuracy {start:.3f} -> {end:.3f} ({100 * (end - start):+.1f} points)"]
    if mprm["auc_end"] is not None:
        lines.append(
            f"MPRM     AUC within a step kind {mprm['auc_start']:.3f} -> {mprm['auc_end']:.3f} (0.5 is chance)\n"
            f"         over all steps {mprm['auc_plain_end']:.3f}; step index alone {mprm['auc_index_only_end']:.3f}"
        )
    lines += [
        f"labels   {bill['continuations']:,} continuations, {bill['tokens']:,} tokens; "
        f"kept {summary['selection']['kept']:,} of {summary['selection']['seen']:,} annotated rollouts",
        f"took     {summary['wall_seconds'] / 60:.1f} minutes, {summary['peak_memory_gib']:.1f} GiB at most",
        f"written  {folder}",
        "",
        f"next:    {_command('tensorboard')} --logdir {folder}",
    ]
    console.say("\n".join(lines))


def _command(name: str) -> str:
    """How the user can type a command of this environment, activated or not."""
    if shutil.which(name):
        return name
    beside = Path(sys.executable).parent / name
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


def _print_plan(config: Config) -> None:
    import yaml

    from rl.workers import placement

    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    print("placement:")
    for kind, (number, cpus, gpus) in placement(config).items():
        print(f"  {kind}: {number} x ({cpus:g} CPU, {gpus:g} GPU)")


def _fail(message: str, code: int) -> None:
    typer.echo(f"sieve: {message}", err=True)
    raise typer.Exit(code)
