"""Runs side by side: what each came to, which settings differ, and where the time went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rl.config import Config
from rl.instruments.report.runs import Run
from rl.monitoring.metric_table import METRICS

STAGES = ("rollout", "score", "credit", "annotate", "judge", "select", "teach", "learn", "sync")
NOT_MEASURED = "—"


@dataclass(frozen=True)
class ReportTable:
    """Text in rows; the first column names the row.

    Attributes:
        columns: Their titles.
        rows: As many texts each as there are columns.
    """

    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Stage:
    """What the controller waited for: mean seconds of a policy step, and their share of it."""

    name: str
    what: str
    seconds: float
    share: float


def final_numbers(runs: Sequence[Run]) -> ReportTable:
    """A row a run: what it came to; columns that no run can fill are left out."""
    texts = {title: [text(run) for run in runs] for title, text in _FINAL.items()}
    columns = [title for title in texts if any(texts[title])]
    rows = [[run.name, *(texts[title][place] or NOT_MEASURED for title in columns)] for place, run in enumerate(runs)]
    return ReportTable(["run", *columns], rows)


def settings_table(runs: Sequence[Run]) -> ReportTable:
    """Of several runs, the settings in which they differ; of one, those in which it differs from the defaults."""
    settings = [_flat(run.config) for run in runs]
    others = settings if len(runs) > 1 else [_flat(Config()), *settings]
    keys = [key for key in settings[0] if key != "output_dir" and len({str(each[key]) for each in others}) > 1]
    columns = ["setting", *(run.name for run in runs)] if len(runs) > 1 else ["setting", "default", runs[0].name]
    return ReportTable(columns, [[key, *(_written(each[key]) for each in others)] for key in keys])


def stages(run: Run) -> list[Stage]:
    """Where the controller's time went, in the order of the loop; what no stage claims comes last."""
    rows = [row for row in run.rows if "perf/step_seconds" in row]
    if not rows:
        return []
    whole = sum(row["perf/step_seconds"] for row in rows)
    found = []
    for name in STAGES:
        metric = f"perf/{name}_seconds"
        seconds = sum(row.get(metric, 0.0) for row in rows)
        found.append(Stage(name, METRICS[metric][0], seconds / len(rows), seconds / whole if whole else 0.0))
    rest = max(0.0, 1 - sum(stage.share for stage in found))
    return [*found, Stage("other", "everything between the stages", rest * whole / len(rows), rest)]


def _flat(section: Any, prefix: str = "") -> dict[str, Any]:
    """Every setting under its full name."""
    if isinstance(section, Config):
        section = section.model_dump(mode="json")
    flat: dict[str, Any] = {}
    for key, value in section.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat


def _written(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _steps(run: Run) -> str:
    return f"{run.step:,} of {run.config.steps:,}" + ("" if run.step >= run.config.steps else ", unfinished")


def _change(metric: str, error: str | None = None) -> Callable[[Run], str]:
    """From the first value to the last one, with its standard error, if there is a metric of it."""

    def text(run: Run) -> str:
        values, errors = _values(run, metric), _values(run, error) if error else []
        if not values:
            return ""
        return f"{values[0]:.3f} → {values[-1]:.3f}" + (f" ± {errors[-1]:.3f}" if errors else "")

    return text


def _points(run: Run) -> str:
    values = _values(run, "policy/accuracy")
    return f"{100 * (values[-1] - values[0]):+.1f}" if len(values) > 1 else ""


def _last(metric: str, form: str) -> Callable[[Run], str]:
    def text(run: Run) -> str:
        values = _values(run, metric)
        return format(values[-1], form) if values else ""

    return text


def _sum(metric: str, scale: float, form: str) -> Callable[[Run], str]:
    def text(run: Run) -> str:
        values = _values(run, metric)
        return format(sum(values) / scale, form) if values else ""

    return text


def _memory(run: Run) -> str:
    return "" if run.peak_memory is None else f"{run.peak_memory:.1f}"


def _values(run: Run, metric: str) -> list[float]:
    return [value for _, value in run.measured(metric)]


_FINAL: Mapping[str, Callable[[Run], str]] = {
    "policy steps": _steps,
    "held-out accuracy": _change("policy/accuracy"),
    "points": _points,
    "AUC within a step kind, by errors": _change("mprm/auc_weighted", "mprm/auc_standard_error"),
    "AUC of reasoning steps": _change("mprm/auc_weighted_reasoning", "mprm/auc_standard_error_reasoning"),
    "AUC, kinds alike": _change("mprm/auc_within_kind"),
    "macro-F1, perception": _last("mprm/macro_f1_perception", ".3f"),
    "macro-F1, reasoning": _last("mprm/macro_f1_reasoning", ".3f"),
    "rollouts labelled": _last("selection/seen", ",.0f"),
    "share kept": _last("selection/kept", ".2f"),
    "label tokens": _sum("annotation/tokens", 1, ",.0f"),
    "minutes of policy steps": _sum("perf/step_seconds", 60, ".1f"),
    "peak GiB": _memory,
}
