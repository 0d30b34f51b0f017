"""vLLM schedules a batch while the one before is computed, where there is a GPU: new weights are new all the same.

On a CPU it does not by itself; its scheduler, its queue of batches and its pool of blocks are the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.policy_families import PROMPTS, TOLERANCE, Policy, largest_difference, scored, some_experiences
from tests.fixtures.tiny_families import write_tiny_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture
def asynchronous(monkeypatch: pytest.MonkeyPatch) -> None:
    """As its platform for GPUs leaves it."""
    from vllm.platforms.cpu import CpuPlatform

    plain = CpuPlatform.check_and_update_config

    def leave(config: Any) -> None:
        plain(config)
        config.scheduler_config.async_scheduling = True

    monkeypatch.setattr(CpuPlatform, "check_and_update_config", staticmethod(leave))


def test_new_weights_leave_nothing_of_a_batch_under_way(asynchronous: None, tmp_path: Path) -> None:
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler

    with Policy.of("qwen2_5_vl", write_tiny_checkpoint("qwen2_5_vl", tmp_path)) as policy:
        core = policy.engine._llm.llm_engine.engine_core.engine_core
        assert isinstance(core.scheduler, AsyncScheduler) and core.batch_queue.maxlen == 2
        learner = policy.learner()
        for version in (1, 2):
            rows = policy.sampled(PROMPTS, seed=version)
            assert [sample.token_ids for _, sample in rows] == [
                sample.token_ids for _, sample in policy.sampled(PROMPTS, seed=version)
            ]
            assert largest_difference(rows, scored(learner, rows)) < TOLERANCE
            learner.step(some_experiences(rows))
            # Which raises if a block of the cache is still in use.
            assert policy.engine.load_weights(learner.checkpoint_weights(), version) == version
        rows = policy.sampled(PROMPTS, seed=3)
        assert largest_difference(rows, scored(learner, rows)) < TOLERANCE
