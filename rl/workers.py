"""Ray: the one place where plain objects become actors, and every wait gets its deadline."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import ray
from ray._private import ray_constants
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from rewards.records import Completion, PromptError, SamplingRequest
from rl.config import Config
from rl.errors import ConfigError, LostWorkerError, WorkerError
from rl.pending import Pending
from rl.planning.gpu_placement import kinds_of_workers

Result = TypeVar("Result")


SECONDS_TO_REACH = 5
"""What the head of a cluster gets to answer."""


WORKER_ENVIRONMENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}


def worker_environment(num_gpus: float, ranks: int = 1) -> dict[str, str]:
    """The environment of a worker that reserves so much of a GPU, or of each of several ranks.

    Without any, a worker may use the first GPU that is there: the quickstart's file serves both kinds of machine. Ranks
    could not share it, and stay on the CPU.
    """
    if num_gpus:
        return WORKER_ENVIRONMENT
    first, *_ = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")
    return WORKER_ENVIRONMENT | {"CUDA_VISIBLE_DEVICES": first if ranks == 1 else ""}


class Answer(Generic[Result]):
    """The pending answer of one `Worker`; its ``reference`` can be handed to another worker without waiting for it."""

    def __init__(self, reference: Any, description: str, deadline: float) -> None:
        self.reference, self.deadline, self.description = reference, deadline, description

    def result(self) -> Result:
        """Wait for the answer, at most the deadline.

        Raises:
            WorkerError: The worker died, raised, or did not answer in time.
            PromptError: It was asked for an answer to what is no prompt for it.
        """
        try:
            return ray.get(self.reference, timeout=self.deadline)
        except GetTimeoutError:
            raise LostWorkerError(f"{self.description}: no answer within {self.deadline:g} s (deadline)") from None
        except RayError as error:
            if isinstance(error, RayTaskError) and isinstance(error.cause, PromptError):
                raise error.cause from None  # the user's data, and not the worker
            raise _failure(self.description, error) from error


def _failure(description: str, error: RayError) -> WorkerError:
    """What an error that a call ended with comes to."""
    cause = error.cause if isinstance(error, RayTaskError) and error.cause is not None else error
    if isinstance(cause, RayActorError):
        # An actor that could not be made says why in its last line, one that was killed in its first.
        lines, made = str(cause).strip().splitlines(), not getattr(cause, "actor_init_failed", False)
        why = f"the worker died: {lines[0] if made else lines[-1]}"
        return LostWorkerError(f"{description}: {why}") if made else WorkerError(f"{description}: {why}")
    why = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
    # PyTorch says RuntimeError of devices and peers that fail; what else a worker raises, a new one would raise again.
    is_loss = isinstance(cause, RuntimeError | RayError) and not isinstance(cause, RayTaskError)
    return LostWorkerError(f"{description}: {why}") if is_loss else WorkerError(f"{description}: {why}")


class Worker:
    """An object of a plain class, living in a process of its own.

    Args:
        name: For messages.
        build: Makes the object, inside the worker's process.
        num_cpus, num_gpus: What Ray reserves.
        deadline: Longest wait for any answer, in seconds.
    """

    def __init__(self, name: str, build: Callable[[], Any], num_cpus: float, num_gpus: float, deadline: float) -> None:
        self.name, self._deadline = name, deadline
        self._actor = _Resident.options(  # type: ignore[attr-defined]
            num_cpus=num_cpus, num_gpus=num_gpus, runtime_env={"env_vars": worker_environment(num_gpus)}
        ).remote(build)

    def start(self, method: str, *arguments: Any) -> Answer[Any]:
        """Begin ``object.method(*arguments)``; calls to one worker run one after another, in this order."""
        return self._begin(self._actor.call, method, *arguments)

    def start_timed(self, method: str, *arguments: Any) -> Answer[tuple[float, Any]]:
        """`start`, with the seconds that it took there, not counting what it waited for earlier calls."""
        return self._begin(self._actor.timed_call, method, *arguments)

    def call(self, method: str, *arguments: Any) -> Any:
        """`start`, and wait for the answer."""
        return self.start(method, *arguments).result()

    def _begin(self, call: Any, method: str, *arguments: Any) -> Answer[Any]:
        # `ps` and `top` show the name while the call is under way.
        description = f"{self.name}.{method}"
        return Answer(call.options(name=description).remote(method, *arguments), description, self._deadline)


@ray.remote
class _Resident:
    """The actor around a worker's object."""

    def __init__(self, build: Callable[[], Any]) -> None:
        self._object = build()

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._object, method)(*arguments)

    def timed_call(self, method: str, *arguments: Any) -> tuple[float, Any]:
        start = time.perf_counter()
        result = self.call(method, *arguments)
        return time.perf_counter() - start, result


