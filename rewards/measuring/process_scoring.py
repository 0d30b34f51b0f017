"""A process reward model on a benchmark: its solutions as prompts and rollouts, scored, and the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

import numpy as np

from rewards.files.images import UnreadableImageError, load_images
from rewards.measuring.process_benchmark import Bench, BenchmarkError, Solution
from rewards.measuring.process_report import ProcessReport, Threshold, make_report
from rewards.measuring.process_scores import ScoredSolution
from rewards.models.encoding import Encoder
from rewards.models.rollout_of_steps import rollout_of_steps
from rewards.records import Prompt, Rollout, StepScores

Score = Callable[[Sequence[Prompt], Sequence[Rollout]], Sequence[StepScores]]
"""What scores rollouts: `rewards.process_model.mprm.MPRM.score`, wherever it runs."""

CHUNK = 32
"""Solutions whose images are in memory at once."""


def evaluate_process_benchmark(
    bench: Bench,
    solutions: Sequence[Solution],
    encoder: Encoder,
    score: Score,
    separator: str = "\n",
    threshold: Threshold | None = None,
) -> ProcessReport:
    """Score all solutions and report.

    Args:
        bench: Whose metrics.
        solutions: From `rewards.measuring.process_benchmark.read_benchmark`.
        encoder: Of the model that scores; its markers tell the kinds of steps.
        score: Scores prompts and rollouts.
        separator: Text that ends a step.
        threshold: 0.5 if not given.

    Raises:
        BenchmarkError: A solution cannot be read by this model, an image is broken, or a score is no number.
    """
    scored: list[ScoredSolution] = []
    for first in range(0, len(solutions), CHUNK):
        chunk = solutions[first : first + CHUNK]
        scored += score_solutions(chunk, as_rollouts(chunk, encoder, separator), score)
    return make_report(bench, scored, threshold or Threshold())


def as_rollouts(solutions: Sequence[Solution], encoder: Encoder, separator: str) -> list[Rollout]:
    """The solutions in the tokens of a model, each step ended by the separator.

    Raises:
        BenchmarkError: The model has no tokens for a step, or takes a text for an image; names the solution.
    """
    rollouts = []
    for solution in solutions:
        response = separator.join(solution.steps)
        try:
            rollouts.append(
                rollout_of_steps(
                    solution.place, solution.question, solution.steps, encoder, separator, closed=True, text=response
                )
            )
        except ValueError as error:
            raise BenchmarkError(f"{solution.place}: {error}") from None
    return rollouts


def score_solutions(solutions: Sequence[Solution], rollouts: Sequence[Rollout], score: Score) -> list[ScoredSolution]:
    """The solutions with the model's scores; their images are loaded meanwhile.

    Raises:
        BenchmarkError: An image is broken, or a score is no number; names the solution.
    """
    scored = []
    prompts = [_prompt(solution) for solution in solutions]
    for solution, rollout, found in zip(solutions, rollouts, score(prompts, rollouts), strict=True):
        if not all(map(isfinite, found.scores)):
            raise BenchmarkError(f"{solution.place}: the model's scores are no numbers: {found.scores.tolist()}")
        kinds = tuple(span.kind for span in rollout.steps)
        scored.append(ScoredSolution(solution.source, solution.problem, np.array(solution.labels), found.scores, kinds))
    return scored


def _prompt(solution: Solution) -> Prompt:
    try:
        images = load_images(solution.images)
    except UnreadableImageError as error:
        raise BenchmarkError(f"{solution.place}: {error}") from None
    return Prompt(solution.place, solution.source, solution.question, images, answer="")
