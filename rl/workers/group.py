"""Several processes that do one piece of work together: the ranks of a `torch.distributed` group, each a Ray actor."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rl.config import Config
from rl.errors import WorkerError
from rl.workers.answer import Answer, wait_for_all
from rl.workers.inline import InlineWorker
from rl.workers.ray_cluster import environment_of, kind_of
from rl.workers.shortage import telling_what_is_free
from rl.workers.worker import Worker, made, worker_environment


def start(role: str, build: Callable[[], Any], config: Config) -> Worker | WorkerGroup | InlineWorker:
    """Start the model of a role: here, or where Ray places it, in one process or in several ranks; see `InlineWorker`,
    `Worker` and `WorkerGroup`."""
    kind, name = kind_of(config, role), role.replace("_", " ")
    if config.workers == "inline":
        return InlineWorker(name, build)
    environment = environment_of(config, kind)
    if kind.number == 1:
        return Worker(name, build, kind.num_cpus, kind.num_gpus, config.deadline, environment)
    return WorkerGroup(name, build, kind.number, kind.num_cpus, kind.num_gpus, config.deadline, environment)


class WorkerGroup:
    """Like a `rl.workers.worker.Worker`, whose object lives in several ranks: every call goes to all of them.

    Args:
        name: For messages.
        build: Makes a rank's object, inside its process, once ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``,
            ``MASTER_ADDR`` and ``MASTER_PORT`` say how the ranks find each other.
        ranks: How many.
        num_cpus, num_gpus: What Ray reserves for each; all of them at once, or none, and near each other.
        deadline: Longest wait for any answer, in seconds.
        environment: Of each process; that of ranks of their own unless given.

    Raises:
        WorkerError: Ray has no room for all of them within the deadline.

    Attributes:
        beside: See `rl.workers.worker.Worker`.
    """

    beside: Sequence[Answer[Any]] = ()

    def __init__(
        self,
        name: str,
        build: Callable[[], Any],
        ranks: int,
        num_cpus: float,
        num_gpus: float,
        deadline: float,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self._deadline = name, deadline
        variables = dict(worker_environment(num_gpus, ranks) if environment is None else environment)
        options = {"num_cpus": num_cpus, "num_gpus": num_gpus, "runtime_env": {"env_vars": variables}}
        self._reserved = _reserve(name, ranks, {"CPU": num_cpus, "GPU": num_gpus}, deadline)
        self._actors = [
            _Rank.options(**options, scheduling_strategy=_place(self._reserved, rank)).remote()  # type: ignore[attr-defined]
            for rank in range(ranks)
        ]
        # Nobody waits for the first rank's process here: those of other workers start beside it.
        met = self._actors[0].meeting_point.remote()
        referred = [ray.put(build)]
        self._built = [actor.build.remote(referred, rank, ranks, met) for rank, actor in enumerate(self._actors)]

    def start(self, method: str, *arguments: Any) -> GroupAnswer:
        """Begin ``object.method(*arguments)`` in every rank; calls run one after another, in this order.

        An argument may be another worker's answer under way, by its ``reference``.
        """
        description = f"{self.name}.{method}"
        shared = [argument if isinstance(argument, ray.ObjectRef) else ray.put(argument) for argument in arguments]
        built = [Answer[None](reference, self.name, self._deadline) for reference in self._built]
        self._built = []
        answers = [
            Answer[Any](
                actor.call.options(name=description).remote(method, *shared),
                f"{description} (rank {rank})",
                self._deadline,
            )
            for rank, actor in enumerate(self._actors)
        ]
        return GroupAnswer(built, answers, self.beside)

    def call(self, method: str, *arguments: Any) -> Any:
        """`start`, and wait for the answer."""
        return self.start(method, *arguments).result()

    def close(self) -> None:
        """Let the ranks take leave of each other, by their object's ``close``, and give back what was reserved."""
        try:
            self.call("close")
        finally:
            for actor in self._actors:
                ray.kill(actor)
            if self._reserved is not None:
                remove_placement_group(self._reserved)


class GroupAnswer:
    """The pending answers of all ranks; the first rank's counts, and can be handed on by its ``reference``."""

    def __init__(
        self, built: Sequence[Answer[None]], answers: Sequence[Answer[Any]], beside: Sequence[Answer[Any]]
    ) -> None:
        self.parts, self._answer, self._beside = [*built, *answers], answers[0], beside
        self.reference = answers[0].reference

    def result(self) -> Any:
        """Wait for all ranks.

        Raises:
            WorkerError: A rank died, raised, or did not answer in time.
        """
        wait_for_all(self.parts, self._beside)
        return self._answer.own_result()


def _reserve(name: str, ranks: int, each: dict[str, float], deadline: float) -> PlacementGroup | None:
    """Room for every rank, on as few machines as it takes; None where nothing is to be reserved."""
    bundle = {resource: amount for resource, amount in each.items() if amount}
    if not bundle:
        return None
    group = placement_group([bundle] * ranks, strategy="PACK")
    if not group.wait(timeout_seconds=deadline):
        remove_placement_group(group)
        wanted = " and ".join(f"{amount:g} {resource}" for resource, amount in bundle.items())
        raise WorkerError(f"{name}: no room for {ranks} ranks of {wanted} each within {deadline:g} s (deadline)")
    return group


def _place(group: PlacementGroup | None, rank: int) -> PlacementGroupSchedulingStrategy | str:
    return "DEFAULT" if group is None else PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)


@ray.remote
class _Rank:
    """The actor around one rank's object."""

    def __init__(self) -> None:
        self._object: Any = None

    def meeting_point(self) -> tuple[str, int]:
        """An address on this machine that the ranks can meet at."""
        with socket.socket() as found:
            found.bind(("", 0))
            return ray.util.get_node_ip_address(), found.getsockname()[1]

    def build(self, build: Sequence[Any], rank: int, ranks: int, meeting_point: tuple[str, int]) -> None:
        os.environ.update(_environment(rank, ranks, *meeting_point))
        self._object = made(build)

    def call(self, method: str, *arguments: Any) -> Any:
        with telling_what_is_free():
            return getattr(self._object, method)(*arguments)


def _environment(rank: int, ranks: int, host: str, port: int) -> dict[str, str]:
    # Ray shows each actor its own GPUs alone: the first of them is the rank's.
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_RANK": "0",
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
    }
