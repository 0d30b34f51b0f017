"""Where Ray really puts the workers of a configuration, on pretended GPUs: where the dry run says."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import ray
from ray.cluster_utils import Cluster

from rl import parts
from rl.config import Config, load_config
from rl.instruments.planning.gpu_placement import place
from rl.reward_models import mprm
from rl.workers.group import WorkerGroup
from rl.workers.ray_cluster import as_started, kinds_of_workers
from tests.fixtures.runs import PATIENCE, ROOT, warm_ray

pytestmark = pytest.mark.slow

GPUS = 8
NODE = {"num_cpus": 16, "num_gpus": GPUS}
SHIPPED = [path.stem for path in sorted((ROOT / "configs").glob("*gpu.yaml"))]


class Seen(NamedTuple):
    """By a worker: its node, the GPUs that it may use, and when it was being made, in seconds of this machine."""

    node: str
    gpus: str
    began: float
    made: float


class Resident:
    """In the place of a model."""

    def __init__(self, config: Config) -> None:
        self._began = time.monotonic()
        time.sleep(0.2)
        self._made = time.monotonic()

    def seen(self) -> Seen:
        """What there is to see."""
        node = ray.get_runtime_context().get_node_id()
        return Seen(node, os.environ["CUDA_VISIBLE_DEVICES"], self._began, self._made)

    def close(self) -> None:
        """Nothing to take leave of."""


@pytest.fixture(scope="module")
def node() -> Iterator[Cluster]:
    """One with GPUs that Ray believes in, and workers without models."""
    with pytest.MonkeyPatch.context() as patch, warm_ray():
        for module, build in ((parts, "build_engine"), (parts, "build_learner"), (mprm, "build_mprm")):
            patch.setattr(module, build, Resident)
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        # As it is where vLLM's own clusters were: Ray would tell no worker which GPUs are its own.
        patch.setenv("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", "1")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        cluster = Cluster(True, head_node_args=NODE | {"include_dashboard": False})
        ray.init(cluster.address, log_to_driver=False, logging_level="error")
        yield cluster
        ray.shutdown()
        cluster.shutdown()


def seen(config: Config) -> dict[tuple[str, int], Seen]:
    """What the workers of a run see, by role and number within it; they are gone again."""
    started = parts.start_workers(config)
    workers: dict[str, list[Any]] = {role: getattr(there, "workers", [there]) for role, there in started.items()}
    for each in workers.values():
        each[0].call("seen")  # of ranks, the first answers are that they are built
    answers = {role: [part for one in each for part in one.start("seen").parts] for role, each in workers.items()}
    found = {(role, number): part.result() for role, each in answers.items() for number, part in enumerate(each)}
    for worker in (worker for each in workers.values() for worker in each):
        worker.close() if isinstance(worker, WorkerGroup) else ray.kill(worker._actor)
    until = time.monotonic() + PATIENCE
    while ray.available_resources().get("GPU") != ray.cluster_resources()["GPU"]:
        assert time.monotonic() < until, "Ray keeps what they had"
        time.sleep(0.1)
    return found


def planned(config: Config) -> list[dict[tuple[str, int], str]]:
    """By node: workers, and the GPUs that the dry run gives them; those without any are on no node."""
    nodes: dict[int, dict[tuple[str, int], list[int]]] = {}
    for gpu in place(config, GPUS):
        for worker in gpu.workers:
            nodes.setdefault(gpu.node, {}).setdefault(worker, []).append(gpu.index)
    return [{worker: ",".join(map(str, gpus)) for worker, gpus in node.items()} for node in nodes.values()]


def by_node(found: dict[tuple[str, int], Seen]) -> list[dict[tuple[str, int], str]]:
    """As `planned` has it; who sees no GPU may be anywhere."""
    nodes: dict[str, dict[tuple[str, int], str]] = {}
    for worker, there in found.items():
        if there.gpus:
            nodes.setdefault(there.node, {})[worker] = there.gpus
    return list(nodes.values())


@pytest.mark.parametrize("overrides", [[], ["mprm.num_gpus=0"]], ids=["as shipped", "one on the CPU"])
@pytest.mark.parametrize("name", SHIPPED)
def test_workers_are_where_the_plan_says_and_see_nothing_else(name: str, overrides: list[str], node: Cluster) -> None:
    config = load_config(ROOT / "configs" / f"{name}.yaml", overrides)
    found = seen(config)
    assert found.keys() == {(kind.role, n) for kind in kinds_of_workers(config) for n in range(kind.number)}
    assert by_node(found) == planned(config)
    assert (found["mprm", 0].gpus == "") == bool(overrides)


def test_on_two_nodes_they_are_together_as_the_plan_says(node: Cluster) -> None:
    """Which of the nodes is the first, is Ray's affair."""
    config = load_config(ROOT / "configs" / "qwen2_5_vl_7b_2nodes.yaml")
    second = node.add_node(**NODE)
    try:
        found = by_node(seen(config))
    finally:
        node.remove_node(second)
    assert len(found) == 2 and all(there in found for there in planned(config))


@pytest.mark.parametrize("num_gpus", [0, 0.3])
def test_engines_that_share_a_gpu_are_there_before_anyone_else_takes_some_of_it(num_gpus: float, node: Cluster) -> None:
    """vLLM would count it as its own, and have less, or no cache."""
    share = {"num_gpus": num_gpus}
    config = Config.model_validate(
        {"engine": share | {"count": 2}, "learner": share, "mprm": share, "deadline": PATIENCE}
    )
    assert [kind.role for kind in as_started(config)] == ["engine", "learner", "mprm"]
    found = seen(config)
    first, second = (found["engine", number] for number in range(2))
    assert first.made <= second.began and all(second.made <= found[other, 0].began for other in ("learner", "mprm"))
