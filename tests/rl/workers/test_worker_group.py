"""Ranks on Ray: their answers travel on without a detour, and what they reserved is given back."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator

import pytest
import ray
import torch

from rl.errors import LostWorkerError, MemoryShortageError, WorkerError
from rl.workers.group import WorkerGroup
from rl.workers.ray_cluster import join_ray, leave_ray
from rl.workers.worker import Worker
from tests.fixtures.runs import PATIENCE, warm_ray


class Member:
    """Says who it is."""

    def __init__(self) -> None:
        self.closed = False

    def double(self, value: int) -> list[int]:
        """Twice the value, with the rank."""
        return [2 * value, int(os.environ.get("RANK", "0"))]

    def add(self, values: list[int]) -> int:
        """What another one's answer sums to."""
        return sum(values)

    def break_one(self) -> None:
        """The second rank raises; the first would wait for it."""
        if os.environ["RANK"] == "1":
            raise ValueError("no")
        time.sleep(5)

    def die_alone(self) -> None:
        """The second rank dies; the first one notices first, and raises what PyTorch would."""
        if os.environ["RANK"] == "1":
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("Connection closed by peer")

    def ask(self, numbers: int) -> None:
        """For memory that no machine has."""
        torch.zeros(numbers)

    def ask_gpu(self) -> None:
        """For memory that a GPU has not: what PyTorch says of it."""
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.25 GiB of which "
            "3.12 GiB is free. Including non-PyTorch memory, this process has 76.12 GiB memory in use."
        )

    def close(self) -> None:
        """Nothing to take leave of."""


@pytest.fixture(scope="module")
def two_cpus() -> Iterator[None]:
    with warm_ray():
        join_ray(num_cpus=2)
        yield
        leave_ray()


@pytest.mark.slow
def test_a_group_works_like_a_worker(two_cpus: None) -> None:
    group = WorkerGroup("members", Member, ranks=2, num_cpus=0.5, num_gpus=0, deadline=PATIENCE)
    other = Worker("other", Member, 0.5, 0, deadline=PATIENCE)
    assert group.call("double", 4) == [8, 0], "the first rank's answer"
    assert ray.available_resources()["CPU"] == pytest.approx(0.5)
    under_way = group.start("double", 5)
    assert other.call("add", under_way.reference) == 10
    assert group.call("add", other.start("double", 7).reference) == 14, "and the other way round"
    with pytest.raises(WorkerError, match=r"members.break_one \(rank 1\): ValueError: no"):
        group.call("break_one")
    with pytest.raises(WorkerError, match=r"many: no room for 3 ranks of 0.6 CPU each within 1 s \(deadline\)"):
        WorkerGroup("many", Member, ranks=3, num_cpus=0.6, num_gpus=0, deadline=1)
    group.close()
    until = time.monotonic() + PATIENCE
    while ray.available_resources()["CPU"] < 1.4 and time.monotonic() < until:
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == pytest.approx(1.5), "all that the group had is free"


@pytest.mark.slow
def test_where_one_rank_dies_that_is_the_cause_whoever_complains_first(two_cpus: None) -> None:
    group = WorkerGroup("members", Member, ranks=2, num_cpus=0.5, num_gpus=0, deadline=PATIENCE)
    assert group.call("double", 4) == [8, 0], "both are there"
    with pytest.raises(LostWorkerError, match=r"^members.die_alone \(rank 1\): the worker died: "):
        group.call("die_alone")


@pytest.mark.slow
def test_memory_that_ran_out_is_told_with_what_was_asked_for_and_what_was_there(two_cpus: None) -> None:
    other = Worker("engine 0", Member, 0, 0, deadline=PATIENCE)
    with pytest.raises(MemoryShortageError) as short:
        other.call("ask", 2**50)
    said = r"^engine 0.ask: out of memory: asked for 4194304.00 GiB, and \d+.\d\d GiB of \d+.\d\d GiB were free$"
    assert re.match(said, str(short.value)) and short.value.worker == "engine 0"
    group = WorkerGroup("learner", Member, ranks=2, num_cpus=0, num_gpus=0, deadline=PATIENCE)
    with pytest.raises(MemoryShortageError) as short:
        group.call("ask_gpu")
    assert short.value.worker == "learner" and str(short.value).endswith(
        "out of memory: asked for 20.00 GiB, and 3.12 GiB of 79.25 GiB were free"
    )
    group.close()
