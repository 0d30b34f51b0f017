"""Every example in a docstring of the three packages runs as written."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import rewards
import rl
import selection

MODULES = [
    found.name
    for package in (rl, selection, rewards)
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]
WITH_EXAMPLES = {
    "rewards.credit.additive",
    "rewards.credit.comparison",
    "rewards.credit.examples",
    "rewards.credit.min_form",
    "rewards.credit.monte_carlo",
    "rewards.credit.outcome",
    "rewards.credit.placement",
    "rewards.credit.process",
    "rewards.credit.progress",
    "rewards.credit.ps_grpo",
    "rewards.credit.token_rewards",
    "rewards.models.encoding",
    "rewards.models.shared_images",
    "rewards.models.sharding",
    "rewards.models.steps",
    "rewards.models.token_tree",
    "rewards.outcome.preferences",
    "rewards.process_model.ensemble",
    "rewards.process_model.labels",
    "rewards.seeds",
    "rewards.verification.added_rewards",
    "rewards.verification.quantity",
    "rewards.verification.verdict",
    "rewards.verification.verifiers",
    "rl.config.trl_arguments",
    "rl.evaluating.agreement",
    "rl.instruments.board",
    "rl.instruments.replay.measuring",
    "rl.instruments.report.page",
    "rl.instruments.report.rollouts",
    "rl.instruments.report.runs",
    "rl.instruments.study.comparison",
    "rl.instruments.study.study_file",
    "rl.learning.critic",
    "rl.learning.micro_batches",
    "rl.learning.statistics",
    "rl.monitoring.recording",
    "rl.monitoring.rollout_picture",
    "rl.monitoring.terminal",
    "rl.monitoring.warnings",
    "rl.rollouts.staleness",
    "rl.rollouts.stream",
    "rl.workers.shortage",
    "selection.buffer",
}


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
    assert result.attempted > 0 or name not in WITH_EXAMPLES


def test_every_room_is_walked() -> None:
    assert {"rl.engines.vllm_engine", "rl.tiny_policy.tokenizer", "rl.tasks.files", "rewards.process_model.mprm"} < set(
        MODULES
    )
    assert set(MODULES) > WITH_EXAMPLES
