"""The three questions that a report answers, and the curves that answer them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Against = Literal["step", "tokens", "minutes"]
"""What a curve is drawn against: policy steps, or all that was spent up to there: label tokens, or minutes."""


@dataclass(frozen=True)
class Chart:
    """Curves that are looked at together.

    Attributes:
        title: What they show.
        reading: How to read them: one line.
        metrics: The metrics of `rl.monitoring.metric_table`, and what each is called beside the others; ``NAME/*``
            stands for all metrics below a name.
        against: What they are always drawn against; None for what the reader chooses.
        interval: The metrics that bound the first one, from below and from above.
    """

    title: str
    reading: str
    metrics: Mapping[str, str]
    against: Against | None = None
    interval: tuple[str, str] | None = None


@dataclass(frozen=True)
class Question:
    """One question, and the charts that answer it."""

    name: str
    title: str
    reading: str
    charts: tuple[Chart, ...]


POLICY = Question(
    "policy",
    "Is the policy better?",
    "Held-out accuracy decides: the same questions every time, none of them trained on. The rest says whether there is "
    "something to learn from, and whether the policy still explores.",
    (
        Chart(
            "Held-out accuracy",
            "Share of held-out answers that are right, with a 95 % interval; should rise.",
            {"policy/accuracy": "accuracy"},
            interval=("policy/accuracy_low", "policy/accuracy_high"),
        ),
        Chart("Held-out accuracy by source", "The same for each kind of question.", {"policy/accuracy/*": ""}),
        Chart(
            "Test-time strategies",
            "Held-out answers right by strategy and number of samples; those that the reward model chooses should lie "
            "above majority.",
            {"policy/strategies/*": ""},
        ),
        Chart(
            "Training rollouts",
            "Right answers should rise; mixed groups, with right and wrong answers, are what outcomes teach from and "
            "should stay above 0.3.",
            {"reward/outcome": "right answers", "reward/mixed_groups": "mixed groups"},
        ),
        Chart(
            "Exploration",
            "Mean entropy of a token, nats: falls slowly; near 0 early on, the policy no longer explores.",
            {"policy/entropy": "entropy"},
        ),
        Chart(
            "Distance from the reference",
            "Divergence from the reference policy, nats: grows slowly.",
            {"policy/kl": "divergence"},
        ),
    ),
)

REWARD_MODEL = Question(
    "reward-model",
    "Is the reward model right?",
    "The area under the ROC curve against true step labels decides, where the task knows them; elsewhere, the error "
    "against Monte-Carlo labels.",
    (
        Chart(
            "Telling right steps from wrong ones",
            "Area under the ROC curve among held-out steps of one kind, kinds weighted by their errors: 0.5 is chance, "
            "1 is never wrong.",
            {
                "mprm/auc_weighted": "all",
                "mprm/auc_weighted_perception": "perception",
                "mprm/auc_weighted_reasoning": "reasoning",
                "mprm/auc_within_kind": "kinds alike",
            },
        ),
        Chart(
            "Macro-F1",
            "Mean F1 of right and of wrong held-out steps, a score of 0.5 or more meaning right; should rise.",
            {"mprm/macro_f1_perception": "perception", "mprm/macro_f1_reasoning": "reasoning"},
        ),
        Chart(
            "Error on annotated steps",
            "Mean difference between score and Monte-Carlo label, before it has learned from them; should fall.",
            {"reward/mprm_error": "error"},
        ),
        Chart(
            "Before and after an update",
            "Area against Monte-Carlo labels on held-back rollouts: an update should not lower it; falling before "
            "updates, the reward model ages.",
            {"mprm/guard_auc_before": "before", "mprm/guard_auc_after": "after"},
        ),
        Chart(
            "Is it being fooled?",
            "Score gap between right and wrong rollouts should be positive and rise; whole answers' scores minus "
            "accuracy should stay steady.",
            {"reward/mprm_gap": "right minus wrong", "reward/hacking_gap": "score minus accuracy"},
        ),
        Chart(
            "Benchmark",
            "On steps that people labelled; should rise.",
            {"mprm/bench_macro_f1": "macro-F1", "mprm/bench_auc": "area", "mprm/bench_auc_within_index": "by index"},
        ),
    ),
)

SELECTION = Question(
    "selection",
    "Is selection paying?",
    "It pays where the reward model gets better for the same labels: compare runs in the first chart. The rest says "
    "what was offered and what was kept.",
    (
        Chart(
            "Reward model for its labels",
            "Area within a step kind against the tokens that labels have taken: higher at the same price is better.",
            {"mprm/auc_weighted": "kinds by their errors", "mprm/auc_within_kind": "kinds alike"},
            against="tokens",
        ),
        Chart(
            "Rollouts with no right step",
            "Share among those offered and among those kept: they teach little, so the kept should lie below.",
            {"selection/all_negative": "offered", "selection/kept_all_negative": "kept"},
        ),
        Chart(
            "Mixture of labels",
            "Mean p (1 - p) of a rollout's labels: above 0.05 there is something to tell apart; the kept should lie "
            "above the offered.",
            {"selection/mixture": "offered", "selection/kept_mixture": "kept"},
        ),
        Chart(
            "Reliability of positive labels",
            "Mean share of right continuations from steps labelled right; above 0.5, the kept at least as high.",
            {"selection/reliability": "offered", "selection/kept_reliability": "kept"},
        ),
        Chart(
            "Positive labels",
            "Share of labelled steps that are positive: between 0.3 and 0.9 there is something to tell apart.",
            {"annotation/positive_perception": "perception", "annotation/positive_reasoning": "reasoning"},
        ),
        Chart("Share kept", "Offered rollouts kept so far: near selection.keep_ratio.", {"selection/kept": "kept"}),
        Chart(
            "Age of the kept",
            "Policy steps since the kept rollouts were written; should settle.",
            {"selection/age": "steps"},
        ),
    ),
)

QUESTIONS = (POLICY, REWARD_MODEL, SELECTION)
