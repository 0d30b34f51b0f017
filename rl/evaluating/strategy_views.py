"""What ``sieve eval policy`` found, as tables for the terminal and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rewards.measuring.bootstrap import Interval
from rl.evaluating.policy_steps import PolicySteps
from rl.evaluating.strategy_report import Point, StrategyReport

REFERENCES = ("majority", "greedy")
WIDTH = 140  # where the output is no terminal
DPI = 150
# Okabe and Ito's colours, which the colour-blind can tell apart, and four more; the ceiling and greedy are grey.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31", "#7b4173", "#9c9ede"]
MARKERS = "osD^vP*Xhp"
LINES = ["-", "--", "-.", ":"]  # a judge each
GREY = "#8a8a8a"
ASIDE = 1.006  # curves stand a little beside one another, so that their intervals can be seen


def print_report(report: StrategyReport) -> None:
    """Accuracy by N; and, at the largest N, differences and costs."""
    console = _console()
    console.print(_accuracies(report))
    console.print(_details(report))


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def print_steps(steps: PolicySteps) -> None:
    """What the policy's steps say: what is right, what likelihood tells, and what labels get wrong."""
    likelihood = steps.likelihood
    rows = {
        "right on their own": f"{steps.right:.3f}",
        "right so far": f"{steps.right_so_far:.3f}",
        "AUC of the step's likelihood": f"{likelihood.own:.3f} ±{likelihood.own_standard_error:.3f}",
        "AUC of all likelihood so far": f"{likelihood.cumulative:.3f} ±{likelihood.cumulative_standard_error:.3f}",
        f"wrong labels, {steps.continuations} continuations": f"{steps.label_noise:.3f}",
        "wrong steps labelled right": f"{steps.false_positive:.3f}",
        "right steps labelled wrong": f"{steps.false_negative:.3f}",
    }
    table = Table(
        title=f"{steps.steps:,} steps of {steps.answers:,} answers",
        title_justify="left",
        caption_justify="left",
        caption="± the standard error over prompts; areas within a kind of step, weighted by its errors",
        show_header=False,
    )
    for name, value in rows.items():
        table.add_row(name, value)
    _console().print(table)


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


def plot_strategies(picture: Path, report: StrategyReport) -> None:
    """Draw every strategy's accuracy against N with its interval, as a PNG; greedy, which has no N, as a line.

    A strategy has a colour, a judge a kind of line. The legend has the order of the curves' right ends. What is by
    definition the same is drawn once: ``step_aggregation`` is ``best_of_n_mean``.
    """
    from matplotlib.figure import Figure

    curves: dict[str, list[Point]] = {}
    for point in report.points:
        curves.setdefault(point.name, []).append(point)
    shown = [points for points in curves.values() if not _is_drawn_already(points[0], report)]
    shown.sort(key=lambda points: -points[-1].accuracy.value)
    strategies = list(dict.fromkeys(p.strategy for p in report.points if p.strategy not in ("greedy", "pass")))
    judges = list(dict.fromkeys(point.judge for point in report.points if point.judge))
    numbers = sorted({point.n for point in report.points})

    figure = Figure(figsize=(10, max(5.4, 0.27 * len(shown) + 1.2)), layout="constrained")
    axes = figure.subplots()
    for place, points in enumerate(shown):
        first = points[0]
        if first.strategy == "greedy":
            axes.axhline(first.accuracy.value, color=GREY, linestyle=":", linewidth=1.8, label="greedy")
            axes.axhspan(first.accuracy.low, first.accuracy.high, color=GREY, alpha=0.10, linewidth=0)
            continue
        ceiling = first.strategy == "pass"
        index = 0 if ceiling else strategies.index(first.strategy)
        colour = GREY if ceiling else COLOURS[index % len(COLOURS)]
        line = LINES[judges.index(first.judge) % len(LINES)] if first.judge else "--" if ceiling else "-"
        x = [point.n * ASIDE ** (place - len(shown) / 2) for point in points]
        values = [point.accuracy.value for point in points]
        axes.vlines(x, *_bounds(points), color=colour, alpha=0.4, linewidth=1.2)
        axes.plot(
            x,
            values,
            color=colour,
            linestyle=line,
            linewidth=1.7,
            marker="" if ceiling else MARKERS[index % len(MARKERS)],
            markersize=5,
            label="pass@N, the ceiling" if ceiling else first.name,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [str(n) for n in numbers])
    axes.minorticks_off()
    axes.set(xlabel="N, samples of a prompt", ylabel="right answers")
    axes.set_title(f"Test-time strategies on {report.prompts:,} prompts", loc="left", weight="bold")
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, title="with 95 % bootstrap intervals", alignment="left")
    figure.savefig(picture, dpi=DPI, format="png")


def _is_drawn_already(point: Point, report: StrategyReport) -> bool:
    return point.strategy == "step_aggregation" and any(other.strategy == "best_of_n_mean" for other in report.points)


def _bounds(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.accuracy.low for point in points], [point.accuracy.high for point in points]
