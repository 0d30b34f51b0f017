"""Credit by what each step changed in the policy's own chances, as its continuations showed."""

from __future__ import annotations

import numpy as np

from rewards.credit.batch import ScoredBatch
from rewards.credit.comparison import group_centred, group_means
from rewards.process_model.labels import soft
from rewards.records import StepCounts


def state_values(scores: np.ndarray, counts: StepCounts | None) -> np.ndarray:
    """The value of the state after each step (K,): correct / sampled, and the MPRM's score where nothing was sampled.

    >>> state_values(np.array([0.9, 0.4, 0.3]), StepCounts(np.array([3, 0, 0]), np.array([4, 4, 0]), 0)).tolist()
    [0.75, 0.0, 0.3]
    """
    if counts is None:
        return scores
    return np.where(counts.sampled > 0, soft(counts), scores)


def monte_carlo(batch: ScoredBatch, scaled: bool = False) -> list[np.ndarray]:
    """VinePPO (arXiv 2410.01679): the advantage of a step is how much it raised the chance of a right answer.

        A_j = V_j - V_{j-1},   V_0 = mean r_o of the group,   V_j = correct_j / sampled_j,   V_end = r_o

    The tokens from one step's end to the next one's are one action; those after the last step, the answer, are the
    last, and get r_o - V_K. The actions of a rollout sum to r_o - V_0 whatever was counted. The paper samples V_0 anew;
    here the group's outcomes, the rollout's own among them, are its samples. V_0 is the baseline, so that the
    algorithm's comparison does not matter. Of a verifier that gives scores, r_o is the score; V_j stays the chance of a
    right answer.

    Args:
        batch: Its ``counts`` are used where there are any. A rollout or a step without takes the MPRM's scores for V,
            which is right only as far as they are calibrated: an MPRM that says 0.6 where continuations say 0.9 makes a
            jump of 0.3 at each border between the two.
        scaled: Whether advantages are divided by their root mean square over the tokens of the batch. Otherwise they
            stay differences of probabilities, smaller than normalised outcomes, whose size is about 1.

    Two answers, one right: V_0 = 0.5. The first was annotated, 3 and 4 of 4; the second was not, and its MPRM scores
    say 0.5 and 0.1:

    >>> from rewards.credit.examples import example
    >>> batch = example(outcomes=[1, 0], scores=[[0.9, 0.9], [0.5, 0.1]], correct=[[3, 4], None], sampled=4)
    >>> [tokens.round(2).tolist() for tokens in monte_carlo(batch)]
    [[0.25, 0.25, 0.0], [0.0, -0.4, -0.1]]

    Known failure: the continuations cost more than the rollouts, and the few that are affordable are noisy: with n of
    them a V of 0.5 is known to 0.5 / sqrt(n).
    """
    counts = batch.counts or [None] * len(batch.rollouts)
    advantages = []
    starts = group_means(batch.outcomes, batch.groups)
    for rollout, scores, counted, start in zip(batch.rollouts, batch.scores, counts, starts, strict=True):
        length = len(rollout.token_ids)
        ends = [span.end for span in rollout.steps if span.end < length]  # a step that ends the rollout ends in r_o
        values = [start, *state_values(scores, counted)[: len(ends)], rollout.outcome]
        advantages.append(np.repeat(np.diff(values), np.diff([0, *ends, length])))
    everything = np.concatenate([np.zeros(0), *advantages])
    scale = np.sqrt(np.mean(everything**2)) + 1e-6 if scaled and len(everything) else 1.0
    return [tokens / scale for tokens in advantages]


monte_carlo.needs_counts = True  # type: ignore[attr-defined]
monte_carlo.comparison = group_centred  # type: ignore[attr-defined]
