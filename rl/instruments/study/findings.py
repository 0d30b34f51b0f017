"""What the finished cells of a study say together: numbers by arm and seed, and differences to baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rl.instruments.study.arms import Arm
from rl.instruments.study.comparison import paired_differences
from rl.instruments.study.results import Finished
from rl.instruments.study.study_file import Settings, Study, is_level

BySeed = dict[int, float]


@dataclass(frozen=True)
class Findings:
    """The finished cells of a study.

    Attributes:
        study: What was asked.
        arms: All of them, finished or not, by name.
        cells: What is finished, by the arm's name and the seed.
        failures: The causes of what failed, by the cell's name.
    """

    study: Study
    arms: Mapping[str, Arm]
    cells: Mapping[str, Mapping[int, Finished]]
    failures: Mapping[str, str]

    @property
    def planned(self) -> int:
        """How many cells there are to be."""
        return len(self.arms) * len(self.study.seeds)

    @property
    def finished(self) -> int:
        """How many cells there are."""
        return sum(map(len, self.cells.values()))

    @property
    def seconds(self) -> list[float]:
        """What each finished cell took."""
        return [cell.seconds for cells in self.cells.values() for cell in cells.values()]

    def outcome(self, arm: str, outcome: str) -> BySeed:
        """A final number of an arm, by seed; seeds where it was not measured are left out."""
        cells = self.cells.get(arm, {})
        return {seed: cell.result.final[outcome] for seed, cell in cells.items() if outcome in cell.result.final}

    def measured(self) -> list[str]:
        """The names of all final numbers that any cell has."""
        return sorted({name for cells in self.cells.values() for cell in cells.values() for name in cell.result.final})

    def differences(self, arm: Arm, outcome: str) -> BySeed:
        """An arm's final number minus its baseline's, by seed."""
        if arm.baseline is None:
            return {}
        return paired_differences(self.outcome(arm.name, outcome), self.outcome(arm.baseline, outcome))

    def mean_differences(self, levels: Settings, outcome: str) -> BySeed:
        """The mean of `differences` over all arms with these levels, by seed.

        An arm of which nothing is known, or that has no baseline, does not count; a seed that one of the others lacks
        is left out, so that means over different arms are never compared.
        """
        found = [self.differences(arm, outcome) for arm in self.arms_with(levels)]
        return mean_by_seed([by_seed for by_seed in found if by_seed])

    def contrast(self, levels: Settings, key: str, outcome: str) -> tuple[BySeed, BySeed]:
        """The mean of `differences` at either level of a contrast, over the arms with ``levels``, by seed.

        An arm counts where the one that differs from it in this key alone is there, too; and a seed where all have it.
        """
        one, other = self.study.contrast[key]
        pairs = [
            (self.differences(arm, outcome), self.differences(partner, outcome))
            for arm in self.arms_with({**levels, key: one})
            for partner in self.arms_with({**arm.levels, key: other})
        ]
        known = [pair for pair in pairs if all(pair)]
        seeds = set.intersection(*(set(by_seed) for pair in known for by_seed in pair)) if known else set()
        kept = [[{seed: by_seed[seed] for seed in seeds} for by_seed in pair] for pair in known]
        return mean_by_seed([pair[0] for pair in kept]), mean_by_seed([pair[1] for pair in kept])

    def arms_with(self, levels: Settings) -> list[Arm]:
        """The arms that have all of these levels."""
        return [
            arm
            for arm in self.arms.values()
            if all(key in arm.levels and is_level(key, value, arm.levels[key]) for key, value in levels.items())
        ]


def mean_by_seed(values: Sequence[BySeed]) -> BySeed:
    """The mean of several numbers, of the seeds that all of them have."""
    shared = set.intersection(*(set(by_seed) for by_seed in values)) if values else set()
    return {seed: float(np.mean([by_seed[seed] for by_seed in values])) for seed in sorted(shared)}
