"""The command line of ``sieve eval``: how good a reward model is, and how good a policy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from rl.commands.ending import FAILURE, USER_ERROR, fail

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Measure a reward model, or a policy.")

AGAIN = "what is scored and kept in a file stays; the same command goes on"


@app.command()
def prm(
    bench: Annotated[str, typer.Option(help="`visualprocessbench` or `processbench`.")] = "visualprocessbench",
    path: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The benchmark: its JSON lines, and the images they name.")
    ] = None,
    mprm: Annotated[
        str | None,
        typer.Option(metavar="CKPT", help="A saved MPRM, as `RUN/checkpoints/step-40/mprm`, or any other checkpoint."),
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Scores made elsewhere, instead of `--path` and `--mprm`.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(metavar="T", help="Steps that score T or more count as right; 0.5 unless given.")
    ] = None,
    tune_on: Annotated[
        str | None,
        typer.Option(
            metavar="SPLIT",
            help="Choose the threshold on a part that is then not reported: a share of the problems, as `0.2` (a hash "
            "decides which, so that it is always the same ones), or a source, as `source=MathVista`.",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="OUT", help="Write the report as JSON.")] = None,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw ROC curve and reliability as PNG.")] = None,
    save_scores: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Keep the scores, in the format of `--scores`.")
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="Of a checkpoint that is no saved MPRM: `token`, `value` or `beta`.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="Of a checkpoint that is no saved MPRM: `rollout`, `chat` or `inline`.")
    ] = None,
    separator: Annotated[
        str, typer.Option(help="Text that ends each step in the format `rollout`; \\n stands for a line break.")
    ] = r"\n",
    batch_size: Annotated[int, typer.Option(help="Solutions that are scored, and saved, together.")] = 32,
    batch_tokens: Annotated[int, typer.Option(help="Most tokens of one forward pass.")] = 16384,
    dtype: Annotated[str, typer.Option(help="Number format of the model: `float32` or `bfloat16`.")] = "float32",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let code that comes with the checkpoint run.")
    ] = False,
) -> None:
    """How well a process reward model tells right steps from wrong ones, as people judged them.

    `visualprocessbench` gives F1 of right and of wrong steps, averaged, for each source, and their step-weighted mean;
    `processbench` how often the first wrong step is found, or that there is none.

    With `--scores` no model is needed: one object a line, `{"data_source": …, "labels": [1, 0, -1], "scores": [0.9,
    0.5, 0.1]}`; 0 is neutral and left out. For `processbench` also `{"label": …, "scores": […]}`.

    A killed evaluation goes on when the same command is given again with `--save-scores` or `--json`.

    Example: `sieve eval prm --path VisualProcessBench --mprm runs/quickstart/checkpoints/step-40/mprm --json out.json`
    """
    from rewards.measuring.process_benchmark import BenchmarkError
    from rl.commands.eval_prm import run
    from rl.errors import ConfigError
    from rl.evaluating.benchmark_order import ModelOptions, Options

    model = ModelOptions(mprm, head, format, separator, batch_size, batch_tokens, dtype, trust_remote_code)
    try:
        run(Options(bench, path, model, scores, threshold, tune_on, json, plots, save_scores))
    except (BenchmarkError, ConfigError) as error:
        fail(str(error), USER_ERROR)
    except (RuntimeError, ValueError, OSError) as error:  # a model fails in many ways
        fail(f"{' '.join(str(error).split())}; {AGAIN}", FAILURE)
    except KeyboardInterrupt:
        fail(f"stopped; {AGAIN}", FAILURE)


@app.command()
def policy(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG.yaml", help="Task, policy, engine and seed. Not needed with --run.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key.sub=value", help="Changes, for example engine.temperature=0.7.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="A run folder: its configuration, and its newest policy and MPRM."),
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="S[,S...]", help="Which; the cheap ones unless given. `all`, `best_of_n` (all its rules)."
        ),
    ] = None,
    n: Annotated[str, typer.Option("--n", metavar="N[,N...]", help="Numbers of samples.")] = "1,2,4,8",
    policy: Annotated[
        str | None, typer.Option(metavar="CKPT", help="The policy; the configuration's unless given.")
    ] = None,
    mprm: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]CKPT", help="A judge of steps. Several, with names, judge the same samples."),
    ] = None,
    outcome_model: Annotated[
        list[str] | None, typer.Option(metavar="[NAME=]CKPT", help="A judge of whole answers.")
    ] = None,
    prompts: Annotated[int | None, typer.Option(metavar="P", help="How many; evaluation.prompts unless given.")] = None,
    split: Annotated[str, typer.Option(help="heldout or train.")] = "heldout",
    json: Annotated[Path | None, typer.Option(metavar="OUT.json", help="Write the report as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="OUT.png", help="Draw accuracy against N.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT.jsonl", help="Keep all samples and scores; a kill loses none."),
    ] = None,
) -> None:
    """How often a policy is right, and what a judge's choice among its answers adds.

    Strategies: `greedy`, `pass` (any of N right), `majority`; with a judge `best_of_n_mean`, `_min`, `_product`,
    `_last`, `_max`, `weighted_majority`, `step_aggregation`, `one_shot` (the whole answer as one step), and
    `guided_greedy` (the best of N next steps, again and again). All N, and all judges, see the same samples;
    intervals are bootstrapped over prompts, differences are paired.

    With `-o` the same command goes on where it was stopped or killed.

    Examples:

    * `sieve eval policy --run runs/quickstart-20261121-101500 --strategy all --n 1,2,4,8,16 --plot strategies.png`
    * `sieve eval policy configs/quickstart.yaml --mprm RUN/checkpoints/step-40/mprm --mprm untrained=grid_policy`
    """
    from rl.workers.worker import WORKER_ENVIRONMENT

    os.environ.update(WORKER_ENVIRONMENT)
    from rl.commands.eval_policy import Options
    from rl.commands.eval_policy import run as evaluate

    evaluate(
        Options(
            config=config,
            overrides=overrides or [],
            run=run,
            strategy=strategy or [],
            n=n,
            policy=policy,
            mprm=mprm or [],
            outcome_model=outcome_model or [],
            prompts=prompts,
            split=split,
            json=json,
            plot=plot,
            output=output,
        )
    )
