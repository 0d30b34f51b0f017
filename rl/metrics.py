"""Every metric there is: its name, what it says, and how the scalars of one policy step are made."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from rewards.records import Completion, Rollout, StepCounts, StepScores

METRICS: dict[str, tuple[str, str, str]] = {
    # name: (what it is, what healthy looks like, what to do when it is not)
    "policy/accuracy": (
        "held-out prompts answered right, sampled at the training temperature; also by source",
        "rises",
        "lower `learner.learning_rate`; look at `reward/mixed_groups`",
    ),
    "policy/loss": ("TRL's loss of the update", "small, around 0", "it is no measure of progress; see accuracy"),
    "policy/grad_norm": (
        "length of the gradient before clipping",
        "steady",
        "spikes: lower `learner.learning_rate` or `learner.max_grad_norm`",
    ),
    "policy/entropy": ("mean entropy of a token, nats", "falls slowly", "near 0 early: the policy no longer explores"),
    "policy/clipped": ("tokens whose ratio was clipped", "below 0.1", "lower `max_staleness` or the learning rate"),
    "reward/outcome": ("training rollouts with the right answer", "rises", "see accuracy"),
    "reward/mprm": (
        "mean MPRM score of a step",
        "moves with `reward/outcome`",
        "rising while the outcome falls is reward hacking: use `credit: outcome`",
    ),
    "reward/mixed_groups": (
        "groups with right and wrong answers; only these carry an outcome signal",
        "above 0.3",
        "change `task.difficulty` or raise `learner.samples`",
    ),
    "reward/steps": ("written steps of a rollout", "steady", "drifting steps are a sign of reward hacking"),
    "reward/tokens": ("tokens of a rollout", "steady", "as for steps"),
    "reward/truncated": ("rollouts cut off at the length limit", "below 0.05", "raise `engine.max_completion_tokens`"),
    "reward/dropped": ("rollouts dropped for an image placeholder in their text", "0", "look at the policy's samples"),
    "reward/mprm_gap": (
        "mean score of right minus wrong rollouts' last steps",
        "positive, rises",
        "the MPRM does not tell them apart: look at `mprm/` and `selection/`",
    ),
    "reward/mprm_error": (
        "mean absolute difference of MPRM score and Monte-Carlo hard label on annotated steps",
        "falls",
        "as for the gap",
    ),
    "mprm/auc_within_kind": (
        "area under the ROC curve of step scores against true labels, within a step kind, averaged over kinds",
        "rises from 0.5",
        "raise `annotation.share` or `mprm.batches`",
    ),
    "mprm/auc_plain": ("the same over all steps at once", "above the index-only area", "as above"),
    "mprm/auc_index_only": (
        "the same for a baseline that knows only a step's kind",
        "any",
        "nothing: it is the task's",
    ),
    "mprm/auc_within_kind_own": ("within a kind, against whether the step is right on its own", "rises", "as above"),
    "mprm/loss": ("cross-entropy of a labelled step, nats", "falls", "lower `mprm.learning_rate`"),
    "mprm/grad_norm": ("length of the gradient before clipping", "steady", "lower `mprm.learning_rate`"),
    "mprm/positive": ("positive targets it was taught", "0.3 to 0.9", "see the selector"),
    "mprm/likelihood_weight": ("weight of the text's likelihood in the scores", "settles above 0", "nothing"),
    "annotation/continuations": ("Monte-Carlo continuations of this step", "as configured", "nothing"),
    "annotation/tokens": ("their tokens", "steady", "the bill: lower `annotation.share` or `continuations`"),
    "annotation/truncated": ("continuations cut off, and so left out", "below 0.05", "raise the length limit"),
    "selection/kept": ("offered rollouts that were kept", "about `selection.keep_ratio`", "wait for the first window"),
    "selection/score": ("mean score of the offered rollouts", "any", "nothing"),
    "selection/mixture": ("mean p (1 - p) of the offered rollouts", "above 0.05", "too easy or too hard a task"),
    "selection/reliability": ("mean reliability R of the offered rollouts", "above 0.5", "more continuations"),
    "selection/all_negative": ("offered rollouts with no positive step", "below 0.3", "too hard a task"),
    "selection/size": ("rollouts in the buffer", "grows to `selection.capacity`", "nothing"),
    "selection/threshold": ("lowest score that is kept, averaged over sources", "settles", "nothing"),
    "selection/share": ("share of the buffer that each source has", "as the prompts", "nothing"),
    "perf/step_seconds": ("seconds of the whole policy step", "steady", "see the stages below"),
    "perf/rollout_seconds": ("waiting for fresh rollouts", "near 0 with `max_staleness` 1", "more engines"),
    "perf/score_seconds": ("the MPRM scoring", "small", "a GPU for the MPRM"),
    "perf/credit_seconds": ("computing advantages", "near 0", "your credit rule is slow"),
    "perf/annotate_seconds": ("waiting for continuations", "below the learner's", "lower `annotation.share`"),
    "perf/select_seconds": ("the buffer", "near 0", "your selector is slow"),
    "perf/teach_seconds": ("waiting for the MPRM's update", "small", "lower `mprm.batches`"),
    "perf/learn_seconds": ("waiting for the policy update after annotation", "near 0", "a GPU for the learner"),
    "perf/sync_seconds": ("new weights to the engines", "near 0", "engines are busy: they take weights between calls"),
    "perf/staleness": ("policy versions between sampling and training", "at most `max_staleness`", "nothing"),
    "perf/prompts_asked": ("training prompts handed out so far", "grows evenly", "nothing"),
}


def metrics_table() -> str:
    """The README's table of all metrics, in Markdown."""
    rows = [f"| `{name}` | {what} | {healthy} | {otherwise} |" for name, (what, healthy, otherwise) in METRICS.items()]
    return "\n".join(["| metric | what it is | healthy | when it is not |", "|---|---|---|---|", *rows])


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

    def metrics(self) -> dict[str, float]:
        """``perf/STAGE_seconds`` for each stage, and ``perf/step_seconds`` since the clock was made."""
        stages = {f"perf/{stage}_seconds": seconds for stage, seconds in self._seconds.items()}
        return stages | {"perf/step_seconds": time.perf_counter() - self._start}


