"""Ray: the one place where plain objects become actors."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from rl.files.importing import importing
from rl.files.quiet import QUIET_LIBRARIES
from rl.workers.answer import Answer
from rl.workers.shortage import telling_what_is_free

OF_ALL_WORKERS = QUIET_LIBRARIES | {
    # Users of vLLM often have it at 1: Ray would then give GPUs out and tell nobody, and everyone take the first.
    "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "0",
}


def worker_environment(num_gpus: float, ranks: int = 1, is_reserved: bool = False) -> dict[str, str]:
    """The environment of a worker that reserves so much of a GPU, or of each of several ranks.

    Without any, a worker may use the first GPU that is there, unless others have ``is_reserved`` it: the quickstart's
    file serves both kinds of machine. Ranks could not share it, and stay on the CPU.
    """
    if num_gpus:
        return dict(OF_ALL_WORKERS)
    first, *_ = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")
    return OF_ALL_WORKERS | {"CUDA_VISIBLE_DEVICES": "" if is_reserved or ranks > 1 else first}


class Worker:
    """An object of a plain class, living in a process of its own.

    Args:
        name: For messages.
        build: Makes the object, inside the worker's process.
        num_cpus, num_gpus: What Ray reserves.
        deadline: Longest wait for any answer, in seconds.
        environment: Of its process; that of a worker of its own unless given.

    Attributes:
        beside: Answers of others that this worker's may have to wait for.
    """

    beside: Sequence[Answer[Any]] = ()

    def __init__(
        self,
        name: str,
        build: Callable[[], Any],
        num_cpus: float,
        num_gpus: float,
        deadline: float,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self._deadline = name, deadline
        variables = dict(worker_environment(num_gpus) if environment is None else environment)
        self._actor = _Resident.options(  # type: ignore[attr-defined]
            num_cpus=num_cpus, num_gpus=num_gpus, runtime_env={"env_vars": variables}
        ).remote([ray.put(build)])

    def built(self) -> Answer[None]:
        """The answer that is there once the object is."""
        return self._begin(self._actor.built, "start")

    def start(self, method: str, *arguments: Any) -> Answer[Any]:
        """Begin ``object.method(*arguments)``; calls to one worker run one after another, in this order."""
        return self._begin(self._actor.call, method, method, *arguments)

    def start_timed(self, method: str, *arguments: Any) -> Answer[tuple[float, Any]]:
        """`start`, with the seconds that it took there, not counting what it waited for earlier calls."""
        return self._begin(self._actor.timed_call, method, method, *arguments)

    def call(self, method: str, *arguments: Any) -> Any:
        """`start`, and wait for the answer."""
        return self.start(method, *arguments).result()

    def _begin(self, call: Any, shown: str, *arguments: Any) -> Answer[Any]:
        # `ps` and `top` show the name while the call is under way.
        description = f"{self.name}.{shown}"
        reference = call.options(name=description).remote(*arguments)
        return Answer(reference, description, self._deadline, self.beside)


def made(build: Sequence[Any]) -> Any:
    """The object of an actor, by Ray's reference to the function that makes it, the only entry of ``build``: outside of
    a list Ray itself would fetch it, and with it all libraries that it needs.

    All that was imported and built stays: the collector need not look through it again and again.
    """
    with telling_what_is_free():
        with importing():
            make = ray.get(build[0])
        resident = make()
    gc.collect()
    gc.freeze()
    return resident


@ray.remote
class _Resident:
    """The actor around a worker's object."""

    def __init__(self, build: Sequence[Any]) -> None:
        self._object = made(build)

    def built(self) -> None:
        """Answers once it is."""

    def call(self, method: str, *arguments: Any) -> Any:
        with telling_what_is_free():
            return getattr(self._object, method)(*arguments)

    def timed_call(self, method: str, *arguments: Any) -> tuple[float, Any]:
        start = time.perf_counter()
        result = self.call(method, *arguments)
        return time.perf_counter() - start, result
