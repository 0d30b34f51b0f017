"""How the scalars of one policy step are made; `rl.monitoring.metric_table` says what they mean."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from rewards.annotation.annotator import LabelCost
from rewards.annotation.hybrid_labels import Agreement
from rewards.annotation.judge import Judgement
from rewards.measuring.by_kind import KINDS, labels_by_kind, scores_by_kind
from rewards.records import Rollout, StepCounts, StepScores
from rl.monitoring.report import Offer, StepReport
from selection.bis import step_statistics
from selection.candidates import gather_candidates

PACE = ("seconds", "tokens", "flops_utilisation")
"""What the learner says of its step that is not about the policy."""


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those that could be told: an area is NaN where all steps are right, or all wrong."""
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


class StageClock:
    """Seconds spent in each named stage of one policy step; a stage may be entered more than once."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[stage] += time.perf_counter() - start

    def seconds(self, stage: str) -> float:
        """Seconds spent in a stage so far."""
        return self._seconds[stage]

    def metrics(self) -> dict[str, float]:
        """``perf/STAGE_seconds`` for each stage, and ``perf/step_seconds`` since the clock was made."""
        stages = {f"perf/{stage}_seconds": seconds for stage, seconds in self._seconds.items()}
        return stages | {"perf/step_seconds": time.perf_counter() - self._start}


def step_metrics(report: StepReport) -> dict[str, float]:
    """All metrics of a policy step, by their full names."""
    pace, batch, labels, said = report.pace, report.batch, report.labels, report.said
    tokens = batch.tokens + labels.cost.tokens
    labelled, counts = [entry.rollout for entry in labels.annotated], [entry.counts for entry in labels.annotated]
    return (
        pace.stages
        | pace_metrics(pace.stages["perf/step_seconds"], said.policy, pace.busy_seconds, pace.engines, tokens)
        | batch.metrics
        | reward_metrics(batch.rollouts, report.scores, counts, [labels.scores[place] for place in labels.places])
        | group("reward", said.answers)
        | group("reward", {f"model_{name}": value for name, value in said.outcome_model.items()})
        | said.hacking
        | labels.metrics
        | annotation_metrics(labels.cost, counts, labelled)
        | policy_metrics(said.policy)
        | selection_metrics(report.offer)
        | mprm_metrics(said.mprm)
        | pace.run
    )


def group(name: str, values: Mapping[str, float]) -> dict[str, float]:
    """Metrics of one group, under their full names."""
    return {f"{name}/{key}": float(value) for key, value in values.items()}


def policy_metrics(said: Mapping[str, float]) -> dict[str, float]:
    """What the learner says of its step, without what `pace_metrics` tells."""
    return group("policy", {name: value for name, value in said.items() if name not in PACE})


def mprm_metrics(said: Mapping[str, float]) -> dict[str, float]:
    """What the MPRM says of an update, if there was one."""
    pace = {"perf/mprm_update_seconds": said["seconds"]} if "seconds" in said else {}
    return group("mprm", {name: value for name, value in said.items() if name not in PACE}) | pace


def pace_metrics(
    step_seconds: float, said: Mapping[str, float], busy_seconds: float, engines: int, tokens: int
) -> dict[str, float]:
    """How fast a policy step was, and who waited.

    Args:
        step_seconds: Wall-clock seconds of the whole step.
        said: What the learner says of its step.
        busy_seconds: What the engines spent on sampling, together.
        engines: How many.
        tokens: What they sampled.
    """
    seconds, learned = said.get("seconds", float("nan")), said.get("tokens", float("nan"))
    return {
        "perf/learner_seconds": seconds,
        "perf/learner_wait": max(0.0, step_seconds - seconds),
        "perf/learner_tokens": learned,
        "perf/learner_tokens_per_second": learned / seconds,
        "perf/flops_utilisation": said.get("flops_utilisation", float("nan")),
        "perf/engine_busy_seconds": busy_seconds / engines,
        # Answers that were sampled before the step, and are taken in it, may make it more than there was.
        "perf/engine_idle": max(0.0, 1 - busy_seconds / (engines * step_seconds)),
        "perf/tokens_per_second": tokens / step_seconds,
    }


def reward_metrics(
    rollouts: Sequence[Rollout],
    scores: Sequence[StepScores],
    counts: Sequence[StepCounts],
    scores_of_counted: Sequence[StepScores],
) -> dict[str, float]:
    """What a step's rollouts were worth, by the verifier and by the MPRM's ``scores`` of each; and, of labelled ones,
    maybe of an earlier step, how far what the MPRM said of them is from the counts."""
    by_group: dict[int, set[float]] = defaultdict(set)
    for rollout in rollouts:
        by_group[rollout.group].add(rollout.outcome)
    return {
        "reward/outcome": _mean([rollout.outcome for rollout in rollouts]),
        "reward/mixed_groups": _mean([len(outcomes) > 1 for outcomes in by_group.values()]),
        "reward/steps": _mean([len(rollout.steps) for rollout in rollouts]),
        "reward/tokens": _mean([len(rollout.token_ids) for rollout in rollouts]),
        "reward/truncated": _mean([rollout.finish_reason == "length" for rollout in rollouts]),
        **_said_of_answers(rollouts),
    } | _score_metrics(rollouts, scores, counts, scores_of_counted)


def _said_of_answers(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """The verifier's score, its parts, and what is added: each the mean over the rollouts of which it is known."""
    values: dict[str, list[float]] = defaultdict(list)
    for rollout in rollouts:
        for name, value in rollout.said.items():
            values[name].append(value)
    return group("reward", {name: _mean(each) for name, each in sorted(values.items())})


