"""How the learning rate changes over a run: Transformers' schedules, by their names there."""

from __future__ import annotations

import math
from collections.abc import Callable

from rl.config.learner import LearnerConfig

Schedule = Callable[[int], float]
"""The share of `learner.learning_rate` at a policy step, counted from 0."""


def make_schedule(settings: LearnerConfig, steps: int) -> Schedule:
    """The schedule of the section, over a run of so many policy steps.

    Raises:
        ValueError: One line that names the key, its value, and what is allowed.
    """
    if settings.schedule == "constant":
        return lambda step: 1.0
    import torch  # seconds, for a key that few runs have
    from transformers.optimization import get_scheduler

    warm_up = settings.warmup_steps
    rate = torch.optim.SGD([torch.zeros(1)], lr=settings.learning_rate)
    try:
        made = get_scheduler(
            settings.schedule,
            rate,
            num_warmup_steps=math.ceil(warm_up * steps) if warm_up < 1 else int(warm_up),
            num_training_steps=steps,
            scheduler_specific_kwargs=settings.schedule_arguments,
        )
        share: Schedule = made.lr_lambdas[0]
        share(0), share(max(steps - 1, 0))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(
            f"learner.schedule_arguments is {settings.schedule_arguments}: allowed is what Transformers' schedule "
            f"{settings.schedule} takes: {' '.join(str(error).split())}"
        ) from None
    return share
