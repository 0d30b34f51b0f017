"""Ray: the one place where plain objects become actors, and every wait gets its deadline."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from rewards.records import Completion, SamplingRequest
from rl.config import Config, ConfigError
from rl.pending import Pending
from rl.planning.gpu_placement import kinds_of_workers

Result = TypeVar("Result")

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


class WorkerError(RuntimeError):
    """A worker died, raised, or did not answer in time; the message says which, at what, and why."""


class Answer(Generic[Result]):
    """The pending answer of one `Worker`; its ``reference`` can be handed to another worker without waiting for it."""

    def __init__(self, reference: Any, description: str, deadline: float) -> None:
        self.reference, self.deadline, self.description = reference, deadline, description

    def result(self) -> Result:
        """Wait for the answer, at most the deadline.

        Raises:
            WorkerError: The worker died, raised, or did not answer in time.
        """
        try:
            return ray.get(self.reference, timeout=self.deadline)
        except GetTimeoutError:
            raise WorkerError(f"{self.description}: no answer within {self.deadline:g} s (deadline)") from None
        except RayTaskError as error:
            cause = error.cause if error.cause is not None else error
            raise WorkerError(f"{self.description}: {type(cause).__name__}: {cause}") from error
        except RayActorError as error:
            # An actor that could not be made says why in its last line, one that was killed in its first.
            lines = str(error).strip().splitlines()
            cause = lines[-1] if getattr(error, "actor_init_failed", False) else lines[0]
            raise WorkerError(f"{self.description}: the worker died: {cause}") from error


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
        return Answer(self._actor.call.remote(method, *arguments), f"{self.name}.{method}", self._deadline)

    def start_timed(self, method: str, *arguments: Any) -> Answer[tuple[float, Any]]:
        """`start`, with the seconds that it took there, not counting what it waited for earlier calls."""
        return Answer(self._actor.timed_call.remote(method, *arguments), f"{self.name}.{method}", self._deadline)

    def call(self, method: str, *arguments: Any) -> Any:
        """`start`, and wait for the answer."""
        return self.start(method, *arguments).result()


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


def start_ray(config: Config) -> None:
    """Join the cluster that ``RAY_ADDRESS`` names, or start Ray on this machine.

    Raises:
        ConfigError: The cluster is too small for the placement.
    """
    # Ray would else hide all GPUs from workers that reserve none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="error", ignore_reinit_error=True)
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
