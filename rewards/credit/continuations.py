"""What a policy learns from the continuations of its own rollouts, which were sampled and judged for the labels' sake.

A continuation from a step's end is a fresh sample of the policy, given the prompt and the rollout so far, its prefix.
With r_i its verdict and y_i its tokens, the gradient of the chance V of a right answer from that prefix on is

    grad V = E[(r_i - b_i) grad log pi(y_i | prefix)]

for every baseline b_i that is fixed before y_i is drawn. The rollout's own outcome o, a sample of the same kind, is
known by then. What else is known depends on the budget:

- `fixed` asks for n samples whatever comes of them. Each is independent of all others, so its baseline may be the mean
  of all others, o included: b_i = (o + sum_{j != i} r_j) / n.
- `first_success`, `sequential`, a triage and a search for the first error choose by the verdicts so far whether to
  sample on. That a further sample is there then says how those before it came out, which the baseline above makes use
  of. What is known *before* y_i is drawn, that it will be drawn included, is independent of it:
  b_i = (o + sum_{j < i} r_j) / i. Each (r_i - b_i) grad log pi then has the mean grad V given all before it, and by
  Wald's identity

      E[sum_{i <= T} (r_i - b_i) grad log pi(y_i | prefix)] = E[T] grad V,

  the gradient of V times how often, on average, the prefix is sampled from. (Since verdicts alone decide when to stop,
  the first baseline has the right direction, too, but at each prefix another length, which depends on V.)

All of this is of samples that end. One that was cut off has no verdict and is left out, as is the outcome of such a
rollout, and then the baseline is more than a matter of variance: what is followed is, about, the chance of a right
answer among those that end, and not V.

The prefix's tokens are read, and learned from in the rollout alone, with its own advantages.

Known before: VinePPO (arXiv 2410.01679) estimates step values by continuations, SPO (2505.23564) those of segments,
TreeRL (2506.11902) and tree-GRPO (2509.21240) train on all leaves of a tree whose shape is fixed in advance. Here the
samples are those that a reward model's labels took, under budgets that stop early.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewards.credit.comparison import Comparison, group_centred


def continuation_advantages(verdicts: Sequence[float], outcome: float | None, stops_early: bool) -> np.ndarray:
    """The advantage r_i - b_i of each of n continuations of one prefix, in the order in which they were asked for; 0 of
    what has no other to be compared with.

    Args:
        verdicts: r (n,).
        outcome: o, of the rollout; None if it was cut off.
        stops_early: Whether the number of samples depended on their verdicts.

    >>> continuation_advantages([1, 0, 0, 1], outcome=0, stops_early=False).tolist()
    [0.75, -0.5, -0.5, 0.75]
    >>> continuation_advantages([0, 0, 1], outcome=1, stops_early=True).round(2).tolist()
    [-1.0, -0.5, 0.67]
    >>> continuation_advantages([1, 0, 1], outcome=None, stops_early=True).tolist()
    [0.0, -1.0, 0.5]
    """
    right = np.asarray(verdicts, dtype=float)
    others = np.cumsum(right) - right if stops_early else right.sum() - right
    number = np.arange(len(right)) if stops_early else np.full(len(right), len(right) - 1)
    if outcome is not None:
        others, number = others + outcome, number + 1
    return np.where(number > 0, right - others / np.maximum(number, 1), 0.0)


def comparison_scale(comparison: Comparison, rewards: np.ndarray, groups: np.ndarray) -> float:
    """By how much a comparison stretches what rewards of one group differ by, in the mean over a batch: what puts
    advantages of continuations in its units. 1 where no group is mixed.

    >>> from rewards.credit.comparison import leave_one_out
    >>> comparison_scale(leave_one_out, np.array([1.0, 0.0, 0.0, 0.0]), np.array([3, 3, 4, 4]))
    2.0
    """
    # A comparison with the whole batch also says how groups differ from one another.
    compared = np.linalg.norm(group_centred(comparison(rewards, groups), groups))
    centred = np.linalg.norm(group_centred(rewards, groups))
    return float(compared / centred) if centred > 0 else 1.0
