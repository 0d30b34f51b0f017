"""A study's report: tables, figures and every number, from the cells that are finished."""

from __future__ import annotations

import itertools
import shutil
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import numpy as np
import yaml

from rewards.files.whole_file import replacing
from rl.instruments.study.arms import Arm, short_names, text_of
from rl.instruments.study.figures import draw_curves, draw_outcome, levels_text
from rl.instruments.study.findings import Findings
from rl.instruments.study.tables import arms_table, contrast_table, margins_table, write_numbers

REPORT_FILE, FIGURES = "report.md", "figures"
HOW_TO_READ = """Differences are paired: of each seed the arm minus its baseline, which saw the same prompts or the same
recorded run; then their mean. Seeds differ in what is sampled and in how is learned; of tasks whose prompts do not
depend on the seed, such as `grid`, all see the same prompts, so that no interval covers the choice of those. **95 %,
t** is the t interval over pairs, which holds where differences are about normal. **95 %, bootstrap** is the percentile
bootstrap over pairs; with as few as five pairs it is too narrow, and holds the truth in about 84 % of the cases.
**pairs above**: seeds in which the arm is above. **p** is of the paired t test; **p, Holm** is corrected for all rows
of its table, and not for the number of tables. Nothing here says that two arms are equal: an interval says how
different they could be."""


def write_report(findings: Findings, folder: Path, command: str) -> Path:
    """Write ``report.md``, ``figures/``, and every number as in `write_numbers`; gives the report's path.

    Args:
        findings: The cells.
        folder: Of the study.
        command: What makes the study again.

    Raises:
        OSError: It cannot be written.
    """
    shutil.rmtree(folder / FIGURES, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_numbers(findings, folder)
    study = findings.study
    parts = [f"# {study.name}: {study.question}", _state(findings), HOW_TO_READ]
    for outcome in study.outcomes:
        parts += _outcome(findings, outcome, folder)
    for metric, against in itertools.product(study.curves, study.against):
        parts += _curves(findings, metric, against, folder)
    parts += _settings(findings, command)
    report = folder / REPORT_FILE
    text = "\n\n".join(parts) + "\n"
    with replacing(report) as path:
        path.write_text(text, encoding="utf-8")
    return report


def _state(findings: Findings) -> str:
    """What is finished, and what is not."""
    study = findings.study
    lines = [
        f"{findings.finished} of {findings.planned} cells are finished: {len(findings.arms)} arms, "
        f"{len(study.seeds)} seeds, kind `{study.kind}`, Sieve {version('sieve-rl')}."
    ]
    if seconds := findings.seconds:
        lines.append(
            f"A cell took {np.median(seconds):.0f} s (median; {min(seconds):.0f} to {max(seconds):.0f}), all of them "
            f"{timedelta(seconds=round(sum(seconds)))} of one worker's time."
        )
    lines += [f"\n- **failed**: {name}: {cause}" for name, cause in findings.failures.items()]
    return "\n".join(lines)


def _outcome(findings: Findings, outcome: str, folder: Path) -> list[str]:
    """The tables and the figure of one outcome."""
    parts = [f"## {outcome}"]
    if not any(findings.outcome(arm, outcome) for arm in findings.arms):
        return [*parts, f"No cell has this number; there are: {', '.join(findings.measured()) or 'none yet'}."]
    first = short_names(findings.study.factors)[next(iter(findings.study.factors))]
    if margins := margins_table(findings, outcome):
        parts += [f"By `{first}`, averaged over all other factors:", margins]
    for key in findings.study.contrast:
        if contrast := contrast_table(findings, outcome, key):
            one, other = map(text_of, findings.study.contrast[key])
            parts += [f"How much larger the difference is with `{key}` {one} than with {other}:", contrast]
    picture = folder / FIGURES / f"{_file_name(outcome)}.png"
    if draw_outcome(findings, outcome, picture):
        parts.append(f"![{outcome}]({FIGURES}/{picture.name})")
    return [*parts, "Every arm:", arms_table(findings, outcome)]


def _curves(findings: Findings, metric: str, against: str, folder: Path) -> list[str]:
    """The learning curves of one metric: a picture for each combination of the other factors' levels."""
    _, *others = findings.study.factors
    parts = [f"## {metric} against {against}"]
    for levels in itertools.product(*(findings.study.factors[key] for key in others)):
        fixed = dict(zip(others, levels, strict=True))
        arms = _arms_of_curves(findings, findings.arms_with(fixed))
        name = "-".join([_file_name(metric), against, *map(_file_name, map(text_of, levels))])
        title = ", ".join(filter(None, [f"{metric} against {against}", levels_text(findings, fixed)]))
        if draw_curves(findings, metric, against, arms, title, folder / FIGURES / f"{name}.png"):
            parts.append(f"![{title}]({FIGURES}/{name}.png)")
    return parts if len(parts) > 1 else [*parts, f"No cell has {metric} and {against} at the same steps."]


def _arms_of_curves(findings: Findings, arms: list[Arm]) -> list[Arm]:
    """Without the baselines of others, which are drawn there in grey; with them if there is nothing else."""
    baselines = {arm.baseline for arm in findings.arms.values()}
    return [arm for arm in arms if arm.name not in baselines] or arms


def _settings(findings: Findings, command: str) -> list[str]:
    """What was run, and how to run it again."""
    study = findings.study
    settings = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, width=110, default_flow_style=None)
    return [
        "## Every number",
        "`outcomes.csv`: a row a cell. `results.csv` and `results.parquet`: a row a number, at every step.",
        "## Settings",
        f"```yaml\n{settings}```",
        "Again (finished cells are kept; without the folder all are run anew):",
        f"    {command}",
    ]


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in text)
