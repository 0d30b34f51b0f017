"""How many seeds a difference between arms needs, by the tabular twin: before a day of computing is spent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf, isfinite, nan, sqrt

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from rl.errors import ConfigError
from rl.instruments.replay.measuring import CellResult
from rl.instruments.study.arms import Arm, Cell
from rl.instruments.study.comparison import paired_differences
from rl.instruments.study.study_file import Study
from rl.instruments.study.tables import signed, table
from rl.instruments.study.twin_run import check_twin, run_twin
from rl.monitoring.terminal import progress_bar

LEVEL, POWER = 0.05, 0.8
TWIN_SEEDS = 64
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Prediction:
    """What the twin says of an arm's difference to its baseline in one outcome.

    Attributes:
        outcome, arm, baseline: What is compared.
        difference, spread: Mean and standard deviation of the paired difference over the twin's seeds.
        seeds: How many show a difference of this size in 80 % of the cases (p below 0.05, two-sided, paired t test);
            infinite beyond `MOST_SEEDS`.
        shown: The least difference that the study's own seeds show as often.
    """

    outcome: str
    arm: str
    baseline: str
    difference: float
    spread: float
    seeds: float
    shown: float


def power(effect: float, seeds: int) -> float:
    """How often a paired t test shows a difference of ``effect`` standard deviations.

    >>> round(power(0.5, 34), 2), round(power(0.0, 34), 2)
    (0.81, 0.05)
    """
    edge, centre = stats.t.ppf(1 - LEVEL / 2, seeds - 1), abs(effect) * sqrt(seeds)
    # SciPy gives NaN far out, where the upper tail is all there is.
    tails = stats.nct.sf(edge, seeds - 1, centre), stats.nct.cdf(-edge, seeds - 1, centre)
    return float(np.nan_to_num(tails[0], nan=1.0) + np.nan_to_num(tails[1], nan=0.0))


def seeds_needed(effect: float) -> float:
    """The fewest seeds, two or more, that show an effect in units of the standard deviation; infinite if too many.

    >>> seeds_needed(0.5), seeds_needed(1.0), seeds_needed(0.001)
    (34, 10, inf)
    """
    low, high = 1, 2
    while high <= MOST_SEEDS and power(effect, high) < POWER:
        low, high = high, 2 * high
    if high > MOST_SEEDS and power(effect, MOST_SEEDS) < POWER:
        return inf
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle) >= POWER else (middle, high)
    return high


def effect_shown(seeds: int) -> float:
    """The least effect, in units of the standard deviation, that so many seeds show; infinite for one.

    >>> round(effect_shown(5), 2), round(effect_shown(34), 2)
    (1.68, 0.5)
    """
    return float(brentq(lambda effect: power(effect, seeds) - POWER, 0, 100)) if seeds > 1 else inf


def predict(study: Study, arms: Sequence[Arm], cells: Sequence[Cell]) -> tuple[list[Prediction], dict[str, str]]:
    """Run the twin of every arm that has one, and compare those that have a baseline.

    Returns:
        The predictions, and by name why an arm has no twin.

    Raises:
        ConfigError: The study has no twin, or compares nothing that has one.
    """
    if study.kind == "replay":
        raise ConfigError("--power: a study of replays has no twin; allowed are kinds train and twin")
    if not any(arm.baseline for arm in arms):
        raise ConfigError("--power: baseline is null, so that nothing is compared; allowed is one to compare with")
    first, without = {cell.arm.name: cell for cell in reversed(cells)}, {}
    for name, cell in first.items():
        try:
            check_twin(cell.config, cell.arm.settings)
        except ConfigError as error:
            without[name] = str(error)
    compared = [arm for arm in arms if arm.baseline and not {arm.name, arm.baseline} & without.keys()]
    if not compared:
        name, reason = next(iter(without.items()))
        raise ConfigError(f"--power: {name}: {reason}")
    results: dict[str, list[CellResult]] = {}
    with progress_bar("arms", len(first) - len(without)) as advance:
        for name, cell in first.items():
            if name not in without:
                results[name] = run_twin(cell.config, cell.twin, range(TWIN_SEEDS))
                advance(1)
    found = [_predictions(study, arm, outcome, results) for outcome in study.outcomes for arm in compared]
    return list(chain.from_iterable(found)), without


def _predictions(
    study: Study, arm: Arm, outcome: str, results: Mapping[str, Sequence[CellResult]]
) -> Iterator[Prediction]:
    """One, where the twin has the outcome in both arms."""
    assert arm.baseline is not None
    of, against = (_by_seed(results[name], outcome) for name in (arm.name, arm.baseline))
    differences = np.array(list(paired_differences(of, against).values()))
    if len(differences) < 2:
        return
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    seeds = seeds_needed(mean / spread) if spread else 2 if mean else inf
    shown = spread * effect_shown(len(study.seeds)) if len(study.seeds) > 1 else inf
    yield Prediction(outcome, arm.name, arm.baseline, mean, spread, seeds, shown)


def _by_seed(results: Sequence[CellResult], outcome: str) -> dict[int, float]:
    """Of the seeds in which there is one: an area is NaN where all steps are right."""
    found = {seed: result.final.get(outcome, nan) for seed, result in enumerate(results)}
    return {seed: value for seed, value in found.items() if isfinite(value)}


def power_report(study: Study, predictions: Sequence[Prediction], without: Mapping[str, str]) -> str:
    """The predictions as Markdown tables, one an outcome, and what has none: by arm, why."""
    parts = [
        f"What the tabular twin says, {TWIN_SEEDS} seeds an arm. Seeds: how many show a difference of this size in "
        f"{POWER:.0%} of the cases, p below {LEVEL:g}. The twin's effects are not the loop's: its reward model, a "
        "table, is far better than a network's."
    ]
    hours = 2 * study.cell_seconds / 3600
    heading = ["arm", "against", "difference", "standard deviation", "seeds", "hours of both"]
    heading.append(f"least shown by {len(study.seeds)}")
    for outcome in dict.fromkeys(found.outcome for found in predictions):
        rows = [
            [
                *(found.arm, found.baseline, signed(found.difference, 4), f"{found.spread:.4f}"),
                *(
                    (f"{found.seeds:,.0f}", f"{found.seeds * hours:,.1f}")
                    if isfinite(found.seeds)
                    else (f"over {MOST_SEEDS:,}", "")
                ),
                f"{found.shown:.4f}",
            ]
            for found in predictions
            if found.outcome == outcome
        ]
        parts += [f"## {outcome}", table(heading, rows)]
    if missing := [name for name in study.outcomes if name not in {found.outcome for found in predictions}]:
        parts.append(f"In the twin there is nothing to compare in {', '.join(missing)}.")
    parts += [f"`{name}` has no twin: {reason.partition('; allowed')[0]}." for name, reason in without.items()]
    return "\n\n".join(parts)
