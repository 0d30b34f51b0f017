"""The judge beside the Monte-Carlo labels, made from the configuration and joined with the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from rewards.annotation.hybrid_labels import HybridRule, hybrid_labels
from rewards.annotation.judge import Judge, Judgement
from rewards.records import Rollout, StepCounts
from rl.config import Config
from rl.config.api_keys import api_key
from rl.monitoring.metrics import judge_metrics

CACHE = "judge.sqlite"
GRACE = 60
"""Seconds after its own deadline in which the judge may come to an end."""


def make_judge(config: Config, decode: Callable[[Sequence[int]], str], folder: Path) -> Judge | None:
    """The judge that the configuration names, if it names one; its cache is in the run folder unless it says where.

    Raises:
        ConfigError: The environment does not hold the key.
    """
    judge = config.judge
    if judge.endpoint is None:
        return None
    key = api_key(judge, "judge")
    # Runs share verdicts by a file that they name; else they are the run's own.
    cache = judge.cache if judge.cache is not None else str(folder / CACHE)
    return Judge(judge.model_copy(update={"cache": cache}), decode, key)


def join_verdicts(
    config: Config,
    rollouts: Sequence[Rollout],
    counts: Sequence[StepCounts],
    judgement: Future[Judgement] | None,
    say: Callable[[str], None],
) -> tuple[list[StepCounts], dict[str, float]]:
    """The counts of annotated rollouts joined with what the judge says, once it has said it, and the metrics of that;
    the counts as they are, and no metrics, where there is no judge. ``say`` is told of a judge that says nothing."""
    if judgement is None:
        return list(counts), {}
    try:
        judged = judgement.result(timeout=config.judge.deadline + GRACE)
    except TimeoutError:
        say("the judge does not come to an end; its verdicts on this batch are left out")
        return list(counts), {"annotation/judged": 0.0, "annotation/judge_failures": float(len(rollouts))}
    if judged.problem and not judged.judged:
        say(f"the judge has no verdict on any of {judged.failures.total()} rollouts: {judged.problem}")
    rule = HybridRule(
        config.judge.rule,
        config.judge.kinds,
        fill=config.annotation.continuations if config.judge.fill else 0,
        threshold=config.mprm.threshold,
    )
    kinds = [[span.kind for span in rollout.steps] for rollout in rollouts]
    joined, agreement = hybrid_labels(counts, judged.verdicts, kinds, rule)
    return joined, judge_metrics(judged, agreement)


def judgement_state(config: Config, judgement: Future[Judgement] | None) -> dict[str, Any] | None:
    """What the judge says, once it has said it, as plain JSON; None where there is no judge, or it comes to no end."""
    if judgement is None:
        return None
    try:
        said = judgement.result(timeout=config.judge.deadline + GRACE)
    except TimeoutError:
        return None
    return vars(said) | {"verdicts": [verdicts.tolist() for verdicts in said.verdicts]}


def judgement_again(state: dict[str, Any] | None) -> Future[Judgement] | None:
    """What `judgement_state` gave, as if the judge had just said it."""
    if state is None:
        return None
    verdicts = [np.array(entry, dtype=float) for entry in state["verdicts"]]
    answer: Future[Judgement] = Future()
    answer.set_result(Judgement(**(state | {"verdicts": verdicts, "failures": Counter(state["failures"])})))
    return answer
