"""Where Ray really puts the workers of every configuration, on pretended GPUs: where the dry run says."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from rl import parts
from rl.config import Config, load_config
from rl.instruments.planning.gpu_placement import place
from rl.reward_models import mprm
from rl.workers.group import WorkerGroup
from rl.workers.ray_cluster import as_started, join_ray, leave_ray, share_gpus
from tests.fixtures.placed_resident import Resident
from tests.fixtures.runs import PATIENCE, ROOT, ray_cluster, warm_ray

pytestmark = pytest.mark.slow

NODE: dict[str, Any] = {"num_cpus": 16, "num_gpus": 8}
QUIET = {"include_dashboard": False, "_system_config": {"prestart_worker_first_driver": False}}
PLACED = {
    tuple(as_started(config)): (path, overrides)
    for path in sorted((ROOT / "configs").glob("*.yaml"))
    for overrides in ([], ["mprm.num_gpus=0"])
    for config in [load_config(path, overrides)]
}
"""Every shipped configuration, and with a reward model on the CPU; of those that place the same workers, one."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A node with GPUs that Ray believes in, and workers without models."""
    with warm_ray(), pytest.MonkeyPatch.context() as patch:
        for module, build in ((parts, "build_engine"), (parts, "build_learner"), (mprm, "build_mprm")):
            patch.setattr(module, build, Resident)
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        # As it is where vLLM's own clusters were: Ray would tell no worker which GPUs are its own.
        patch.setenv("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", "1")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        with ray_cluster(**NODE, **QUIET) as joined:
            patch.setenv("RAY_ADDRESS", joined.address)
            join_ray()
            yield joined
            leave_ray()


def seen(config: Config) -> dict[tuple[str, int], tuple[str, str, float, float]]:
    """What every worker of a run saw, by role and number within it; they are gone then."""
    started = parts.start_workers(config)
    assert [*started] == [kind.role for kind in as_started(config)], "the order that the plan gives GPUs out in"
    workers = {role: getattr(there, "workers", [there]) for role, there in started.items()}
    for each in workers.values():
        each[0].call("seen")  # of ranks, the first answers are that they are built
    answers = {role: [part for one in each for part in one.start("seen").parts] for role, each in workers.items()}
    found = {(role, number): part.result() for role, each in answers.items() for number, part in enumerate(each)}
    for each in workers.values():
        for worker in each:
            if isinstance(worker, WorkerGroup):
                worker.close()
            else:
                ray.kill(worker._actor)
    until = time.monotonic() + PATIENCE
    while ray.available_resources().get("GPU") != ray.cluster_resources()["GPU"]:
        assert time.monotonic() < until, "the next ones would find GPUs taken"
        time.sleep(0.1)
    return found


def together(placed: list[tuple[str, str, tuple[str, int]]]) -> set[frozenset[frozenset[tuple[str, int]]]]:
    """Of (node, GPU, worker): for each node, who is together on each of its GPUs. Their numbers are Ray's affair."""
    nodes: dict[str, dict[str, set[tuple[str, int]]]] = defaultdict(lambda: defaultdict(set))
    for node, gpu, worker in placed:
        nodes[node][gpu].add(worker)
    return {frozenset(frozenset(workers) for workers in gpus.values()) for gpus in nodes.values()}


@pytest.mark.parametrize(
    ("path", "overrides"), PLACED.values(), ids=[" ".join((path.stem, *more)) for path, more in PLACED.values()]
)
def test_workers_are_where_the_plan_says_and_see_nothing_else(
    path: Path, overrides: list[str], cluster: Cluster
) -> None:
    config = load_config(path, overrides)
    planned = [
        (str(gpu.node), str(gpu.index), worker) for gpu in place(config, NODE["num_gpus"]) for worker in gpu.workers
    ]
    others = [cluster.add_node(**NODE) for _ in {node for node, _, _ in planned} - {"0"}]
    found = seen(config)
    for other in others:
        cluster.remove_node(other)
    visible = [(node, gpu, worker) for worker, (node, gpus, _, _) in found.items() for gpu in gpus.split(",") if gpu]
    if not planned:  # nobody reserves a GPU: all use the first
        planned = [("0", "0", worker) for worker in found]
    assert together(visible) == together(planned)


@pytest.mark.parametrize("num_gpus", [0, 0.3])
def test_engines_that_share_a_gpu_are_there_before_anyone_else_takes_some_of_it(
    num_gpus: float, cluster: Cluster
) -> None:
    """vLLM would count it as its own, and have less, or no cache."""
    share = {"num_gpus": num_gpus}
    config = Config.model_validate(
        {"engine": share | {"count": 2}, "learner": share, "mprm": share, "deadline": PATIENCE}
    )
    assert [kind.role for kind in as_started(config)] == ["engine", "learner", "mprm"]
    assert share_gpus(config) and not share_gpus(Config.model_validate({"engine": {"num_gpus": 1}}))
    found = seen(config)
    (*_, first), (_, _, second_began, second) = (found["engine", number] for number in range(2))
    assert first <= second_began and all(second <= found[other, 0][2] for other in ("learner", "mprm"))
