"""What the models of a run are made with, where only a GPU would show what else they would do."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rewards.models.adamw import AdamW8bit
from rewards.process_model.mprm import MPRM
from rl.config import Config
from rl.learning.learner import PolicyLearner
from rl.learning.making import build_learner
from rl.reward_models.mprm import build_mprm
from rl.reward_models.outcome import open_configured_model

SECTIONS: dict[str, Any] = {
    "deadline": 3600,
    "learner": {"algorithm": "ppo", "credit": "outcome"},
    "value": {"backbone": "own"},
    "outcome_model": {"reward": "hybrid", "harvest": True},
}
CONFIG = Config.model_validate(SECTIONS)


@pytest.fixture(scope="module")
def learner() -> PolicyLearner:
    return build_learner(CONFIG)


@pytest.fixture(scope="module")
def mprm() -> Any:
    return build_mprm(CONFIG)


@pytest.mark.slow
def test_optimizers_make_no_further_copy_of_what_learns(learner: PolicyLearner, mprm: MPRM) -> None:
    """On a GPU PyTorch's AdamW would hold another four bytes of each parameter at its peak, which no plan counts."""
    assert learner._critic is not None
    optimizers = [learner._optimizer, learner._critic.optimizer, mprm.optimizer]
    optimizers.append(open_configured_model(CONFIG)._optimizer)
    for optimizer in optimizers:
        assert isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["fused"]


@pytest.mark.slow
def test_an_optimizer_of_8_bits_is_whose_section_names_it() -> None:
    """The value model's is the learner's."""
    named = {"optimizer": "adamw_8bit"}
    config = Config.model_validate(SECTIONS | {"learner": SECTIONS["learner"] | named, "mprm": named})
    made, mprm = build_learner(config), build_mprm(config)
    assert made._critic is not None
    assert all(isinstance(part, AdamW8bit) for part in (made._optimizer, made._critic.optimizer, mprm.optimizer))


@pytest.mark.slow
def test_ranks_wait_for_one_another_as_long_as_the_run_waits_for_them(learner: PolicyLearner, mprm: MPRM) -> None:
    """PyTorch would give up after half an hour, Accelerate after ten minutes, while an engine is still busy."""
    assert learner._trainer.args.ddp_timeout == 3600
    assert mprm._accelerator.init_handler.timeout.total_seconds() == 3600
