"""Credit by the rewards of this step and all later ones."""

from __future__ import annotations

import numpy as np

from rewards.credit.batch import ScoredBatch
from rewards.credit.comparison import group_normalised
from rewards.credit.placement import at_step_ends, rewards_to_go


def process(batch: ScoredBatch) -> list[np.ndarray]:
    """GRPO with process supervision (arXiv 2402.03300, section 4.1.3).

    All step scores of a group are normalised together; a token's advantage is the sum over its own step and the later
    ones:

        A_t = sum over steps j that end at t or later of (p_j - mean(p)) / std(p)

    The rule normalises by itself, so that the algorithm's comparison does not matter, and the outcome does not count.
    The tokens after the last step get 0.

    Three scores 0.9, 0.8 and 0.1 have mean 0.6 and sample deviation 0.436, so they become 0.69, 0.46 and -1.15:

    >>> from rewards.credit.examples import example
    >>> [tokens.round(2).tolist() for tokens in process(example(outcomes=[1, 0], scores=[[0.9], [0.8, 0.1]]))]
    [[0.69, 0.0], [-0.69, -1.15, 0.0]]

    Known failure: it is a sum, so whoever writes more steps that score above the mean, or fewer that score below it,
    earns more, whatever the answer: policies learn to pad, or to stop.
    """
    lengths = [len(scores) for scores in batch.scores]
    normalised = group_normalised(np.concatenate([np.zeros(0), *batch.scores]), np.repeat(batch.groups, lengths))
    parts = np.split(normalised, np.cumsum(lengths)[:-1]) if lengths else []
    return [rewards_to_go(at_step_ends(r, part)) for r, part in zip(batch.rollouts, parts, strict=True)]


process.comparison = group_normalised  # type: ignore[attr-defined]
