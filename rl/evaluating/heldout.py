"""Held-out evaluation: is the policy better, and does the reward model tell right steps from wrong ones?

The only place where true step labels are looked at; a recording writes them down besides, for evaluations to come. What
it returns goes to the monitor and nowhere else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.measuring.bootstrap import Interval, bootstrap_means, percentile_interval
from rewards.measuring.by_kind import discrimination_by_kind, step_kinds
from rewards.measuring.discrimination import step_discrimination
from rewards.records import Prompt, Rollout, StepScores
from rl.config import Config
from rl.parts import Parts
from rl.rollouts.making import make_rollouts, rollout_requests
from rl.tasks.task import KnowsSteps, StepTruth, truths_of


@dataclass(frozen=True)
class ScoredSteps:
    """The S steps of all held-out answers, end to end, as the MPRM scored them and as they are.

    Attributes:
        scores: The MPRM's scores (S,).
        so_far: Whether each step is right, after only right ones (S,).
        own: Whether it is right on its own (S,).
        positions: Its kind as the task has it, which fixes its position (S,).
        kinds: Whether it is of perception or of reasoning (S,).
        groups: Which prompt it is about (S,).
    """

    scores: np.ndarray
    so_far: np.ndarray
    own: np.ndarray
    positions: list[str]
    kinds: list[str]
    groups: list[int]

    def metrics(self) -> dict[str, float]:
        """As named scalars for the monitor."""
        so_far = step_discrimination(self.scores, self.so_far, self.positions, self.groups)
        own = step_discrimination(self.scores, self.own, self.positions)
        values = {
            "mprm/auc_weighted": so_far.weighted,
            "mprm/auc_standard_error": so_far.standard_error,
            "mprm/auc_within_kind": so_far.within_kind,
            "mprm/auc_plain": so_far.plain,
            "mprm/auc_index_only": so_far.index_only,
            "mprm/auc_weighted_own": own.weighted,
            "mprm/auc_within_kind_own": own.within_kind,
        }
        scores, right = self.scores.tolist(), self.so_far.tolist()
        by_kind = discrimination_by_kind(self.kinds, scores, right, self.positions, self.groups)
        for kind, measures in by_kind.items():
            values |= {f"mprm/{measure}_{kind}": value for measure, value in measures.items()}
        return values


@dataclass(frozen=True)
class Evaluation:
    """What held-out prompts say about policy and MPRM at one moment.

    Attributes:
        accuracy: Share of right answers, at the training temperature, with a bootstrap interval over prompts, however
            often each is asked; dropped ones count as wrong.
        by_source: The same for each source, of those that were not dropped.
        steps: What is known of their steps; None where the task does not know their truth, or there is no MPRM.
        score: What the verifier says answers are worth, mean; None where it says right or wrong alone.
    """

    accuracy: Interval
    by_source: dict[str, float]
    steps: ScoredSteps | None
    score: float | None = None

    @property
    def finding(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The MPRM's scores of the steps (S,), and which of these are wrong (S,)."""
        return (self.steps.scores, ~self.steps.so_far) if self.steps is not None else None

    def metrics(self) -> dict[str, float]:
        """As named scalars for the monitor."""
        values = {
            "policy/accuracy": self.accuracy.value,
            "policy/accuracy_low": self.accuracy.low,
            "policy/accuracy_high": self.accuracy.high,
        }
        values |= {f"policy/accuracy/{source}": accuracy for source, accuracy in self.by_source.items()}
        values |= {} if self.score is None else {"policy/score": self.score}
        return values | (self.steps.metrics() if self.steps is not None else {})


def evaluate(config: Config, parts: Parts, step: int) -> Evaluation:
    """Sample answers to the held-out prompts, always the same ones with the same seeds, and score their steps.

    They are recorded as of policy step ``step``, where the run is recorded. A task that has fewer begins again.
    """
    prompts = [parts.task.prompt("heldout", index) for index in range(config.evaluation.prompts)]
    requests = rollout_requests(prompts, config.evaluation.samples, config.seed, "heldout")
    rollouts = make_rollouts(prompts, parts.engines.sample(requests).result(), parts.encoder, parts.verifier)
    asked = [prompts[rollout.group] for rollout in rollouts]
    places = {id: place for place, id in enumerate(dict.fromkeys(prompt.id for prompt in prompts))}
    outcomes: dict[str, list[float]] = defaultdict(list)
    for rollout in rollouts:
        outcomes[rollout.source].append(rollout.outcome)
    wanted = parts.recording is not None or isinstance(parts.task, KnowsSteps)
    scores = parts.mprm.call("score", asked, rollouts) if wanted else []
    if parts.recording:
        parts.recording.heldout(step, asked, rollouts, scores)
    steps = None
    if config.mprm.enabled and isinstance(parts.task, KnowsSteps):
        groups = [places[prompt.id] for prompt in asked]
        steps = _scored_steps(parts.task, parts, asked, rollouts, scores, groups)
    return Evaluation(
        accuracy=accuracy(rollouts, [places[prompt.id] for prompt in prompts], config.evaluation.samples),
        by_source={source: float(np.mean(values)) for source, values in sorted(outcomes.items())},
        steps=steps,
        score=_score(rollouts),
    )


def _score(rollouts: Sequence[Rollout]) -> float | None:
    scores = [rollout.score for rollout in rollouts if rollout.score is not None]
    return float(np.mean(scores)) if scores else None


def accuracy(rollouts: Sequence[Rollout], places: Sequence[int], samples: int) -> Interval:
    """Share of right ones of ``samples`` answers of each group, where those that were dropped are wrong; ``places``
    says of each group which of the different prompts it answers, over which the interval is."""
    asked = samples * np.bincount(places)
    where, outcomes = [places[entry.group] for entry in rollouts], [entry.outcome for entry in rollouts]
    right = np.bincount(where, outcomes, minlength=len(asked))
    resampled = bootstrap_means(np.stack([right, asked], axis=1))
    return percentile_interval(float(right.sum() / asked.sum()), resampled[:, 0] / resampled[:, 1])


def _scored_steps(
    task: KnowsSteps,
    parts: Parts,
    prompts: Sequence[Prompt],
    rollouts: Sequence[Rollout],
    scores: Sequence[StepScores],
    groups: Sequence[int],
) -> ScoredSteps:
    truths: list[StepTruth] = []
    for prompt, rollout in zip(prompts, rollouts, strict=True):
        truths += truths_of(task, prompt, rollout, parts.encoder.decode)
    return ScoredSteps(
        scores=np.concatenate([scored.scores for scored in scores]),
        so_far=np.array([truth.so_far for truth in truths], dtype=bool),
        own=np.array([truth.own for truth in truths], dtype=bool),
        positions=[truth.kind for truth in truths],
        kinds=step_kinds(rollouts).tolist(),
        groups=[group for group, rollout in zip(groups, rollouts, strict=True) for _ in rollout.steps],
    )
