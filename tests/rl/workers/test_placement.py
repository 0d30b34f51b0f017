"""Where Ray really puts the workers of a configuration, on pretended GPUs: where the dry run says."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rl import parts
from rl.config import Config, load_config
from rl.instruments.planning.gpu_placement import place
from rl.reward_models import mprm
from rl.workers.ray_cluster import as_started, join_ray, kinds_of_workers, leave_ray
from tests.fixtures.runs import PATIENCE, ROOT, warm_ray

pytestmark = pytest.mark.slow

GPUS = 8


class Resident:
    """In the place of a model: says which GPUs it sees, and when it was made."""

    def __init__(self, config: Config) -> None:
        self._began = time.monotonic()
        time.sleep(0.2)
        self._made = time.monotonic()

    def seen(self) -> tuple[str, float, float]:
        """GPUs, and the beginning and end of its making, in seconds of this machine."""
        return os.environ["CUDA_VISIBLE_DEVICES"], self._began, self._made

    def close(self) -> None:
        """Nothing to take leave of."""


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A node with GPUs that Ray believes in, and workers without models."""
    for module, build in ((parts, "build_engine"), (parts, "build_learner"), (mprm, "build_mprm")):
        monkeypatch.setattr(module, build, Resident)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    # As it is where vLLM's own clusters were: Ray would tell no worker which GPUs are its own.
    monkeypatch.setenv("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with warm_ray():
        join_ray(num_cpus=16, num_gpus=GPUS)
        yield
        leave_ray()


def seen(started: dict[str, Any]) -> dict[tuple[str, int], tuple[str, float, float]]:
    """By role and number within it."""
    workers = {role: getattr(there, "workers", [there]) for role, there in started.items()}
    for each in workers.values():
        each[0].call("seen")  # of ranks, the first answers are that they are built
    answers = {role: [part for one in each for part in one.start("seen").parts] for role, each in workers.items()}
    return {(role, number): part.result() for role, each in answers.items() for number, part in enumerate(each)}


@pytest.mark.parametrize(
    ("name", "overrides"),
    [("qwen2_5_vl_7b_8gpu", ["mprm.num_gpus=0"]), ("qwen2_5_vl_7b_8gpu", []), ("qwen2_5_vl_3b_1gpu", [])],
    ids=["one on the CPU", "whole GPUs", "shared"],
)
def test_workers_are_where_the_plan_says_and_see_nothing_else(name: str, overrides: list[str]) -> None:
    config = load_config(ROOT / "configs" / f"{name}.yaml", overrides)
    planned: dict[tuple[str, int], list[str]] = {
        (kind.role, number): [] for kind in kinds_of_workers(config) for number in range(kind.number)
    }
    for gpu in place(config, GPUS):
        for worker in gpu.workers:
            planned[worker].append(str(gpu.index))
    found = seen(parts.start_workers(config))
    assert {worker: gpus for worker, (gpus, _, _) in found.items()} == {
        worker: ",".join(gpus) for worker, gpus in planned.items()
    }


@pytest.mark.parametrize("num_gpus", [0, 0.3])
def test_engines_that_share_a_gpu_are_there_before_anyone_else_takes_some_of_it(num_gpus: float) -> None:
    """vLLM would count it as its own, and have less, or no cache."""
    share = {"num_gpus": num_gpus}
    config = Config.model_validate(
        {"engine": share | {"count": 2}, "learner": share, "mprm": share, "deadline": PATIENCE}
    )
    assert [kind.role for kind in as_started(config)] == ["engine", "learner", "mprm"]
    found = seen(parts.start_workers(config))
    (_, _, first), (_, second_began, second) = (found["engine", number] for number in range(2))
    assert first <= second_began and all(second <= found[other, 0][1] for other in ("learner", "mprm"))
