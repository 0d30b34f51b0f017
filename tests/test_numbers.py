"""The tables of docs/studies.md say what the cells in docs/numbers say."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from rl.instruments.study.tables import signed
from tests.fixtures.runs import ROOT

Cells = dict[str, dict[int, dict[str, str]]]
STUDIES = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
ACCURACY, OVER_THE_RUN = "policy/accuracy", "area/policy/accuracy"
"""Of training runs; the twin's are exact."""


def cells(study: str) -> Cells:
    """By arm and seed."""
    found: Cells = defaultdict(dict)
    with (ROOT / "docs" / "numbers" / f"{study}.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[row["combination"]][int(row["seed"])] = row
    return found


def written(value: float, digits: int) -> str:
    return signed(value, digits) if round(value, digits) else f"{0:.{digits}f}"


def difference(found: Cells, arm: str, baseline: str, outcome: str, unit: float = 100, digits: int = 1) -> str:
    """An arm minus its baseline, as the tables have it: mean and 95 % t interval over the seeds that both have."""
    seeds = sorted(found[arm].keys() & found[baseline].keys())
    gained = unit * np.array([float(found[arm][s][outcome]) - float(found[baseline][s][outcome]) for s in seeds])
    half = stats.t.ppf(0.975, len(gained) - 1) * gained.std(ddof=1) / np.sqrt(len(gained))
    mean, low, high = (written(value, digits) for value in (gained.mean(), gained.mean() - half, gained.mean() + half))
    return f"{mean} ({low} to {high})"


def told() -> Iterator[tuple[str, str, str, str]]:
    """Study, arm, baseline and outcome of differences that a table has in points."""
    for study in ("tokens", "beliefs_tokens"):
        arms = [arm for arm, seeds in cells(study).items() if len(seeds) >= 5 and arm != "outcome-only"]
        yield from ((study, arm, "outcome-only", name) for arm in arms for name in (ACCURACY, OVER_THE_RUN))
    loop = cells("beliefs_loop")
    yield from (
        ("beliefs_loop", a, "outcome-only", n) for a in loop if a != "outcome-only" for n in (ACCURACY, OVER_THE_RUN)
    )
    pairs = (
        ("bis", "random"),
        ("bis_posterior", "random"),
        ("bis_posterior", "bis"),
        ("bis", "all"),
        ("all", "random"),
        ("all", "frozen"),
    )
    yield from (("beliefs_loop", arm, baseline, name) for arm, baseline in pairs for name in (ACCURACY, OVER_THE_RUN))
    for arm in cells("twin").keys() - {"outcome-only"}:
        yield from (("twin", arm, "outcome-only", name) for name in ("exact_accuracy", "area/exact_accuracy"))
    for arm in cells("twin_accuracy"):
        credit, given = arm.split(",")
        if credit != "credit=outcome":
            yield "twin_accuracy", arm, f"credit=outcome,{given}", "exact_accuracy"
    for arm in cells("twin_selection"):
        selector, _, rest = arm.partition(",")
        for baseline in {"selector=bis": ["random"], "selector=uncertain": ["random", "bis"]}.get(selector, []):
            yield "twin_selection", arm, f"selector={baseline},{rest}", "exact_accuracy"


@pytest.mark.parametrize(("study", "arm", "baseline", "outcome"), sorted(told()))
def test_a_difference_in_points_is_in_a_table(study: str, arm: str, baseline: str, outcome: str) -> None:
    assert f"| {difference(cells(study), arm, baseline, outcome)} |" in STUDIES


@pytest.mark.parametrize(
    "arm", [arm for arm in cells("twin_selection") if arm.startswith(("selector=bis,", "selector=un"))]
)
def test_a_difference_in_area_is_in_a_table(arm: str) -> None:
    baseline = f"selector=random,{arm.partition(',')[2]}"
    said = difference(cells("twin_selection"), arm, baseline, "area/mprm/auc_weighted_reasoning", 1, 3)
    assert f"| {said} |" in STUDIES
