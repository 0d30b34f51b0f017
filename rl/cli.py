"""The command line: ``sieve``. Everything heavy is imported where it is used: ``sieve --help`` answers at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from rl.commands import eval_cli
from rl.commands.ending import FAILURE, USER_ERROR, fail
from rl.monitoring.terminal import typed_command

app = typer.Typer(
    name="sieve",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Online reinforcement learning for vision-language reasoning, with a process reward model that learns from
    the rollouts worth learning from.

    Start with `sieve train configs/quickstart.yaml`: about five minutes on a laptop, no GPU needed. Watch it with
    `sieve board runs`.

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
    from rl.config import load_config
    from rl.errors import ConfigError

    changes = list(overrides or [])
    if resume is not None and config is not None:
        # With --resume the first free argument is an override: the run brings its own configuration.
        changes.insert(0, config)
    try:
        if resume is not None:
            from rl.checkpoints.run_folder import open_run_folder

            resolved = open_run_folder(resume, changes)
        elif config is None:
            raise ConfigError("name a configuration, for example configs/quickstart.yaml, or --resume RUN")
        else:
            resolved = load_config(config, changes)
        if dry_run:
            from rl.commands.dry_run import run as show

            show(resolved, gpu_gb, gpus_per_node)
            return
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        from rl.commands.train import run

        run(resolved, resume)
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
    from rl.commands.plan import run as show
    from rl.errors import ConfigError

    try:
        show(config, overrides or [], run, seconds, gpus)
    except ConfigError as error:
        fail(str(error), USER_ERROR)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    no_engine: Annotated[bool, typer.Option("--no-engine", help="Start no engine, which takes longest.")] = False,
) -> None:
    """Look at this machine: what is there, whether a run can start, and the command that mends what is missing.

    Versions, cores, memory, disks, limits and GPUs are read; TensorBoard, Ray (on every node of the cluster that
    `RAY_ADDRESS` names) and a vLLM engine with the shipped policy are really started. Every check has a deadline.

    Exit codes: 0 a run can start, 1 something is missing.
    """
    from rl.commands.doctor import run

    try:
        if not run(not no_engine, as_json):
            raise typer.Exit(FAILURE)
    except KeyboardInterrupt:
        fail("stopped", FAILURE)


@app.command()
def report(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN...", help="Run folders, finished or not.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="HTML", help="RUN/report.html, or of several runs sieve-report.html."),
    ] = None,
    rollouts: Annotated[int, typer.Option(help="How many rollouts to show, at most.")] = 200,
) -> None:
    """Write one HTML page on runs: curves, a comparison, and a browser of the rollouts that were recorded.

    The page holds everything it shows, and fetches nothing. Rollouts are there if the run was trained with
    `record=true`.

    Example: `sieve report runs/bis runs/random -o comparison.html`
    """
    from rl.commands.report import run
    from rl.errors import ConfigError

    try:
        run(runs or [], output, rollouts)
    except ConfigError as error:
        fail(str(error), USER_ERROR)
    except OSError as error:
        fail(f"{error}; nothing was written", FAILURE)


@app.command()
def board(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN...", help="Run folders, or folders of them, to compare.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Where; 6006 or the next free one unless given.")] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser, where there is a desktop.")] = True,
) -> None:
    """Open TensorBoard on a dashboard: is the policy better, is the reward model right, is selection paying?

    It answers on this machine alone, also while the runs go on, until Ctrl-C.

    Examples:

    * `sieve board runs/quickstart-20261121-101500`
    * `sieve board runs --port 7007`
    """
    from rl.commands.board import run
    from rl.errors import ConfigError

    try:
        run(runs or [], port, browser)
    except ConfigError as error:
        fail(str(error), USER_ERROR)
    except KeyboardInterrupt:
        pass


@app.command("make-policy")
def make_policy(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new checkpoint.")],
    seed: Annotated[int, typer.Option(help="Of weights and demonstrations.")] = 0,
) -> None:
    """Build the tiny policy that ships with Sieve: a Qwen2.5-VL of a million parameters, in minutes on a CPU."""
    from rl.commands.make_policy import run

    run(folder, seed)


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

    from rl.commands.select import Options, SelectionError, run

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
    from rl.workers.worker import WORKER_ENVIRONMENT

    os.environ.update(WORKER_ENVIRONMENT)
    from rl.commands.annotate import run
    from rl.errors import ConfigError

    again = "what is written stays; the same command goes on"
    try:
        run(config, overrides or [], output, prompts, split, first, typed_command("sieve"))
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
    from rl.workers.worker import WORKER_ENVIRONMENT

    os.environ.update(WORKER_ENVIRONMENT)
    from rl.commands.train_outcome import run
    from rl.errors import ConfigError

    try:
        run(config, overrides or [], pairs or [], output, held_out)
    except ConfigError as error:
        fail(str(error), USER_ERROR)
    except (RuntimeError, ValueError, OSError) as error:  # a model fails in many ways
        fail(f"{' '.join(str(error).split())}; nothing was written", FAILURE)
    except KeyboardInterrupt:
        fail("stopped; nothing was written", FAILURE)


@app.command()
def study(
    path: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="What is compared; see configs/studies.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key=value", help="Changes of the study, for example workers=4.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The study's folder; runs/studies/NAME unless given.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, and list the cells.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Run nothing; report what is finished.")] = False,
) -> None:
    """Run many experiments that differ in what is asked, and compare them in pairs.

    Every experiment is checked before the first one runs. A cell, one arm with one seed, is a Ray task, at most
    `workers` of them at a time; it leaves `cells/NAME/result.json`. The same command goes on where it was stopped: it
    runs what is missing, failed, or was made with other settings. A study of replays records its runs first, one a
    seed, into `streams` beside its folder.

    The report: `report.md` with tables and `figures/`, and every number in `results.csv` and `results.parquet`.

    Examples:

    * `sieve study configs/studies/selectors.yaml --dry-run`
    * `sieve study configs/studies/selectors.yaml workers=8`
    * `sieve study configs/studies/selectors.yaml --report`
    """
    from rl.workers.worker import WORKER_ENVIRONMENT

    os.environ.update(WORKER_ENVIRONMENT)
    from rl.commands.study import run
    from rl.errors import ConfigError

    again = "finished cells stay; the same command goes on"
    try:
        failures = run(path, overrides or [], out, dry_run, report)
    except ConfigError as error:
        fail(str(error), USER_ERROR)
    except (RuntimeError, OSError) as error:
        fail(f"{' '.join(str(error).split())}; {again}", FAILURE)
    except KeyboardInterrupt:
        fail(f"stopped; {again}", FAILURE)
    if failures:
        causes = "\n".join(f"  {name}: {cause}" for name, cause in failures.items())
        fail(f"{len(failures)} failed; {again}\n{causes}", FAILURE)


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
