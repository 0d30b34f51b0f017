"""TensorBoard's custom scalars: the dashboard that asks a run's three questions, each answered by a few charts."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from rl.config import Config

Chart = list[str | list[str]]
"""As `SummaryWriter.add_custom_scalars` has it: ``Margin`` and three metrics (value, lower and upper bound), or
``Multiline`` and regular expressions of metrics that share the axes."""
Layout = dict[str, dict[str, Chart]]
"""Of each category, the charts by their titles."""
SETTINGS = (
    *("task.name", "policy.checkpoint", "seed", "steps", "max_staleness"),
    *("learner.algorithm", "learner.credit", "learner.learning_rate", "learner.prompts", "learner.samples"),
    *("annotation.share", "annotation.continuations", "annotation.budget"),
    *("selection.selector", "selection.keep_ratio", "selection.alpha", "selection.half_life"),
    *("mprm.enabled", "mprm.head", "mprm.every", "mprm.batches", "mprm.learning_rate"),
)
METRICS = (
    *("policy/accuracy", "reward/outcome", "mprm/auc_weighted", "mprm/macro_f1_reasoning", "reward/hacking_gap"),
    *("selection/kept", "annotation/tokens", "perf/step_seconds"),
)
SUFFIX = ".settings"


def dashboard_layout(config: Config, knows_steps: bool) -> Layout:
    """The categories, with the charts that a run of this configuration has data for.

    Args:
        config: The experiment.
        knows_steps: Whether its task can tell which held-out steps are right.
    """
    layout = {"Is the policy better?": _policy(config)}
    if config.mprm.enabled:
        layout["Is the reward model right?"] = _reward_model(config, knows_steps)
        layout["Is selection paying?"] = _selection(config)
    return layout


def _policy(config: Config) -> dict[str, Chart]:
    accuracy = ["policy/accuracy", "policy/accuracy_low", "policy/accuracy_high"]
    charts: dict[str, Chart] = {"held-out answers right, with 95 % interval": ["Margin", accuracy]}
    charts |= _lines("training", {"answers right": "reward/outcome", "groups with both kinds": "reward/mixed_groups"})
    if config.task.rewards or ":" in config.task.verifier:
        worth = ["^reward/(score|answers)$", "^reward/parts/", "^reward/added/"]
        charts["what answers are worth, and what that is made of"] = ["Multiline", worth]
    if config.evaluation.strategies:
        charts["held-out answers right, by test-time strategy"] = ["Multiline", ["^policy/strategies/"]]
    return charts


def _reward_model(config: Config, knows_steps: bool) -> dict[str, Chart]:
    charts: dict[str, Chart] = {}
    if knows_steps:
        charts |= _lines(
            "AUC of scores against the truth",
            {
                "in a step kind, by errors": "mprm/auc_weighted",
                "of reasoning": "mprm/auc_weighted_reasoning",
                "kinds alike": "mprm/auc_within_kind",
                "overall": "mprm/auc_plain",
                "by index": "mprm/auc_index_only",
            },
        )
        charts |= _lines(
            "macro-F1 of steps", {"perception": "mprm/macro_f1_perception", "reasoning": "mprm/macro_f1_reasoning"}
        )
    if config.evaluation.bench is not None:
        charts |= _lines(
            f"{config.evaluation.bench}",
            {"macro-F1": "mprm/bench_macro_f1", "AUC": "mprm/bench_auc", "by index": "mprm/bench_auc_index_only"},
        )
    charts |= _lines(
        "scores of right minus wrong answers, and off Monte-Carlo labels",
        {"gap": "reward/mprm_gap", "error": "reward/mprm_error"},
    )
    return charts | _lines(
        "whether it is fooled",
        {"mean score": "reward/mprm", "answers right": "reward/outcome", "hacking gap": "reward/hacking_gap"},
    )


def _selection(config: Config) -> dict[str, Chart]:
    charts: dict[str, Chart] = {}
    if config.mprm.guard_share:
        before_and_after = {"before": "mprm/guard_auc_before", "after": "mprm/guard_auc_after"}
        charts |= _lines("AUC on held-back rollouts, learning from kept ones", before_and_after)
    for what, metric in (
        ("label mixture p (1 - p)", "mixture"),
        ("reliability of positive labels", "reliability"),
        ("rollouts without a positive step", "all_negative"),
    ):
        charts |= _lines(what, {"offered": f"selection/{metric}", "kept": f"selection/kept_{metric}"})
    charts["loss on the kept rollouts, as they are learned"] = ["Multiline", ["^mprm/loss$"]]
    return charts | _lines(
        "tokens of a step's labels", {"sampled": "annotation/tokens", "saved by the budget": "annotation/saved_tokens"}
    )


def _lines(about: str, metrics: dict[str, str]) -> dict[str, Chart]:
    """A chart of some metrics by their names there, which its title says after the colon."""
    return {f"{about}: {'; '.join(metrics)}": ["Multiline", [f"^{metric}$" for metric in metrics.values()]]}


def write_hyperparameters(folder: Path, config: Config) -> None:
    """Put the settings of a run into its TensorBoard folder, in the place of those of an earlier start.

    They have a file of their own, since TensorBoard believes the first settings that it finds; the metrics are named
    alone, and have the values that the run's scalars had last.
    """
    for earlier in folder.glob(f"*{SUFFIX}"):
        earlier.unlink()
    settings = {key: reduce(getattr, key.split("."), config) for key in SETTINGS}
    # TensorBoard would show true and false as 1 and 0.
    told = {key: str(value).lower() if isinstance(value, bool) else value for key, value in settings.items()}
    experiment, start, _ = hparams(told, dict.fromkeys(METRICS, 0.0))
    with SummaryWriter(str(folder), filename_suffix=SUFFIX) as writer:
        for summary in (experiment, start):
            writer.file_writer.add_summary(summary)
