"""The terminal's picture of a run under way: its newest policy steps as a table, and how far it has come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from datetime import timedelta

from rich.box import SIMPLE_HEAD
from rich.console import Console as Terminal
from rich.console import Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

COLUMNS = {
    # metric: (what it is about, heading, format)
    "reward/outcome": ("policy", "right", "{:.2f}"),
    "policy/entropy": ("policy", "entropy", "{:.3f}"),
    "reward/mprm_gap": ("MPRM", "gap", "{:+.2f}"),
    "reward/mprm_error": ("MPRM", "error", "{:.2f}"),
    "mprm/loss": ("MPRM", "loss", "{:.3f}"),
    "selection/kept": ("selection", "kept", "{:.2f}"),
    "selection/size": ("selection", "buffer", "{:.0f}"),
    "annotation/tokens": ("labels", "tokens", "{:.0f}"),
    "perf/step_seconds": ("pace", "s/step", "{:.2f}"),
}
ROWS = 12


class LiveTable:
    """What `rich.live.Live` shows of a run.

    Args:
        terminal: Where.
        steps: Policy steps of the run.
        done: Those that are taken already.
    """

    def __init__(self, terminal: Terminal, steps: int, done: int) -> None:
        self._rows: deque[tuple[int, Mapping[str, float]]] = deque(maxlen=ROWS)
        columns = (TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), _ThisStep())
        self._bar = Progress(*columns, console=terminal)
        self._task = self._bar.add_task("steps", total=steps, completed=done, began=time.monotonic())

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show a finished policy step."""
        self._rows.append((step, metrics))
        self._bar.update(self._task, completed=step, began=time.monotonic())

    def __rich__(self) -> Group:
        return Group(self._table(), self._bar) if self._rows else Group(self._bar)

    def _table(self) -> Table:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        table.add_column("\nstep", justify="right")
        shown = [name for name in COLUMNS if any(name in metrics for _, metrics in self._rows)]
        before = ""
        for about, heading, _ in (COLUMNS[name] for name in shown):
            table.add_column(f"[dim]{about if about != before else ''}[/]\n{heading}", justify="right")
            before = about
        for step, metrics in self._rows:
            table.add_row(str(step), *(COLUMNS[n][2].format(metrics[n]) if n in metrics else "" for n in shown))
        return table


class _ThisStep(ProgressColumn):
    """How long the step that is under way has taken."""

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text()
        return Text(f"this one {timedelta(seconds=int(time.monotonic() - task.fields['began']))}")
