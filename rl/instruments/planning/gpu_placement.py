"""Which worker sits on which GPU of which node, as Ray packs them: a share of a GPU goes to the fullest one that has
room, whole GPUs to the first node that has enough of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from rl.config import Config
from rl.errors import ConfigError
from rl.workers.ray_cluster import as_started, kinds_of_workers

EMPTY = 1e-9


@dataclass
class Gpu:
    """A GPU and who is on it: (role, number within the role)."""

    node: int
    index: int
    workers: list[tuple[str, int]] = field(default_factory=list)
    used: float = 0.0


def place(config: Config, gpus_per_node: int = 8) -> list[Gpu]:
    """The GPUs that the workers take, node by node; empty for a run on CPUs alone.

    Raises:
        ConfigError: A worker reserves a number of GPUs that no placement can give it.
    """
    _check(config, gpus_per_node)
    nodes: list[list[Gpu]] = []
    for kind in as_started(config):
        for number in range(kind.number if kind.num_gpus else 0):
            for gpu in _room(nodes, kind.num_gpus, gpus_per_node):
                gpu.workers.append((kind.role, number))
                gpu.used += min(kind.num_gpus, 1.0)
    shown = [kind.role for kind in kinds_of_workers(config)]
    for gpu in (taken := [gpu for node in nodes for gpu in node if gpu.workers]):
        gpu.workers.sort(key=lambda worker: shown.index(worker[0]))
    return taken


def _room(nodes: list[list[Gpu]], wanted: float, gpus_per_node: int) -> list[Gpu]:
    for node in nodes:
        if wanted < 1:
            fitting = [gpu for gpu in node if gpu.used + wanted <= 1 + EMPTY]
            # Of equally full ones the first.
            started = sorted(fitting, key=lambda gpu: -gpu.used)
            if started:
                return started[:1]
        else:
            free = [gpu for gpu in node if gpu.used == 0]
            if len(free) >= wanted:
                return free[: int(wanted)]
    nodes.append([Gpu(len(nodes), index) for index in range(gpus_per_node)])
    return _room(nodes, wanted, gpus_per_node)


def _check(config: Config, gpus_per_node: int) -> None:
    for kind in kinds_of_workers(config):
        if kind.num_gpus > gpus_per_node:
            raise ConfigError(
                f"{kind.role}.num_gpus is {kind.num_gpus:g}: allowed is at most the {gpus_per_node} GPUs of a node"
            )
