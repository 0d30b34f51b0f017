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
TABLES = {
    "tokens": "### Do labels pay for themselves? (`tokens`",
    "beliefs_loop": "### And where errors are beliefs? (`beliefs_loop`",
    "beliefs_rules": "### Which credit rule? (`beliefs_rules`",
    "beliefs_tokens": "### And do they where errors are beliefs? (`beliefs_tokens`",
    "twin": "## The twin",
    "twin_accuracy": "### How good must the reward model be? (`twin_accuracy`",
    "twin_selection": "### Where does the choice of rollouts matter? (`twin_selection`",
}
"""The heading that the table of a study stands under."""
ROWS = {
    "tokens": {
        "more-rollouts": "outcome only, more rollouts",
        "labels": "labels, `progress`",
        "few-labels": "few labels: of 15 % of the rollouts, not 40",
        "rollouts-for-few-labels": "outcome only, as many more rollouts: 26 prompts a step",
        "continuations": "labels, and [continuations](learner.md#continuations) teach the policy",
    },
    "beliefs_loop": {
        "all": "all labels, `progress`",
        "frozen": "the same, frozen from the start",
        "random": "`random`, a quarter kept",
        "bis": "`bis`, a quarter",
        "bis_posterior": "`bis_posterior`, a quarter",
    },
    "beliefs_rules": {
        "progress": "`progress`",
        "min_form": "`min_form`",
        "additive": "`additive`",
        "random,-a-tenth": "`random`, a tenth kept",
        "bis,-a-tenth": "`bis`, a tenth",
        "triage": "`triage`",
    },
    "beliefs_tokens": {
        "more-rollouts": "outcome only, more rollouts",
        "labels": "labels, `progress`",
        "difficulty": "outcome only, prompts by `difficulty`",
    },
    "twin": {
        "all": "all labels, `progress`",
        "all,-cold": "the same, cold",
        "all,-frozen": "the same, frozen after the warm start",
        "min_form": "`min_form`",
        "additive": "`additive`",
        "random-25-": "`random`, a quarter kept",
        "bis-25-": "`bis`, a quarter",
        "bis_posterior-25-": "`bis_posterior`, a quarter",
        "random-10-": "`random`, a tenth",
        "bis-10-": "`bis`, a tenth",
        "bis_posterior-10-": "`bis_posterior`, a tenth",
    },
}
"""The first cell of an arm's row, for the arms that a table compares with outcome only."""
TENTHS = {"random,-a-tenth": "`random`, a tenth", "bis,-a-tenth": "`bis`, a tenth"}
PAIRS = (
    *(("beliefs_loop", arm, "random") for arm in ("bis", "bis_posterior", "all")),
    *(("beliefs_loop", "bis_posterior", "bis"), ("beliefs_loop", "bis", "all"), ("beliefs_loop", "all", "frozen")),
    *(("beliefs_rules", arm, "progress") for arm in ("min_form", "additive", *TENTHS, "triage")),
    ("beliefs_rules", "bis,-a-tenth", "random,-a-tenth"),
)
"""Study and arms that a table compares with one another."""
NAMES = {"all": "all labels", "frozen": "frozen"} | TENTHS
"""Of arms that are compared with one another, where they are not what the study calls them."""
GRID = [(ratio, rate) for ratio in (0.05, 0.1, 0.25, 0.5) for rate in (0.02, 0.05, 0.1)]
"""Keep ratio and policy rate of the rows of `twin_selection`."""


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


def rows(study: str) -> list[list[str]]:
    """The cells of all rows under the heading of a study, up to the next one."""
    section = STUDIES.partition(TABLES[study])[2].partition("\n##")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]


def compared(arm: str, baseline: str) -> str:
    """The first cell of a row of two arms."""
    return " minus ".join(NAMES.get(name, f"`{name}`") for name in (arm, baseline))


def told() -> Iterator[tuple[str, str, str, str, str]]:
    """Study, row, arm, baseline and outcome of differences that a table has in points."""
    for study, arms in ROWS.items():
        names = ("exact_accuracy", "area/exact_accuracy") if study == "twin" else (ACCURACY, OVER_THE_RUN)
        yield from ((study, row, arm, "outcome-only", name) for arm, row in arms.items() for name in names)
    for study, arm, baseline in PAIRS:
        row = compared(arm, baseline)
        yield from ((study, row, arm, baseline, name) for name in (ACCURACY, OVER_THE_RUN))
    for arm in cells("twin_accuracy"):
        credit, given = arm.split(",")
        if credit != "credit=outcome":
            row = f"{float(given.partition('=')[2]):.2f}"
            yield "twin_accuracy", row, arm, f"credit=outcome,{given}", "exact_accuracy"


@pytest.mark.parametrize("study", ROWS)
def test_every_arm_of_five_seeds_has_a_row(study: str) -> None:
    resolved = {arm for arm, seeds in cells(study).items() if len(seeds) >= 5}
    assert resolved == ROWS[study].keys() | {"outcome-only"}


@pytest.mark.parametrize(("study", "row", "arm", "baseline", "outcome"), sorted(told()))
def test_a_difference_in_points_is_in_its_row(study: str, row: str, arm: str, baseline: str, outcome: str) -> None:
    """And in its column: of the end before of the run, and of the twin's rules in their order."""
    said = difference(cells(study), arm, baseline, outcome)
    (found,) = [cells for cells in rows(study) if cells[0] == row]
    differences = [cell for cell in found if " to " in cell]
    if study == "twin_accuracy":
        assert differences[["progress", "min_form", "additive"].index(arm.split("=")[1].split(",")[0])] == said
    else:
        assert differences[outcome.startswith("area/")] == said


@pytest.mark.parametrize(("place", "ratio", "rate"), [(place, *grid) for place, grid in enumerate(GRID)])
def test_a_row_of_the_choice_of_rollouts_is_of_its_ratio_and_rate(place: int, ratio: float, rate: float) -> None:
    found = cells("twin_selection")

    def arm(selector: str) -> str:
        return f"selector={selector},keep_ratio={ratio:g},policy_rate={rate:g}"

    def points(selector: str, baseline: str) -> str:
        return difference(found, arm(selector), arm(baseline), "exact_accuracy")

    def area(selector: str) -> str:
        return difference(found, arm(selector), arm("random"), "area/mprm/auc_weighted_reasoning", 1, 3)

    expected = [*(points("bis", "random"), area("bis")), *(points("uncertain", "random"), area("uncertain"))]
    assert rows("twin_selection")[2 + place][2:] == [*expected, points("uncertain", "bis")]


@pytest.mark.parametrize(("study", "arm", "baseline"), PAIRS)
def test_what_a_reward_model_loses_is_in_its_row(study: str, arm: str, baseline: str) -> None:
    said = difference(cells(study), arm, baseline, "mprm/auc_weighted_reasoning", 1, 3)
    assert [found[-1] for found in rows(study) if found[0] == compared(arm, baseline)] == [said]
