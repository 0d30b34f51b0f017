"""``sieve eval prm``: how well a process reward model tells right steps from wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rewards.files.whole_file import replacing
from rl.commands.ending import MODEL_FAILURES, one_line
from rl.commands.options import check, one_of
from rl.files.quiet import quieten_libraries

if TYPE_CHECKING:
    from rewards.measuring.process_benchmark import Bench
    from rewards.measuring.process_report import ProcessReport
    from rewards.measuring.process_scores import ScoredSolution


def eval_prm(
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
    from rewards.measuring.process_benchmark import BENCHES, BenchmarkError
    from rewards.measuring.process_report import Threshold, make_report, tune
    from rewards.measuring.process_scores import read_scores
    from rl.evaluating.process_views import print_process_report

    again = "what is scored and kept in a file stays; the same command goes on"
    with one_line(again, wrong=(BenchmarkError,), failed=MODEL_FAILURES):
        known = one_of("--bench", bench, BENCHES)
        _check_source(path, mprm, scores, save_scores)
        _check_model(head, format, dtype, batch_size, batch_tokens, separator)
        if threshold is not None:
            check(0 <= threshold <= 1, f"--threshold {threshold:g}: allowed is 0 to 1")
            check(tune_on is None, "--threshold and --tune-on are both given; allowed is one of them")
        _check_targets(known, path, scores, json, save_scores, plots)
        scored: AbstractContextManager[list[ScoredSolution]]
        if scores is not None:
            scored = nullcontext(read_scores(known, scores))
        else:
            quieten_libraries()
            # Imported here, since scores that are there need no model.
            from rl.evaluating.benchmark_scoring import BenchmarkOrder, ModelOptions, benchmark_scores
            from rl.files.named_checkpoint import named_checkpoint

            assert path is not None and mprm is not None
            checkpoint = named_checkpoint("--mprm", mprm, "mprm")
            model = ModelOptions(
                checkpoint, head, format, separator, batch_size, batch_tokens, dtype, trust_remote_code
            )
            scored = benchmark_scores(BenchmarkOrder(known, path, model, tune_on, json, save_scores))
        with scored as solutions:
            used = Threshold() if threshold is None else Threshold(threshold, "given")
            reported: Sequence[ScoredSolution] = solutions
            if tune_on is not None:
                used, reported = tune(known, solutions, tune_on)
            report = make_report(known, reported, used)
            written = [f"scores   {save_scores}"] if save_scores else []
            if json is not None:
                with replacing(json) as partial:
                    partial.write_text(dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
                written.append(f"report   {json}")
            if plots is not None:
                written.append(f"plots    {_draw(plots, known, report, reported)}")
        print_process_report(report, written)


def _check_source(path: Path | None, mprm: str | None, scores: Path | None, save_scores: Path | None) -> None:
    if scores is None:
        check(path is not None, "name the benchmark with --path DIR, or scores with --scores FILE.jsonl")
        check(mprm is not None, "name the model with --mprm CKPT, or scores with --scores FILE.jsonl")
        return
    for option, value in (("--path", path), ("--mprm", mprm), ("--save-scores", save_scores)):
        check(value is None, f"--scores and {option} are both given; --scores needs no model")


def _check_model(
    head: str | None, format: str | None, dtype: str, batch_size: int, batch_tokens: int, separator: str
) -> None:
    if head is not None:
        one_of("--head", head, ("token", "value", "beta"))
    if format is not None:
        one_of("--format", format, ("rollout", "chat", "inline"))
    one_of("--dtype", dtype, ("float32", "bfloat16"))
    for option, number in (("--batch-size", batch_size), ("--batch-tokens", batch_tokens)):
        check(number >= 1, f"{option} {number}: allowed is 1 or more")
    check(separator != "", "--separator is empty; allowed is any text")


def _check_targets(
    bench: Bench,
    path: Path | None,
    scores: Path | None,
    json: Path | None,
    save_scores: Path | None,
    plots: Path | None,
) -> None:
    from rewards.measuring.process_benchmark import benchmark_files

    read = [scores] if scores else benchmark_files(bench, path) if path else []
    for option, target in (("--json", json), ("--save-scores", save_scores)):
        if target is not None:
            _check_target(option, target, bench, path, read)
    check(json is None or json != save_scores, "--json and --save-scores name the same file")
    if plots is not None:
        check(not plots.exists() or plots.is_dir(), f"--plots {plots} exists and is no folder")
        check(plots.parent.is_dir(), f"--plots {plots}: there is no folder {plots.parent}")


def _check_target(option: str, target: Path, bench: Bench, path: Path | None, read: Sequence[Path]) -> None:
    from rewards.measuring.process_benchmark import SUFFIXES

    told = f"{option} {target}"
    check(target.parent.is_dir(), f"{told}: there is no folder {target.parent}")
    check(not target.exists() or target.is_file(), f"{told} exists and is no file")
    check(not any(target.exists() and target.samefile(file) for file in read), f"{told} is one of the inputs")
    if path is not None and path.is_dir() and target.parent.samefile(path):
        named = f"{told} lies in {path}, and would be read as part of the benchmark"
        check(target.suffix not in SUFFIXES[bench], named)


def _draw(folder: Path, bench: Bench, report: ProcessReport, reported: Sequence[ScoredSolution]) -> str:
    """Draw both pictures; gives their names."""
    from rewards.measuring.process_metrics import labelled_steps
    from rewards.measuring.process_plots import plot_reliability, plot_roc

    folder.mkdir(exist_ok=True)
    steps = labelled_steps(reported)
    title = f"{bench}: {len(steps.scores):,} steps"
    roc, reliability = folder / "roc.png", folder / "reliability.png"
    with replacing(roc) as partial:
        plot_roc(partial, steps, report.threshold.value, title)
    with replacing(reliability) as partial:
        plot_reliability(partial, steps, title)
    return f"{roc}, {reliability}"
