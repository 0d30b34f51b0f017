"""The terminal: one live table while training, plain lines when the output is not a terminal."""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

from rich.box import SIMPLE_HEAD
from rich.console import Console as Terminal
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from rl.monitoring.terminal import open_terminal, progress_bar, say, waiting

STRATEGIES = "policy/strategies/"
HEADLINES = ("mprm/bench_macro_f1", "mprm/bench_first_error_f1", "mprm/bench_auc")
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


def beside_fixed(tokens: int, fixed_tokens: float) -> str:
    """What labels cost beside the `fixed` budget, in brackets; nothing where they cost as much."""
    share = tokens / fixed_tokens if fixed_tokens else 1.0
    return f" ({share:.0%} of what the fixed budget takes)" if share < 0.995 else ""


class Console:
    """Shows progress as it is made."""

    def __init__(self) -> None:
        self._terminal = open_terminal()
        self._table: LiveTable | None = None

    def say(self, text: str) -> None:
        """One line, above the table if there is one."""
        say(self._terminal, text)

    def waiting(self, what: str) -> AbstractContextManager[None]:
        """While inside, show what takes so long, below the table if there is one."""
        return waiting(what, self._terminal)

    def progress(
        self, what: str, total: int, done: int = 0, lines: bool = True
    ) -> AbstractContextManager[Callable[[int], None]]:
        """`rl.monitoring.terminal.progress_bar`, below the table if there is one."""
        return progress_bar(what, total, done, self._terminal, lines)

    @contextmanager
    def training(self, steps: int, done: int) -> Iterator[None]:
        """While inside, a terminal has the live table of a run of so many policy steps, some of them done."""
        if not self._terminal.is_interactive:
            yield
            return
        self._table = LiveTable(self._terminal, steps, done)
        try:
            with Live(self._table, console=self._terminal):
                yield
        finally:
            self._table = None

    def step(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """One policy step."""
        if self._table is not None:
            self._table.add(step, metrics)
            return
        told: dict[str, list[str]] = defaultdict(list)
        for name, value in _known(metrics).items():
            about, heading, _ = COLUMNS[name]
            told[about].append(f"{heading} {value}")
        fields = [f"{about} {' '.join(values)}" for about, values in told.items()]
        self.say("  ".join([f"step {step}/{steps}", *fields]))

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """One held-out evaluation."""
        text = f"held-out after step {step}: accuracy {metrics['policy/accuracy']:.3f}"
        if "mprm/auc_weighted" in metrics:
            text += (
                f", MPRM AUC within a step kind {metrics['mprm/auc_weighted']:.3f}"
                f" +- {metrics['mprm/auc_standard_error']:.3f} by errors, {metrics['mprm/auc_within_kind']:.3f} alike"
                f" (plain {metrics['mprm/auc_plain']:.3f}, step index alone {metrics['mprm/auc_index_only']:.3f})"
            )
        self.say(text)

    def further_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Test-time strategies with the most samples, and the benchmark's headlines."""
        found: dict[str, tuple[int, float]] = {}
        for name, value in metrics.items():
            if name.startswith(STRATEGIES):
                strategy, _, samples = name.removeprefix(STRATEGIES).rpartition("/")
                found[strategy] = max(found.get(strategy, (0, 0.0)), (int(samples), value))
        parts = [f"{strategy} of {samples} {value:.3f}" for strategy, (samples, value) in found.items()]
        parts += [f"{name} {metrics[name]:.3f}" for name in HEADLINES if name in metrics]
        self.say(f"after step {step}: {', '.join(parts)}")


class LiveTable:
    """What `rich.live.Live` shows of a run.

    Args:
        terminal: Where.
        steps: Policy steps of the run.
        done: Those that are taken already.
    """

    def __init__(self, terminal: Terminal, steps: int, done: int) -> None:
        self._rows: deque[tuple[int, Mapping[str, str]]] = deque(maxlen=ROWS)
        columns = (TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), _ThisStep())
        self._bar = Progress(*columns, console=terminal)
        self._task = self._bar.add_task("steps", total=steps, completed=done, began=time.monotonic())

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show a finished policy step."""
        self._rows.append((step, _known(metrics)))
        self._bar.update(self._task, completed=step, began=time.monotonic())

    def __rich__(self) -> Group:
        return Group(self._table(), self._bar) if self._rows else Group(self._bar)

    def _table(self) -> Table:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        table.add_column("\nstep", justify="right")
        shown = [name for name in COLUMNS if any(name in values for _, values in self._rows)]
        before = ""
        for about, heading, _ in (COLUMNS[name] for name in shown):
            table.add_column(f"[dim]{about if about != before else ''}[/]\n{heading}", justify="right")
            before = about
        for step, values in self._rows:
            table.add_row(str(step), *(values.get(name, "") for name in shown))
        return table


def _known(metrics: Mapping[str, float]) -> dict[str, str]:
    """What is shown of a policy step: not what nothing is known of, as of labels that have not come yet."""
    return {
        name: form.format(metrics[name])
        for name, (_, _, form) in COLUMNS.items()
        if not math.isnan(metrics.get(name, math.nan))
    }


class _ThisStep(ProgressColumn):
    """How long the step that is under way has taken."""

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text()
        return Text(f"this one {timedelta(seconds=int(time.monotonic() - task.fields['began']))}")
