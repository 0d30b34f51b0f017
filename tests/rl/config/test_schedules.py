"""Learning-rate schedules, against those of Transformers' own trainer."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from transformers import TrainingArguments
from transformers.optimization import get_scheduler

from rl.config import Config
from rl.config.learner import LearnerConfig, Schedules
from rl.config.schedules import make_schedule

ARGUMENTS: dict[str, dict[str, Any]] = {
    "cosine_with_restarts": {"num_cycles": 2},
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1},
    "polynomial": {"lr_end": 1e-5, "power": 2.0},
    "warmup_stable_decay": {"num_decay_steps": 10},
}
STEPS = 40


@pytest.mark.parametrize("warmup", [0, 5, 0.1])
@pytest.mark.parametrize("name", [name for name in get_args(Schedules) if name != "constant"])
def test_a_schedule_is_that_of_transformers(name: Any, warmup: float, tmp_path: Any) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), warmup_steps=warmup, use_cpu=True)
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=2e-4)
    theirs = get_scheduler(
        name,
        optimizer,
        num_warmup_steps=arguments.get_warmup_steps(STEPS),
        num_training_steps=STEPS,
        scheduler_specific_kwargs=ARGUMENTS.get(name),
    )
    settings = LearnerConfig(
        learning_rate=2e-4, schedule=name, warmup_steps=warmup, schedule_arguments=ARGUMENTS.get(name, {})
    )
    share = make_schedule(settings, STEPS)
    for step in range(STEPS):
        assert 2e-4 * share(step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12), step
        optimizer.step()
        theirs.step()


def test_constant_is_the_default_and_changes_nothing() -> None:
    share = make_schedule(LearnerConfig(), 10)
    assert {share(step) for step in range(20)} == {1.0}


@pytest.mark.parametrize(
    ("learner", "words"),
    [
        ({"schedule": "cosinus"}, "learner.schedule"),
        ({"schedule": "constant", "warmup_steps": 5}, "learner.warmup_steps is 5.0: allowed with learner.schedule"),
        ({"schedule_arguments": {"num_cycles": 2}}, "learner.schedule_arguments is {'num_cycles': 2}: allowed with"),
        ({"schedule": "cosine", "schedule_arguments": {"cycles": 2}}, "allowed is what Transformers' schedule cosine"),
        ({"schedule": "warmup_stable_decay"}, "allowed is what Transformers' schedule warmup_stable_decay takes"),
        ({"schedule": "polynomial", "schedule_arguments": {"lr_end": 1.0}}, "lr_end"),
        ({"schedule": "linear", "warmup_steps": -1}, "learner.warmup_steps"),
    ],
)
def test_what_is_no_schedule_is_one_line(learner: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        Config.model_validate({"learner": learner})
    assert words in str(caught.value).replace("\n", ".")