class EnginePool:
    """Several engines as one: a prompt's requests in one call go to one of them, which so computes their prefixes once.

    Attributes:
        busy_seconds: What the engines spent on sampling, all of them together, as far as the answers have been seen.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self.busy_seconds = 0.0

    def __len__(self) -> int:
        return len(self._workers)

    def sample(self, requests: Sequence[SamplingRequest]) -> Pending[list[list[Completion]]]:
        """Begin `rl.engines.engine.Engine.sample`."""
        prompts = dict.fromkeys(request.prompt.id for request in requests)
        owner = {prompt: index % len(self._workers) for index, prompt in enumerate(prompts)}
        shards: list[list[int]] = [[] for _ in self._workers]
        for position, request in enumerate(requests):
            shards[owner[request.prompt.id]].append(position)
        answers = [
            (shard, worker.start_timed("sample", [requests[position] for position in shard]))
            for worker, shard in zip(self._workers, shards, strict=True)
            if shard
        ]
        return _Merged(len(requests), answers, self._count)

    def start_all(self, method: str, *arguments: Any) -> list[Answer[Any]]:
        """Begin ``engine.method(*arguments)`` on every engine, behind what it was asked for before.

        An argument that is the ``reference`` of another worker's answer goes straight from there.
        """
        return self.start_each(method, [arguments] * len(self))

    def start_each(self, method: str, arguments: Sequence[Sequence[Any]]) -> list[Answer[Any]]:
        """`start_all`, with each engine's own arguments."""
        return [worker.start(method, *own) for worker, own in zip(self._workers, arguments, strict=True)]

    def _count(self, seconds: float) -> None:
        self.busy_seconds += seconds


class _Merged:
    """The answers of several engines, put back into the order of the requests, and counted when they are first seen."""

    def __init__(
        self,
        requests: int,
        answers: Sequence[tuple[list[int], Answer[tuple[float, list[list[Completion]]]]]],
        count: Callable[[float], None],
    ) -> None:
        self._merged: list[list[Completion]] = [[] for _ in range(requests)]
        self._answers, self._count = list(answers), count

    def result(self) -> list[list[Completion]]:
        while self._answers:
            shard, answer = self._answers[0]
            seconds, results = answer.result()
            self._count(seconds)
            for position, completions in zip(shard, results, strict=True):
                self._merged[position] = completions
            self._answers.pop(0)
        return self._merged


def join_ray() -> None:
    """Join the cluster that ``RAY_ADDRESS`` names, or start Ray on this machine, where it listens on loopback alone.

    Without that variable no other Ray is joined that happens to run here: it may be gone in the middle of the run.

    Raises:
        ConfigError: Nobody answers at that address.
        LostWorkerError: Ray does not start.
    """
    address = os.environ.get("RAY_ADDRESS", "local")
    if address == "local":
        _keep_to_loopback()
    _reach(address)
    # Ray would else hide all GPUs from workers that reserve none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level="error", ignore_reinit_error=True)
    except Exception as error:  # Ray has no kind of its own for what keeps it from starting
        raise LostWorkerError(f"Ray does not start: {' '.join(str(error).split())}") from error


def start_ray(config: Config) -> None:
    """`join_ray`, and see that there is room for the workers.

    Raises:
        ConfigError: Nobody answers at ``RAY_ADDRESS``, or the cluster is too small for the placement.
        LostWorkerError: Ray does not start.
    """
    join_ray()
    there = ray.cluster_resources()
    kinds = kinds_of_workers(config)
    wanted = {
        "CPU": sum(kind.number * kind.num_cpus for kind in kinds),
        "GPU": sum(kind.number * kind.num_gpus for kind in kinds),
    }
    for resource, needed in wanted.items():
        if needed > there.get(resource, 0):
            raise ConfigError(
                f"the placement needs {needed:g} {resource}s and Ray has {there.get(resource, 0):g}: lower "
                f"engine.count, or num_{resource.lower()}s of engine, learner, mprm or outcome_model"
            )


def _reach(address: str) -> None:
    """Whether somebody answers there: Ray itself would try again for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:  # a word, as `auto` or `local`
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_REACH).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"nobody answers at RAY_ADDRESS, {address}: {error}; allowed is HOST:PORT of a running cluster"
        ) from None


def _keep_to_loopback() -> None:
    """Ray's servers run what anybody who reaches them sends, and listen on all addresses of a machine, unless it is
    told that there will be no cluster: by a variable named after desktops, and read at its import."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
