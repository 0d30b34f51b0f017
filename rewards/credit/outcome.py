"""Credit by the answer alone."""

from __future__ import annotations

import numpy as np

from rewards.credit.batch import ScoredBatch


def outcome(batch: ScoredBatch) -> list[np.ndarray]:
    """GRPO (arXiv 2402.03300, section 4.1.2), RLOO, REINFORCE++: the outcome reward, compared, on every token.

        A_t = z(r_o)

    One of two answers is right; the mean is 1/2 and the sample deviation 0.71:

    >>> from rewards.credit.examples import example
    >>> [tokens.round(2).tolist() for tokens in outcome(example(outcomes=[1, 0], scores=[[0.9], [0.8, 0.1]]))]
    [[0.71, 0.71], [-0.71, -0.71, -0.71]]

    Known failure: sparse; a right step in a wrong answer is punished with it, and a group of equal outcomes teaches
    nothing.
    """
    return batch.on_every_token(batch.outcomes)


outcome.needs_scores = False  # type: ignore[attr-defined]
