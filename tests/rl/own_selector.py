"""A user's own selector: many steps and full pictures first."""

from __future__ import annotations

import numpy as np

from selection.candidates import Candidates


class LongAndFull:
    looks_at_images = True

    def __call__(self, candidates: Candidates) -> np.ndarray:
        assert candidates.complexity is not None and candidates.step_scores is not None
        labelled = candidates.per_rollout(candidates.sampled > 0)
        return np.where(labelled > 0, candidates.lengths * candidates.complexity, np.nan)


def failing(candidates: Candidates) -> np.ndarray:
    raise RuntimeError("no idea\nwhat is informative")


def misshapen(candidates: Candidates) -> np.ndarray:
    return np.ones(len(candidates) + 1)
