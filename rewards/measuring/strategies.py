"""Test-time strategies as pure functions: which of a prompt's sampled answers to give, and how often that is right.

A strategy that needs no search chooses among the first N of a pool of samples:

    pass               any right one counts: the ceiling of every choice (pass@k, arXiv 2107.03374, equation 1)
    majority           the most frequent answer (self-consistency, arXiv 2203.11171)
    best_of_n_RULE     the highest score; a solution's score is the mean, min, product, last or max of its step scores
    weighted_majority  the answer with the highest sum of (mean) scores
    step_aggregation   the highest mean of step scores (VL-PRM, arXiv 2509.23250): best_of_n_mean by its name there
    one_shot           the highest score of the whole solution judged as a single step (VL-PRM)

Two more sample in their own way: ``greedy`` (one answer at temperature 0) and ``guided_greedy`` (VL-PRM: sample N next
steps, keep the best-scored one, repeat; see `rl.evaluating.guided_search`). Equal scores, and equal numbers of votes,
go to what was sampled first. An outcome model's score is that of a solution with one step, so that all rules agree on
it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb
from typing import Literal, get_args

import numpy as np

Strategy = Literal[
    "greedy",
    "pass",
    "majority",
    "best_of_n_mean",
    "best_of_n_min",
    "best_of_n_product",
    "best_of_n_last",
    "best_of_n_max",
    "weighted_majority",
    "step_aggregation",
    "one_shot",
    "guided_greedy",
]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
WITHOUT_JUDGE: frozenset[Strategy] = frozenset({"greedy", "pass", "majority"})
OF_THEIR_OWN: frozenset[Strategy] = frozenset({"greedy", "guided_greedy"})

AGGREGATIONS: dict[str, Callable[[np.ndarray], float]] = {
    "mean": lambda scores: float(scores.mean()),
    "min": lambda scores: float(scores.min()),
    "product": lambda scores: float(scores.prod()),
    "last": lambda scores: float(scores[-1]),
    "max": lambda scores: float(scores.max()),
}


def aggregate(step_scores: Sequence[float], rule: str) -> float:
    """One score of a solution from those of its steps; 0, the lowest, where it has no steps: nothing speaks for it.

    >>> [round(aggregate([0.9, 0.5, 0.8], rule), 2) for rule in AGGREGATIONS]
    [0.73, 0.5, 0.36, 0.8, 0.9]
    """
    return AGGREGATIONS[rule](np.asarray(step_scores, float)) if len(step_scores) else 0.0


def rule_of(strategy: Strategy) -> str:
    """How a strategy that chooses by step scores aggregates them."""
    return strategy.removeprefix("best_of_n_") if strategy.startswith("best_of_n_") else "mean"


def vote(answers: Sequence[str | None], weights: Sequence[float] | None = None) -> int:
    """The first sample with the answer that has the most votes, or the largest sum of weights.

    A sample without an answer (None) has no vote; where none has one, the first sample is it.

    >>> vote(["7", "4", None, "4"]), vote(["7", "4", None, "4"], [0.9, 0.3, 1.0, 0.4]), vote(["7", "4"])
    (1, 0, 0)
    """
    totals: dict[str, float] = {}
    for answer, weight in zip(answers, [1.0] * len(answers) if weights is None else weights, strict=True):
        if answer is not None:
            totals[answer] = totals.get(answer, 0.0) + weight
    return answers.index(max(totals, key=totals.__getitem__)) if totals else 0


def choose(strategy: Strategy, answers: Sequence[str | None], scores: Sequence[float]) -> int:
    """Which of N samples a strategy gives, by their answers and their scores (empty for ``majority``)."""
    if strategy == "majority":
        return vote(answers)
    if strategy == "weighted_majority":
        return vote(answers, scores)
    return int(np.argmax(scores))


def pass_rate(right: Sequence[bool], n: int) -> float:
    """pass@n: the chance that n of the samples, drawn without replacement, hold a right one.

    1 - C(M - c, n) / C(M, n) for c right ones of M: unbiased whatever M is (arXiv 2107.03374, equation 1).

    >>> pass_rate([True, False, False, False], 2)
    0.5
    """
    return 1 - comb(len(right) - sum(right), n) / comb(len(right), n)


def accuracy_at(
    n: int, strategy: Strategy, right: Sequence[bool], answers: Sequence[str | None], scores: Sequence[float]
) -> float:
    """How often a strategy is right with n samples, from a pool of M of them, M at least n.

    The mean over the M // n disjoint runs of n neighbours in the pool. So all n use the same samples, which pairs the
    points of a curve, and the points with a small n, most of whose samples would lie idle, vary less.
    """
    if strategy == "pass":
        return pass_rate(right, n)
    runs = [slice(start, start + n) for start in range(0, len(right) - n + 1, n)]
    return float(np.mean([right[run][choose(strategy, answers[run], scores[run])] for run in runs]))
