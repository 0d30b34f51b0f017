"""Held-out evaluation: is the policy better, and does the reward model tell right steps from wrong ones?

The only place where true step labels are looked at. What it returns goes to the monitor and nowhere else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.measuring.by_kind import discrimination_by_kind, step_kinds
from rewards.measuring.evaluation import StepDiscrimination, step_discrimination
from rewards.records import Prompt, Rollout, StepScores
from rl.config import Config
from rl.parts import Parts
from rl.rollouts import make_rollouts, rollout_requests
from rl.tasks.task import KnowsSteps


@dataclass(frozen=True)
class Evaluation:
    """What held-out prompts say about policy and MPRM at one moment.

    Attributes:
        accuracy: Share of right answers, at the training temperature; dropped ones count as wrong.
        by_source: The same for each source.
        so_far: How the MPRM's scores tell steps that are right, after only right ones, from the others; None where the
            task does not know the truth of steps.
        own: The same against whether each step is right on its own.
        by_kind: Area and macro-F1 so far over perception steps alone, and over reasoning steps alone.
    """

    accuracy: float
    by_source: dict[str, float]
    so_far: StepDiscrimination | None
    own: StepDiscrimination | None
    by_kind: dict[str, dict[str, float]]

    def metrics(self) -> dict[str, float]:
        """As named scalars for the monitor."""
        values = {"policy/accuracy": self.accuracy}
        values |= {f"policy/accuracy/{source}": accuracy for source, accuracy in self.by_source.items()}
        if self.so_far is not None and self.own is not None:
            values |= {
                "mprm/auc_within_kind": self.so_far.within_kind,
                "mprm/auc_plain": self.so_far.plain,
                "mprm/auc_index_only": self.so_far.index_only,
                "mprm/auc_within_kind_own": self.own.within_kind,
            }
        for kind, measures in self.by_kind.items():
            values |= {f"mprm/{measure}_{kind}": value for measure, value in measures.items()}
        return values


def evaluate(config: Config, parts: Parts) -> Evaluation:
    """Sample answers to the held-out prompts, always the same ones with the same seeds, and score their steps."""
    prompts = [parts.task.prompt("heldout", index) for index in range(config.evaluation.prompts)]
    requests = rollout_requests(prompts, config.evaluation.samples, config.seed, "heldout")
    rollouts = make_rollouts(prompts, parts.engines.sample(requests).result(), parts.encoder, parts.verifier)
    asked = [prompts[rollout.group] for rollout in rollouts]
    outcomes: dict[str, list[float]] = defaultdict(list)
    for rollout in rollouts:
        outcomes[rollout.source].append(rollout.outcome)
    so_far = own = None
    by_kind: dict[str, dict[str, float]] = {}
    if isinstance(parts.task, KnowsSteps):
        scores = parts.mprm.call("score", asked, rollouts)
        so_far, own, by_kind = _against_truth(parts.task, parts, asked, rollouts, scores)
    return Evaluation(
        accuracy=sum(rollout.outcome for rollout in rollouts) / (len(prompts) * config.evaluation.samples),
        by_source={source: float(np.mean(values)) for source, values in sorted(outcomes.items())},
        so_far=so_far,
        own=own,
        by_kind=by_kind,
    )


def _against_truth(
    task: KnowsSteps,
    parts: Parts,
    prompts: Sequence[Prompt],
    rollouts: Sequence[Rollout],
    scores: Sequence[StepScores],
) -> tuple[StepDiscrimination, StepDiscrimination, dict[str, dict[str, float]]]:
    flat: list[float] = []
    kinds: list[str] = []
    so_far: list[bool] = []
    own: list[bool] = []
    for prompt, rollout, scored in zip(prompts, rollouts, scores, strict=True):
        steps = [parts.encoder.decode(rollout.token_ids[span.start : span.end]).strip() for span in rollout.steps]
        truths = task.step_truth(prompt, steps)
        flat.extend(scored.scores)
        kinds.extend(truth.kind for truth in truths)
        so_far.extend(truth.so_far for truth in truths)
        own.extend(truth.own for truth in truths)
    by_kind = discrimination_by_kind(step_kinds(rollouts).tolist(), flat, so_far, positions=kinds)
    return step_discrimination(flat, so_far, kinds), step_discrimination(flat, own, kinds), by_kind
