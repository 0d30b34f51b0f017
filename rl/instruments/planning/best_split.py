"""How a number of GPUs is best divided among engines, learner and MPRM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rl.config import Config
from rl.errors import ConfigError
from rl.instruments.planning.engine_work import EngineWork
from rl.instruments.planning.simulation import Forecast, Simulation
from rl.instruments.planning.stage_seconds import Split, StageSeconds

FINENESS = 1.5  # of the numbers that are tried: each is so many times the one before


@dataclass(frozen=True)
class SplitPlan:
    """A number of GPUs, what each kind of worker gets of it, and what comes of that."""

    gpus: int
    split: Split
    forecast: Forecast

    def gpu_hours(self, steps: int) -> float:
        """Of a run of so many policy steps."""
        return self.gpus * steps * self.forecast.step_seconds / 3600


def best_split(config: Config, seconds: StageSeconds, measured_on: Split, gpus: int) -> SplitPlan:
    """The fastest way to use so many GPUs, or fewer where more would be idle; the one with fewer GPUs among those that
    are equally fast to a hundredth.

    Raises:
        ConfigError: There is not one GPU for each kind of worker.
    """
    each = config.engine.tensor_parallel
    others = ["learner", "MPRM"] if config.places_mprm else ["learner"]
    if gpus < each + len(others):
        raise ConfigError(
            f"--gpus {gpus}: allowed is {each + len(others)} or more: one each for {' and '.join(others)}, and "
            f"engine.tensor_parallel, {each}, for an engine"
        )
    work = EngineWork(config, seconds, measured_on.engines)
    plans = [plan_of(config, seconds, measured_on, split, work) for split in _splits(config, gpus)]
    fastest = min(plan.forecast.step_seconds for plan in plans)
    return min(
        (plan for plan in plans if plan.forecast.step_seconds <= 1.01 * fastest),
        key=lambda plan: (plan.gpus, plan.forecast.step_seconds),
    )


def plan_of(
    config: Config, seconds: StageSeconds, measured_on: Split, split: Split, work: EngineWork | None = None
) -> SplitPlan:
    """What comes of one split, with a GPU for each rank and `engine.tensor_parallel` for each engine."""
    gpus = split.engines * config.engine.tensor_parallel + split.learner + split.mprm
    return SplitPlan(gpus, split, Simulation(config, seconds, measured_on, split, work).run())


def _splits(config: Config, gpus: int) -> Iterator[Split]:
    each, rows = config.engine.tensor_parallel, config.learner.prompts * config.learner.samples
    has_mprm = config.places_mprm
    for learner in _numbers(min(rows, gpus - each - has_mprm)):
        for mprm in _numbers(min(rows, gpus - each - learner)) if has_mprm else [0]:
            prompts = -(-config.learner.prompts // ((gpus - learner - mprm) // each))
            # No more engines than it takes for none to have more prompts.
            yield Split(-(-config.learner.prompts // prompts), learner, mprm)


def _numbers(most: int) -> Iterator[int]:
    """1, 2, 3, … up to ``most``, in ever larger steps."""
    number = 1
    while number < most:
        yield number
        number = max(number + 1, int(number * FINENESS))
    yield most