def _score_metrics(
    rollouts: Sequence[Rollout],
    scores: Sequence[StepScores],
    counts: Sequence[StepCounts],
    scores_of_counted: Sequence[StepScores],
) -> dict[str, float]:
    """What the MPRM says of them; nothing where it says nothing of any step, as in a run without one."""
    said = np.concatenate([entry.scores for entry in scores])
    if not len(said):
        return {}
    last = {
        outcome: [s.scores[-1] for r, s in zip(rollouts, scores, strict=True) if r.outcome == outcome and len(s.scores)]
        for outcome in (0.0, 1.0)
    }
    errors = [
        np.abs(scored.scores - (entry.correct > 0))[entry.sampled > 0]
        for scored, entry in zip(scores_of_counted, counts, strict=True)
    ]
    return {
        "reward/mprm": _mean(said),
        "reward/mprm_gap": _mean(last[1.0]) - _mean(last[0.0]),
        "reward/mprm_error": _mean(np.concatenate(errors)) if errors else float("nan"),
    } | {f"reward/mprm_{kind}": score for kind, score in scores_by_kind(rollouts, scores).items()}


def annotation_metrics(
    cost: LabelCost, counts: Sequence[StepCounts], rollouts: Sequence[Rollout] = ()
) -> dict[str, float]:
    """What a step's Monte-Carlo labels cost, and what was got for it; by the kind of step, too, given the rollouts that
    the counts belong to."""
    by_kind: dict[str, float] = {}
    for kind, (labelled, positive) in labels_by_kind(rollouts, counts if rollouts else ()).items():
        by_kind |= {f"annotation/labelled_{kind}": float(labelled), f"annotation/positive_{kind}": positive}
    return by_kind | {
        "annotation/continuations": float(cost.continuations),
        "annotation/tokens": float(cost.tokens),
        "annotation/truncated": cost.truncated / cost.continuations if cost.continuations else float("nan"),
        "annotation/rounds": float(cost.rounds),
        "annotation/seconds": cost.seconds,
        "annotation/saved_continuations": float(cost.saved_continuations),
        "annotation/saved_tokens": cost.saved_tokens,
        "annotation/saved_seconds": cost.saved_seconds,
        "annotation/labelled": _mean([bool(entry.sampled.any()) for entry in counts]),
    }


def judge_metrics(judgement: Judgement, agreement: Agreement) -> dict[str, float]:
    """What the judge said of the annotated rollouts, how far the counts agree, and what it cost."""
    values = {
        "judged": judgement.judged / len(judgement.verdicts) if judgement.verdicts else float("nan"),
        "judge_agreement": agreement.share(),
        "judge_failures": float(judgement.failures.total()),
        "judge_tokens": float(judgement.prompt_tokens + judgement.completion_tokens),
        "judge_cost": judgement.cost,
        "judge_cached": float(judgement.cached),
        "judge_cache_failed": float(judgement.cache_failed),
    }
    values |= {f"judge_agreement_{kind}": agreement.share(kind) for kind in KINDS if kind in agreement.compared}
    values |= {f"judge_failures/{reason}": float(number) for reason, number in judgement.failures.items()}
    return group("annotation", values)


def selection_metrics(offer: Offer) -> dict[str, float]:
    """What was offered to the buffer, and what it holds now; means over the rollouts with a labelled step."""
    statistics, kept = step_statistics(offer.candidates), step_statistics(gather_candidates(offer.kept))
    labelled, kept_labelled = statistics.labelled > 0, kept.labelled > 0
    return {
        "selection/seen": float(offer.seen),
        "selection/score": _mean(offer.informative[~np.isnan(offer.informative)]),
        "selection/mixture": _mean(statistics.mixture[labelled]),
        "selection/reliability": _mean(statistics.reliability[labelled]),
        "selection/all_negative": _mean(statistics.all_negative[labelled]),
        "selection/kept_mixture": _mean(kept.mixture[kept_labelled]),
        "selection/kept_reliability": _mean(kept.reliability[kept_labelled]),
    } | group("selection", offer.buffer)


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
