"""Every metric there is: its name, what it says, and how the scalars of one policy step are made."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from rewards.annotation.annotator import Bill
from rewards.annotation.hybrid_labels import Agreement
from rewards.annotation.judge import Judgement
from rewards.measuring.by_kind import KINDS, labels_by_kind, scores_by_kind
from rewards.records import Rollout, StepCounts, StepScores
from selection.bis import step_statistics
from selection.buffer import StreamingBuffer
from selection.candidates import Candidates

METRICS: dict[str, tuple[str, str, str]] = {
    # name: (what it is, what healthy looks like, what to do when it is not)
    "policy/accuracy": (
        "held-out prompts answered right, sampled at the training temperature; also by source",
        "rises",
        "lower `learner.learning_rate`; look at `reward/mixed_groups`",
    ),
    "policy/strategies": (
        "held-out prompts answered right by each test-time strategy (`evaluation.strategies`) with N samples",
        "best-of-N above `majority`",
        "falling with N, the MPRM is being fooled: look at `reward/mprm_error`",
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
    "reward/mprm_perception": ("the same of perception steps alone", "as above", "compare with the next"),
    "reward/mprm_reasoning": ("the same of reasoning steps alone", "as above", "compare with the one before"),
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
    "reward/model": (
        "mean score that the outcome model gives an answer",
        "moves with `reward/outcome`",
        "as for `reward/mprm`",
    ),
    "reward/model_gap": (
        "mean outcome model score of right minus wrong answers",
        "positive, rises",
        "more pairs: `outcome_model.pairs`, or `outcome_model.harvest`",
    ),
    "reward/answers": ("mean reward of an answer, as `outcome_model.reward` has it", "rises", "see `reward/outcome`"),
    "reward/model_loss": ("Bradley-Terry loss of a pair, nats", "falls from 0.69", "lower its learning rate"),
    "reward/model_accuracy": ("pairs in the right order before they were learned", "rises from 0.5", "as above"),
    "reward/model_grad_norm": ("length of its gradient before clipping", "steady", "as above"),
    "reward/model_skipped": ("its optimizer steps left out: not finite", "0", "as above"),
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
    "mprm/auc_within_kind_perception": (
        "`mprm/auc_within_kind` over perception steps alone",
        "as that",
        "`mprm.perception_weight`",
    ),
    "mprm/auc_within_kind_reasoning": ("the same over reasoning steps alone", "as that", "as that"),
    "mprm/macro_f1_perception": (
        "mean of the F1 of right and of wrong perception steps, against true labels; right is a score of 0.5 or more",
        "rises",
        "`mprm.perception_weight`",
    ),
    "mprm/macro_f1_reasoning": ("the same of reasoning steps", "rises", "as for `mprm/auc_within_kind`"),
    "mprm/bench_macro_f1": (
        "mean F1 of right and of wrong steps on `evaluation.bench`, weighted by steps, at 0.5; also by source and kind",
        "rises",
        "look at `mprm/bench_calibration_error`; tune a threshold with `sieve eval prm --tune-on`",
    ),
    "mprm/bench_first_error_f1": ("first-error F1 of `processbench`; also by subset", "rises", "as above"),
    "mprm/bench_auc": (
        "area under the ROC curve on `evaluation.bench`",
        "above `mprm/bench_auc_index_only`",
        "more, or other, annotation",
    ),
    "mprm/bench_auc_index_only": ("the same for a baseline that knows only a step's index", "any", "nothing"),
    "mprm/bench_auc_within_index": ("area among steps of one index, averaged", "rises from 0.5", "as for the area"),
    "mprm/bench_brier": ("mean squared error of the scores there", "falls", "as below"),
    "mprm/bench_calibration_error": ("expected calibration error, 10 bins", "below 0.1", "`mprm.label: soft`"),
    "mprm/loss": ("cross-entropy of a labelled step, nats", "falls", "lower `mprm.learning_rate`"),
    "mprm/grad_norm": ("length of the gradient before clipping", "steady", "lower `mprm.learning_rate`"),
    "mprm/positive": ("positive targets it was taught", "0.3 to 0.9", "see the selector"),
    "mprm/likelihood_weight": ("weight of the text's likelihood in the scores", "settles above 0", "nothing"),
    "mprm/skipped": ("optimizer steps left out: loss or gradient not finite", "0", "lower `mprm.learning_rate`"),
    "mprm/guard_auc_before": (
        "area under the ROC curve of step scores against Monte-Carlo labels within groups, before an update, on "
        "held-back rollouts",
        "above 0.5, holds as the policy moves on",
        "a reward model that ages falls here: update it more often",
    ),
    "mprm/guard_auc_after": ("the same after it", "not below the area before", "lower `mprm.learning_rate`"),
    "mprm/guard_pairs": ("pairs of steps it rests on", "hundreds", "raise `mprm.guard_share`"),
    "mprm/rolled_back": ("whether the update was taken back", "0", "lower `mprm.learning_rate` or `mprm.batches`"),
    "annotation/continuations": ("Monte-Carlo continuations of this step", "as configured", "nothing"),
    "annotation/tokens": ("their tokens", "steady", "the bill: try `annotation.budget`, or lower `annotation.share`"),
    "annotation/truncated": ("continuations cut off, and so left out", "below 0.05", "raise the length limit"),
    "annotation/rounds": ("times the engines were asked", "a few", "`first_error: ignore` asks in fewer rounds"),
    "annotation/seconds": ("seconds the loop waited for them", "below the learner's", "lower `annotation.share`"),
    "annotation/saved_continuations": ("continuations that `fixed` would take on top", "most of them", "nothing"),
    "annotation/saved_tokens": ("their tokens, estimated", "as above", "nothing"),
    "annotation/saved_seconds": ("the time for them, at the same speed", "as above", "nothing"),
    "annotation/labelled": ("annotated rollouts with a labelled step", "1, or `annotation.triage_ratio`", "nothing"),
    "annotation/positive_perception": ("labelled perception steps that are positive", "0.3 to 0.9", "nothing"),
    "annotation/positive_reasoning": ("labelled reasoning steps that are positive", "0.3 to 0.9", "nothing"),
    "annotation/labelled_perception": ("labelled perception steps", "steady", "look at `task.perception_marker`"),
    "annotation/labelled_reasoning": ("labelled reasoning steps", "steady", "look at `task.reasoning_marker`"),
    "annotation/judged": ("annotated rollouts with a judge's verdict", "`judge.share`", "see `judge_failures`"),
    "annotation/judge_agreement": (
        "labelled and judged steps on which counts and judge agree",
        "well above 0.5",
        "a better judge, or `judge.rule=monte_carlo`",
    ),
    "annotation/judge_agreement_perception": ("the same of perception steps", "as above", "as above"),
    "annotation/judge_agreement_reasoning": ("the same of reasoning steps", "as above", "as above"),
    "annotation/judge_failures": (
        "rollouts that the judge was to read and has no verdict on; also by [reason](rewards/annotation/judge.py)",
        "0",
        "the reason says; such rollouts keep their Monte-Carlo labels",
    ),
    "annotation/judge_tokens": ("tokens that the judge read and wrote", "steady", "lower `judge.share`"),
    "annotation/judge_cost": ("their price, by `judge.price_input` and `judge.price_output`", "steady", "as above"),
    "annotation/judge_cached": ("rollouts whose verdict was known", "any", "nothing"),
    "annotation/judge_cache_failed": ("1 if the file of verdicts could not be used", "0", "look at `judge.cache`"),
    "selection/seen": ("rollouts offered so far", "grows evenly", "nothing"),
    "selection/kept": ("offered rollouts that were kept", "around `selection.keep_ratio`", "a `selection.half_life`"),
    "selection/left": (
        "kept rollouts that are no more: `outranked`, pushed out by `capacity`, over the `all_negative` limit; and "
        "those `replaced` because the same tokens were offered again",
        "about as many as are kept, later on",
        "raise `selection.capacity` if that is the reason",
    ),
    "selection/score": (
        "mean score of the offered rollouts; `scores_offered` and `scores_kept` are histograms",
        "any",
        "nothing",
    ),
    "selection/mixture": ("mean p (1 - p) of the offered rollouts", "above 0.05", "too easy or too hard a task"),
    "selection/reliability": ("mean reliability R of the offered rollouts", "above 0.5", "more continuations"),
    "selection/all_negative": ("offered rollouts with no positive step", "below 0.3", "too hard a task"),
    "selection/size": ("rollouts that an update of the MPRM may draw", "grows to `selection.capacity`", "nothing"),
    "selection/held": ("the same, and those in reserve", "at most `selection.capacity`", "nothing"),
    "selection/threshold": ("lowest kept score, decayed, averaged over sources", "settles", "nothing"),
    "selection/age": ("policy steps since the kept rollouts were written, mean", "settles", "a `selection.half_life`"),
    "selection/kept_all_negative": (
        "kept rollouts with no positive step",
        "below `selection.max_all_negative`",
        "try `bis_posterior`, or a lower limit",
    ),
    "selection/share": ("share of the kept rollouts that each source has", "as the prompts", "nothing"),
    "perf/step_seconds": ("seconds of the whole policy step", "steady", "see the stages below"),
    "perf/rollout_seconds": ("waiting for fresh rollouts", "near 0 with `max_staleness` 1", "more engines"),
    "perf/score_seconds": ("the MPRM scoring", "small", "a GPU for the MPRM"),
    "perf/credit_seconds": ("computing advantages", "near 0", "your credit rule is slow"),
    "perf/annotate_seconds": ("waiting for continuations", "below the learner's", "lower `annotation.share`"),
    "perf/judge_seconds": ("waiting for the judge's verdicts", "small", "lower `judge.share` or `judge.deadline`"),
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

    def seconds(self, stage: str) -> float:
        """Seconds spent in a stage so far."""
        return self._seconds[stage]

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
    } | {f"reward/mprm_{kind}": score for kind, score in scores_by_kind(rollouts, scores).items()}


def annotation_metrics(bill: Bill, counts: Sequence[StepCounts], rollouts: Sequence[Rollout] = ()) -> dict[str, float]:
    """What a step's Monte-Carlo labels cost, and what was got for it; by the kind of step, too, given the rollouts that
    the counts belong to."""
    by_kind: dict[str, float] = {}
    for kind, (labelled, positive) in labels_by_kind(rollouts, counts if rollouts else ()).items():
        by_kind |= {f"annotation/labelled_{kind}": float(labelled), f"annotation/positive_{kind}": positive}
    return by_kind | {
        "annotation/continuations": float(bill.continuations),
        "annotation/tokens": float(bill.tokens),
        "annotation/truncated": bill.truncated / bill.continuations if bill.continuations else float("nan"),
        "annotation/rounds": float(bill.rounds),
        "annotation/seconds": bill.seconds,
        "annotation/saved_continuations": float(bill.saved_continuations),
        "annotation/saved_tokens": bill.saved_tokens,
        "annotation/saved_seconds": bill.saved_seconds,
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


def selection_metrics(candidates: Candidates, scores: np.ndarray, buffer: StreamingBuffer) -> dict[str, float]:
    """What was offered to the buffer, and what it holds now; means over the rollouts with a labelled step."""
    statistics = step_statistics(candidates)
    labelled = statistics.labelled > 0
    return {
        "selection/seen": float(buffer.seen),
        "selection/score": _mean(scores[~np.isnan(scores)]),
        "selection/mixture": _mean(statistics.mixture[labelled]),
        "selection/reliability": _mean(statistics.reliability[labelled]),
        "selection/all_negative": _mean(statistics.all_negative[labelled]),
    } | group("selection", buffer.statistics())


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
