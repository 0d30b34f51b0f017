"""The command line of ``sieve eval prm``: checks what it was given, scores or reads scores, reports."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from rich.console import Console as Terminal
from rich.table import Table

from rewards.files.images import UnreadableImageError, check_images
from rewards.files.whole_file import replacing
from rewards.measuring.process_benchmark import (
    BENCHES,
    SUFFIXES,
    Bench,
    BenchmarkError,
    benchmark_files,
    read_benchmark,
)
from rewards.measuring.process_metrics import labelled_steps
from rewards.measuring.process_report import (
    FirstErrorReport,
    ProcessReport,
    ScoreQuality,
    StepClasses,
    StepReport,
    Threshold,
    make_report,
    split,
    tune,
)
from rewards.measuring.process_scores import ScoredSolution, read_scores
from rl.evaluating.benchmark_order import Options
from rl.files.named_checkpoint import named_checkpoint
from rl.monitoring.terminal import progress_bar

CHOICES = {
    "--head": ("token", "value", "beta"),
    "--format": ("rollout", "chat", "inline"),
    "--dtype": ("float32", "bfloat16"),
}


def run(options: Options) -> None:
    """Evaluate, write what was asked for, and print the table.

    Raises:
        BenchmarkError, ConfigError: An option or an input is wrong.
        RuntimeError, OSError: It failed.
    """
    bench = _check_options(options)
    with _scores(bench, options) as solutions:
        threshold = Threshold() if options.threshold is None else Threshold(options.threshold, "given")
        reported: Sequence[ScoredSolution] = solutions
        if options.tune_on is not None:
            threshold, reported = tune(bench, solutions, options.tune_on)
        report = make_report(bench, reported, threshold)
        written = _write(options, report, reported)
    _print(report, written)


def _scores(bench: Bench, options: Options) -> AbstractContextManager[list[ScoredSolution]]:
    if options.scores is not None:
        return nullcontext(read_scores(bench, options.scores))
    # Imported here, since scores that are there need no model.
    from rl.workers.worker import WORKER_ENVIRONMENT

    os.environ.update(WORKER_ENVIRONMENT)
    checkpoint = named_checkpoint("--mprm", str(options.model.checkpoint), "mprm")
    options = replace(options, model=replace(options.model, checkpoint=checkpoint))
    assert options.path is not None
    solutions = read_benchmark(bench, options.path)
    with progress_bar("solutions looked at", len(solutions), lines=False) as advance:
        for solution in solutions:
            try:
                check_images(solution.images)
            except UnreadableImageError as error:
                raise BenchmarkError(f"{solution.place}: {error}") from None
            advance(1)
    if options.tune_on is not None:
        split(solutions, options.tune_on)
    from rl.evaluating.benchmark_scoring import benchmark_scores

    return benchmark_scores(bench, solutions, options)


def _check_options(options: Options) -> Bench:
    """The benchmark, where all options are fine."""
    _check_choice("--bench", options.bench, BENCHES)
    bench = next(known for known in BENCHES if known == options.bench)
    model = options.model
    if options.scores is None:
        _check(options.path is not None, "name the benchmark with --path DIR, or scores with --scores FILE.jsonl")
        _check(model.checkpoint is not None, "name the model with --mprm CKPT, or scores with --scores FILE.jsonl")
    else:
        needless = {"--path": options.path, "--mprm": model.checkpoint, "--save-scores": options.save_scores}
        for name, value in needless.items():
            _check(value is None, f"--scores and {name} are both given; --scores needs no model")
    for name, value in (("--head", model.head), ("--format", model.format), ("--dtype", model.dtype)):
        _check_choice(name, value, CHOICES[name])
    for name, number in (("--batch-size", model.batch_size), ("--batch-tokens", model.batch_tokens)):
        _check(number >= 1, f"{name} {number}: allowed is 1 or more")
    _check(model.separator != "", "--separator is empty; allowed is any text")
    if options.threshold is not None:
        _check(0 <= options.threshold <= 1, f"--threshold {options.threshold:g}: allowed is 0 to 1")
        _check(options.tune_on is None, "--threshold and --tune-on are both given; allowed is one of them")
    read = [options.scores] if options.scores else benchmark_files(bench, options.path) if options.path else []
    for name, target in (("--json", options.json), ("--save-scores", options.save_scores)):
        if target is not None:
            _check_target(name, target, bench, options.path, read)
    _check(options.json is None or options.json != options.save_scores, "--json and --save-scores name the same file")
    if options.plots is not None:
        _check(not options.plots.exists() or options.plots.is_dir(), f"--plots {options.plots} exists and is no folder")
        _check(options.plots.parent.is_dir(), f"--plots {options.plots}: there is no folder {options.plots.parent}")
    return bench


def _check_target(name: str, target: Path, bench: Bench, path: Path | None, read: Sequence[Path]) -> None:
    _check(target.parent.is_dir(), f"{name} {target}: there is no folder {target.parent}")
    _check(not target.exists() or target.is_file(), f"{name} {target} exists and is no file")
    _check(not any(target.exists() and target.samefile(file) for file in read), f"{name} {target} is one of the inputs")
    if path is not None and path.is_dir() and target.parent.samefile(path):
        named = f"{name} {target} lies in {path}, and would be read as part of the benchmark"
        _check(target.suffix not in SUFFIXES[bench], named)


def _check_choice(name: str, value: str | None, allowed: Sequence[str]) -> None:
    _check(value is None or value in allowed, f"{name} {value!r}: allowed is one of {', '.join(allowed)}")


def _check(fine: bool, message: str) -> None:
    if not fine:
        raise BenchmarkError(message)


def _write(options: Options, report: ProcessReport, reported: Sequence[ScoredSolution]) -> list[str]:
    """Write the files that were asked for; gives a line for each."""
    written = [f"scores   {options.save_scores}"] if options.save_scores else []
    if options.json is not None:
        with replacing(options.json) as partial:
            partial.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
        written.append(f"report   {options.json}")
    if options.plots is not None:
        from rewards.measuring.process_plots import plot_reliability, plot_roc

        options.plots.mkdir(exist_ok=True)
        steps = labelled_steps(reported)
        title = f"{options.bench}: {len(steps.scores):,} steps"
        with replacing(options.plots / "roc.png") as partial:
            plot_roc(partial, steps, report.threshold.value, title)
        with replacing(options.plots / "reliability.png") as partial:
            plot_reliability(partial, steps, title)
        written.append(f"plots    {options.plots / 'roc.png'}, {options.plots / 'reliability.png'}")
    return written


def _print(report: ProcessReport, written: Sequence[str]) -> None:
    terminal = Terminal(highlight=False)
    terminal.print(_step_table(report) if isinstance(report, StepReport) else _first_error_table(report))
    lines = [f"threshold {report.threshold.told()}", _quality_line(report.quality)]
    if isinstance(report, StepReport):
        lines += [f"{kind}: {_quality_line(quality)}" for kind, (_, quality) in report.per_kind.items()]
    terminal.print("\n".join([*lines, *written]), markup=False, soft_wrap=True)


def _step_table(report: StepReport) -> Table:
    table = _table("source", "macro-F1", "F1 right", "F1 wrong", "steps")

    def row(name: str, classes: StepClasses, end: bool = False) -> None:
        values = (classes.macro_f1, classes.f1_positive, classes.f1_negative)
        table.add_row(name, *map(_fraction, values), f"{classes.steps:,}", end_section=end)

    last = list(report.per_source)[-1]
    for name, classes in report.per_source.items():
        row(name, classes, end=name == last)
    steps = f"{report.pooled.steps:,}"
    table.add_row("mean, weighted by steps", _fraction(report.micro_over_sources), "", "", steps, style="bold")
    row("all steps pooled", report.pooled, end=True)
    for kind, (classes, _) in report.per_kind.items():
        row(kind, classes)
    return table


def _first_error_table(report: FirstErrorReport) -> Table:
    table = _table("subset", "F1", "error named", "of", "none named", "of")
    last = list(report.per_source)[-1]
    for name, subset in report.per_source.items():
        named = _fraction(subset.accuracy_with_error), f"{subset.with_error:,}"
        passed = _fraction(subset.accuracy_without_error), f"{subset.without_error:,}"
        table.add_row(name, _fraction(subset.f1), *named, *passed, end_section=name == last)
    table.add_row("mean of subsets", _fraction(report.first_error_f1), "", "", "", "", style="bold")
    return table


def _table(first: str, *others: str) -> Table:
    table = Table()
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


def _quality_line(quality: ScoreQuality) -> str:
    return (
        f"AUC {_fraction(quality.auc)} (step index alone {_fraction(quality.auc_index_only)}, "
        f"within an index {_fraction(quality.auc_within_index)}), "
        f"Brier {_fraction(quality.brier)}, calibration error {_fraction(quality.calibration_error)}"
    )


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
