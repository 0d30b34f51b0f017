"""What ``sieve eval prm`` found, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from rewards.measuring.process_report import (
    FirstErrorReport,
    LabelledStepsReport,
    ProcessReport,
    ScoreQuality,
    StepClasses,
)
from rl.monitoring.terminal import cell, say


def print_process_report(report: ProcessReport, written: Sequence[str]) -> None:
    """The table, how good the scores are, and a line for each file that was written."""
    terminal = Console(highlight=False)
    terminal.print(_step_table(report) if isinstance(report, LabelledStepsReport) else _first_error_table(report))
    lines = [f"threshold {report.threshold.told()}", _quality_line(report.quality)]
    if isinstance(report, LabelledStepsReport):
        lines += [f"{kind}: {_quality_line(quality)}" for kind, (_, quality) in report.per_kind.items()]
    say(terminal, "\n".join([*lines, *written]))


def _step_table(report: LabelledStepsReport) -> Table:
    table = _table("source", "macro-F1", "F1 right", "F1 wrong", "steps")

    def row(name: str, classes: StepClasses, end: bool = False) -> None:
        values = (classes.macro_f1, classes.f1_positive, classes.f1_negative)
        table.add_row(cell(name), *map(_fraction, values), f"{classes.steps:,}", end_section=end)

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
        table.add_row(cell(name), _fraction(subset.f1), *named, *passed, end_section=name == last)
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
        f"within an index {_fraction(quality.auc_weighted)} +- {_fraction(quality.auc_standard_error)} by errors, "
        f"{_fraction(quality.auc_within_index)} alike), "
        f"Brier {_fraction(quality.brier)}, calibration error {_fraction(quality.calibration_error)}"
    )


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
