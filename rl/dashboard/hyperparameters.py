"""TensorBoard's table of runs: the settings that people vary, beside the newest values of the headline metrics."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from rl.config import Config

SETTINGS = (
    *("task.name", "policy.checkpoint", "seed", "steps", "max_staleness"),
    *("learner.algorithm", "learner.credit", "learner.learning_rate", "learner.prompts", "learner.samples"),
    *("annotation.share", "annotation.continuations", "annotation.budget"),
    *("selection.selector", "selection.keep_ratio", "selection.alpha", "selection.half_life"),
    *("mprm.enabled", "mprm.head", "mprm.every", "mprm.batches", "mprm.learning_rate"),
)
METRICS = (
    *("policy/accuracy", "reward/outcome", "mprm/auc_within_kind", "mprm/macro_f1_reasoning", "reward/hacking_gap"),
    *("selection/kept", "annotation/tokens", "perf/step_seconds"),
)
SUFFIX = ".settings"


def write_hyperparameters(folder: Path, config: Config) -> None:
    """Put the settings of a run into its TensorBoard folder, in the place of those of an earlier sitting.

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
