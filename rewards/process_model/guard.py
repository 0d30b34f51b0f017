"""The guard of the reward model: an update that makes it worse at telling right steps from wrong ones is taken back.

Judged on held-back annotated rollouts by the area under the ROC curve within each prompt's own group: every step that
the Monte-Carlo counts call right against every step of the same group that they call wrong. How hard a prompt is, and
how far the policy has come, is the same on both sides.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from rewards.files.record_files import (
    SCHEMA,
    annotated_rollouts,
    annotated_table,
    read_table,
    write_table,
)
from rewards.process_model.labels import LabelRule, hard
from rewards.records import Annotated, StepScores
from rewards.seeds import derive_seed

KIND = "held-back rollouts"


@dataclass(frozen=True)
class GroupArea:
    """How well step scores order the steps of each group.

    Attributes:
        area: Share of pairs in the right order, a tie counting half, over all groups; NaN without any pair.
        pairs: Pairs of a right and a wrong step of one group.
    """

    area: float
    pairs: int


def group_area(annotated: Sequence[Annotated], scores: Sequence[StepScores], label_rule: LabelRule = hard) -> GroupArea:
    """The area under the ROC curve within groups; each pair of steps counts the same, missing steps count for nothing.

    From rank sums (Mann and Whitney 1947), group by group.
    """
    steps: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for entry, scored in zip(annotated, scores, strict=True):
        steps[entry.rollout.group] += zip(label_rule(entry.counts), scored.scores, strict=True)
    ordered, pairs = 0.0, 0
    for group in steps.values():
        label, score = np.array(group).reshape(-1, 2).T
        known = ~np.isnan(label)
        right = label[known] >= 0.5
        ranks = rankdata(score[known])
        positives, negatives = int(right.sum()), int((~right).sum())
        ordered += float(ranks[right].sum()) - positives * (positives + 1) / 2
        pairs += positives * negatives
    return GroupArea(ordered / pairs if pairs else float("nan"), pairs)


class HeldBack:
    """Annotated rollouts that no reward model learns from: the newest ones of a share of the groups.

    A group is held back as a whole, since its rollouts share their beginnings.

    Args:
        share: Share of the groups to hold back, in [0, 1).
        capacity: Most rollouts; the oldest go first.
        seed: Decides which groups.
    """

    def __init__(self, share: float, capacity: int, seed: int) -> None:
        self._share, self._seed = share, seed
        self._entries: deque[Annotated] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> list[Annotated]:
        """What is held back, oldest first."""
        return list(self._entries)

    def split(self, annotated: Iterable[Annotated]) -> list[int]:
        """Keep the rollouts of held-back groups; gives the places of the others, which may be learned from."""
        rest = []
        for place, entry in enumerate(annotated):
            if derive_seed(self._seed, "hold back", entry.rollout.group) % 10_000 < self._share * 10_000:
                self._entries.append(entry)
            else:
                rest.append(place)
        return rest

    def save(self, path: Path) -> None:
        """Write what is held back as Parquet."""
        write_table(annotated_table(self.entries()), path)

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            ValueError: The file is missing, damaged, or something else.
        """
        table = read_table(path, SCHEMA, KIND)
        self._entries.clear()
        try:
            self._entries.extend(annotated_rollouts(table))
        except ValueError as error:
            raise ValueError(f"{path}: holds no {KIND}: {error}") from None