def group(name: str, values: Mapping[str, float]) -> dict[str, float]:
    """Metrics of one group, under their full names."""
    return {f"{name}/{key}": float(value) for key, value in values.items()}


def reward_metrics(
    rollouts: Sequence[Rollout], scores: Sequence[StepScores], counts: Sequence[StepCounts], annotated: Sequence[int]
) -> dict[str, float]:
    """What a step's rollouts were worth; ``counts[i]`` belongs to ``rollouts[annotated[i]]``."""
    by_group: dict[int, set[float]] = defaultdict(set)
    for rollout in rollouts:
        by_group[rollout.group].add(rollout.outcome)
    last = {
        outcome: [s.scores[-1] for r, s in zip(rollouts, scores, strict=True) if r.outcome == outcome and len(s.scores)]
        for outcome in (0.0, 1.0)
    }
    errors = [
        np.abs(scores[place].scores - (entry.correct > 0))[entry.sampled > 0]
        for place, entry in zip(annotated, counts, strict=True)
    ]
    return {
        "reward/outcome": _mean([rollout.outcome for rollout in rollouts]),
        "reward/mprm": _mean(np.concatenate([entry.scores for entry in scores])),
        "reward/mixed_groups": _mean([len(outcomes) > 1 for outcomes in by_group.values()]),
        "reward/steps": _mean([len(rollout.steps) for rollout in rollouts]),
        "reward/tokens": _mean([len(rollout.token_ids) for rollout in rollouts]),
        "reward/truncated": _mean([rollout.finish_reason == "length" for rollout in rollouts]),
        "reward/mprm_gap": _mean(last[1.0]) - _mean(last[0.0]),
        "reward/mprm_error": _mean(np.concatenate(errors)) if errors else float("nan"),
    }


def annotation_metrics(completions: Sequence[Sequence[Completion]]) -> dict[str, float]:
    """What a step's Monte-Carlo labels cost."""
    flat = [completion for samples in completions for completion in samples]
    return {
        "annotation/continuations": float(len(flat)),
        "annotation/tokens": float(sum(len(completion.token_ids) for completion in flat)),
        "annotation/truncated": _mean([completion.finish_reason == "length" for completion in flat]),
    }


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
