"""A machine that dies, of two that Ray has joined: both are here, each with a Ray node of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from tests.fixtures.runs import SMOKE, Running, answers, metrics, ray_cluster, warm_ray

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Two nodes, either of which could hold the whole run."""
    with warm_ray(), ray_cluster(num_cpus=2, include_dashboard=False) as joined:
        yield joined


def test_a_run_whose_second_node_dies_goes_on_with_the_first(cluster: Cluster, tmp_path: Path) -> None:
    run = tmp_path / "run"
    second = cluster.add_node(num_cpus=2)
    (raylet,) = second.all_processes["raylet"]
    options = ("engine.kind=hf", "max_staleness=1", "steps=3", "evaluation.prompts=4", "checkpoint_every=1")
    running = Running("train", SMOKE, f"output_dir={run}", *options, RAY_ADDRESS=cluster.address)
    running.wait_for("step 1/3")
    children = psutil.Process(raylet.process.pid).children()
    there = [child for child, words in answers(children, psutil.Process.cmdline) if "worker.py" in " ".join(words)]
    assert there, "some workers run on the second node"
    cluster.remove_node(second, allow_graceful=False)
    running.wait_for("beginning anew (1 of 3)")
    code, said = running.end()
    assert code == 0, said
    found = metrics(run, timed=True)
    assert sorted(found) == [0, 1, 2, 3]
    assert 1 <= found[3]["perf/recoveries"] <= 3, "Ray may send a worker to the dead node once more before it knows"
    assert found[3]["perf/prompts_asked"] == 3 * 4, "the prompts of three steps, none lost and none asked twice"
