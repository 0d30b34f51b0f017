"""What the learner saves is a checkpoint that vLLM starts from, whatever the family."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.policy_families import (
    PROMPTS,
    TOLERANCE,
    Policy,
    encoder_of,
    largest_difference,
    learner_of,
    scored,
    some_experiences,
    written,
)
from tests.fixtures.tiny_families import FAMILIES, write_tiny_checkpoint


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_engine_starts_from_a_saved_policy(family: str, rank: int, tmp_path: Path) -> None:
    """Under the names that vLLM looks for, and with adapters merged."""
    start = write_tiny_checkpoint(family, tmp_path / "start")
    encoder = encoder_of(family, start)
    learner = learner_of(start, encoder, lora_rank=rank)
    learner.step(some_experiences(written(learner, encoder, PROMPTS)))
    learner.save(tmp_path / "saved")
    with Policy.of(family, str(tmp_path / "saved")) as policy:
        rows = policy.sampled(PROMPTS, seed=8)
        assert largest_difference(rows, scored(learner, rows)) < TOLERANCE
