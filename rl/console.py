"""The terminal: one live table while training, plain lines when the output is not a terminal."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from rich.console import Console as Terminal
from rich.live import Live
from rich.table import Table

COLUMNS = {
    # heading: (metric, format)
    "outcome": ("reward/outcome", "{:.2f}"),
    "MPRM gap": ("reward/mprm_gap", "{:+.2f}"),
    "MPRM loss": ("mprm/loss", "{:.3f}"),
    "kept": ("selection/kept", "{:.2f}"),
    "buffer": ("selection/size", "{:.0f}"),
    "entropy": ("policy/entropy", "{:.3f}"),
    "s/step": ("perf/step_seconds", "{:.2f}"),
}
ROWS = 12
STRATEGIES = "policy/strategies/"
HEADLINES = ("mprm/bench_macro_f1", "mprm/bench_first_error_f1", "mprm/bench_auc")


def beside_fixed(tokens: int, fixed_tokens: float) -> str:
    """What labels cost beside the `fixed` budget, in brackets; nothing where they cost as much."""
    share = tokens / fixed_tokens if fixed_tokens else 1.0
    return f" ({share:.0%} of what the fixed budget takes)" if share < 0.995 else ""


class Console:
    """Shows progress as it is made."""

    def __init__(self) -> None:
        self._terminal = Terminal(highlight=False)
        self._rows: deque[list[str]] = deque(maxlen=ROWS)
        self._live: Live | None = None
        self._held_out = ""

    def say(self, text: str) -> None:
        """One line, above the table if there is one."""
        self._terminal.print(text, markup=False, soft_wrap=True)

    def step(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """One policy step."""
        values = [form.format(metrics[name]) if name in metrics else "-" for name, form in COLUMNS.values()]
        if not self._terminal.is_terminal:
            fields = "  ".join(f"{heading} {value}" for heading, value in zip(COLUMNS, values, strict=True))
            self.say(f"step {step}/{steps}  {fields}")
            return
        self._rows.append([f"{step}/{steps}", *values])
        if self._live is None:
            self._live = Live(console=self._terminal, auto_refresh=False)
            self._live.start()
        self._live.update(self._table(), refresh=True)

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """One held-out evaluation."""
        text = f"held-out after step {step}: accuracy {metrics['policy/accuracy']:.3f}"
        if "mprm/auc_within_kind" in metrics:
            text += (
                f", MPRM AUC within a step kind {metrics['mprm/auc_within_kind']:.3f}"
                f" (plain {metrics['mprm/auc_plain']:.3f}, step index alone {metrics['mprm/auc_index_only']:.3f})"
            )
        self._held_out = text
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

    def close(self) -> None:
        """Leave the table as it stands."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _table(self) -> Table:
        table = Table(caption=self._held_out or None, caption_justify="left")
        for heading in ("step", *COLUMNS):
            table.add_column(heading, justify="right")
        for row in self._rows:
            table.add_row(*row)
        return table
