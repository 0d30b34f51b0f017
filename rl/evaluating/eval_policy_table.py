"""What ``sieve eval policy`` found, as tables for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from rewards.measuring.bootstrap import Interval
from rl.evaluating.strategy_report import Point, StrategyReport

REFERENCES = ("majority", "greedy")
WIDTH = 140  # where the output is no terminal


def print_report(report: StrategyReport) -> None:
    """Accuracy by N; and, at the largest N, differences and costs."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    console.print(_accuracies(report))
    console.print(_details(report))


def _accuracies(report: StrategyReport) -> Table:
    numbers = sorted({point.n for point in report.points})
    table = Table(
        title=f"right answers to {report.prompts:,} prompts, by number of samples",
        title_justify="left",
        caption_justify="left",
        caption="± half the width of the 95 % bootstrap interval over prompts",
    )
    table.add_column("strategy")
    for n in numbers:
        table.add_column(f"N = {n}", justify="right")
    for name in dict.fromkeys(point.name for point in report.points):
        cells = {point.n: _share(point.accuracy) for point in report.points if point.name == name}
        table.add_row(name, *(cells.get(n, "") for n in numbers))
    return table


def _details(report: StrategyReport) -> Table:
    """Of each strategy the point with the largest N."""
    last = {point.name: point for point in report.points}
    table = Table(title=f"at N = {max(point.n for point in report.points)}", title_justify="left")
    table.add_column("strategy")
    table.add_column("right", justify="right")
    references = [reference for reference in REFERENCES if reference in last]
    for reference in references:
        table.add_column(f"more than {reference}, with interval", justify="right")
    table.add_column("tokens", justify="right")
    table.add_column("s/prompt", justify="right")
    for name, point in last.items():
        differences = [_difference(report, point, last[reference]) for reference in references]
        table.add_row(name, f"{point.accuracy.value:.3f}", *differences, f"{point.tokens:,.0f}", f"{point.seconds:.3f}")
    return table


def _share(interval: Interval) -> str:
    return f"{interval.value:.3f} ±{(interval.high - interval.low) / 2:.3f}"


def _difference(report: StrategyReport, of: Point, against: Point) -> str:
    interval = report.difference(of, against)
    return "" if interval is None else f"{interval.value:+.3f}  {interval.low:+.3f} to {interval.high:+.3f}"
