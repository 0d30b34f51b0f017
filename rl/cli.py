"""The command line: ``sieve``."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rl.commands import eval_cli
from rl.failure import FAILURE, USER_ERROR, fail

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

app.add_typer(eval_cli.app, name="eval")


@app.command()
def train(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG.yaml", help="The experiment. Not needed with --resume.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key.sub=value", help="Changes, for example learner.samples=16.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print every key with its value, who runs where, and what each GPU holds.")
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
            from rl.commands.dry_run_command import run as show

            show(resolved, gpu_gb, gpus_per_node)
            return
        _run(resolved, resume)
    except ConfigError as error:
        fail(str(error), USER_ERROR)


@app.command()
def plan(
    config: Annotated[str, typer.Argument(metavar="CONFIG.yaml", help="Batch sizes, staleness and first split.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key.sub=value", help="Changes, for example learner.prompts=512.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="RUN", help="A run folder: stage times are its metrics' medians.")
    ] = None,
    seconds: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE=S,…",
            help="Stage times: rollout, annotate, score, learn, teach, sync, other; beside them rounds (of "
            "continuations), tokens and steps (of a rollout). With --run, in the place of the run's own.",
        ),
    ] = None,
    gpus: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="Numbers of GPUs to find the best split of.")
    ] = None,
) -> None:
    """Predict a run's speed on other machines: seconds a step, idle shares, staleness and GPU-hours.

    The pipeline is simulated with the stage times of a run (`--run`), scaled to the configuration's batch, or with
    given ones (`--seconds`, those of the configuration's own numbers of engines and ranks). Every rank has a GPU of its
    own, every engine `engine.tensor_parallel` of them.

    Examples:

    * `sieve plan configs/quickstart.yaml --run runs/quickstart-20261121-101500`
    * `sieve plan configs/qwen2_5_vl_7b_8gpu.yaml --gpus 8,64,1024
      --seconds rollout=60,annotate=40,rounds=4,score=12,learn=80,teach=30,tokens=500`
    """
    from rl.commands.plan_command import run as show
    from rl.config import ConfigError

    try:
        show(config, overrides or [], run, seconds, gpus)
    except ConfigError as error:
        fail(str(error), USER_ERROR)


@app.command("make-policy")
def make_policy(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the checkpoint goes.")],
    seed: Annotated[int, typer.Option(help="Of weights and demonstrations.")] = 0,
) -> None:
    """Build the tiny policy that ships with Sieve: a Qwen2.5-VL of a million parameters, in minutes on a CPU."""
    from rl.policy.make_policy import make_policy as build

    build(folder, seed=seed)


@app.command()
def select(
    annotations: Annotated[
        list[Path] | None,
        typer.Argument(metavar="ANNOTATIONS...", help="JSON-lines files; a folder stands for its *.jsonl."),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="OUT", help="Where the records go.")] = None,
    selector: Annotated[str, typer.Option(help="What makes a rollout informative, or package.module:Name.")] = "bis",
    ratio: Annotated[float, typer.Option(help="Share of each file to choose, above 0 and at most 1.")] = 0.1,
    alpha: Annotated[float, typer.Option(help="BIS's alpha: larger ones for smaller ratios.")] = 0.2,
    counts: Annotated[
        bool, typer.Option("--counts", help="Score num_mc_correct of num_mc_total, not score; total 0 is missing.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first broken line.")] = False,
    format: Annotated[str, typer.Option(help="jsonl or parquet.")] = "jsonl",
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw what was chosen.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; all CPUs unless given.")] = None,
    seed: Annotated[int, typer.Option(help="Of selectors that choose at random.")] = 0,
) -> None:
    """Choose the most informative rollouts of an annotated corpus in VisualPRM400K's format.

    Example: `sieve select annotations/ --selector bis --ratio 0.1 --alpha 0.2 -o chosen.jsonl`
    """
    from concurrent.futures.process import BrokenProcessPool

    from rl.commands.select_command import Options, SelectionError, run

    try:
        run(Options(annotations or [], output, selector, ratio, alpha, counts, strict, format, plot, workers, seed))
    except SelectionError as error:
        fail(str(error), USER_ERROR)
    except BrokenProcessPool:
        fail("a worker process died, perhaps for want of memory; nothing was written", FAILURE)
    except OSError as error:
        fail(f"{error}; nothing was written", FAILURE)
    except KeyboardInterrupt:
        fail("stopped; nothing was written", FAILURE)


@app.command()
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
    from rl.workers import WORKER_ENVIRONMENT

    os.environ.update(WORKER_ENVIRONMENT)
    from rl.commands.annotate_command import run
    from rl.config import ConfigError

    again = "what is written stays; the same command goes on"
    try:
        run(config, overrides or [], output, prompts, split, first, _command("sieve"))
    except ConfigError as error:
        fail(str(error), USER_ERROR)
    except (RuntimeError, OSError) as error:
        fail(f"{' '.join(str(error).split())}; {again}", FAILURE)
    except KeyboardInterrupt:
        fail(f"stopped; {again}", FAILURE)


@app.command("train-outcome")
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
    from rl.workers import WORKER_ENVIRONMENT

    os.environ.update(WORKER_ENVIRONMENT)
    from rl.commands.outcome_model_command import run
    from rl.config import ConfigError

    try:
        run(config, overrides or [], pairs or [], output, held_out)
    except ConfigError as error:
        fail(str(error), USER_ERROR)
    except (RuntimeError, ValueError, OSError) as error:  # a model fails in many ways
        fail(f"{' '.join(str(error).split())}; nothing was written", FAILURE)
    except KeyboardInterrupt:
        fail("stopped; nothing was written", FAILURE)


def main() -> None:
    """Entry point of the ``sieve`` command."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        # Without a message it is the help, which has been shown.
        if message := " ".join(error.format_message().split()):
            typer.echo(f"sieve: {message[0].lower()}{message[1:]}", err=True)
        code = error.exit_code
    except typer.Abort:
        typer.echo("sieve: stopped", err=True)
        code = FAILURE
    sys.exit(code)


def _run(config: Config, resume: Path | None) -> None:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from rewards.credit.applying import CreditError
    from rl.console import Console
    from rl.loop import RewardHackingError
    from rl.rollout_groups import MixedGroupError
    from rl.rollouts import UnreadableRolloutsError
    from rl.tasks.task import PromptError
    from rl.train import choose_run_folder
    from rl.train import train as run
    from rl.workers import WorkerError
    from selection.selectors import SelectorError

    console = Console()
    folder = resume or choose_run_folder(config)
    again = f"{_command('sieve')} train --resume {folder}"
    try:
        outcome = run(config, folder, resume is not None, console)
    except PromptError as error:
        fail(f"{error}\nonce it is mended, if {folder} has a checkpoint, go on with: {again}", USER_ERROR)
    except (WorkerError, MixedGroupError, UnreadableRolloutsError, SelectorError, CreditError) as error:
        fail(f"{error}\nthe run folder is {folder}; if it has a checkpoint, go on with: {again}", FAILURE)
    except RewardHackingError as error:
        fail(f"{error}\nthe run folder is {folder}; to go on all the same: {again} watch.action=warn", FAILURE)
    except KeyboardInterrupt:
        fail(f"stopped at once; if {folder} has a checkpoint, go on with: {again}", FAILURE)
    if outcome.summary is None:
        console.say(f"stopped after step {outcome.step}; go on with: {again}")
        return
    _print_summary(console, folder, outcome.summary)


def _print_summary(console: Console, folder: Path, summary: dict[str, Any]) -> None:
    from rl.console import beside_fixed

    policy, mprm, bill = summary["policy"], summary["mprm"], summary["annotation"]
    start, end = policy["accuracy_start"], policy["accuracy_end"]
    saved = beside_fixed(bill["tokens"], bill["fixed_tokens"])
    lines = ["", f"policy   held-out accuracy {start:.3f} -> {end:.3f} ({100 * (end - start):+.1f} points)"]
    if mprm["auc_end"] is not None:
        lines.append(
            f"MPRM     AUC within a step kind {mprm['auc_start']:.3f} -> {mprm['auc_end']:.3f} (0.5 is chance)\n"
            f"         over all steps {mprm['auc_plain_end']:.3f}; step index alone {mprm['auc_index_only_end']:.3f}"
        )
    lines += [
        f"labels   {bill['continuations']:,} continuations, {bill['tokens']:,} tokens{saved}; "
        f"the buffer keeps {summary['selection']['kept']:,} of {summary['selection']['seen']:,} annotated rollouts",
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
