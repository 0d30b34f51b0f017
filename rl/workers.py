"""Ray: the one place where plain objects become actors, and every wait gets its deadline."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from rewards.records import Completion, SamplingRequest
from rl.config import Config, ConfigError

Result_co = TypeVar("Result_co", covariant=True)
Result = TypeVar("Result")

WORKER_ENVIRONMENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}


class WorkerError(RuntimeError):
    """A worker died, raised, or did not answer in time; the message says which, at what, and why."""


class Pending(Protocol[Result_co]):
    """Work under way."""

    def result(self) -> Result_co:
        """Wait for it; raises `WorkerError`."""
        ...


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
            num_cpus=num_cpus, num_gpus=num_gpus, runtime_env={"env_vars": WORKER_ENVIRONMENT}
        ).remote(build)

    def start(self, method: str, *arguments: Any) -> Answer[Any]:
        """Begin ``object.method(*arguments)``; calls to one worker run one after another, in this order."""
        return Answer(self._actor.call.remote(method, *arguments), f"{self.name}.{method}", self._deadline)

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


class EnginePool:
    """Several engines as one: each prompt's requests go to one of them, so that its prefixes are cached there."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers

    def sample(self, requests: Sequence[SamplingRequest]) -> Pending[list[list[Completion]]]:
        """Begin `rl.engines.engine.Engine.sample`."""
        prompts = dict.fromkeys(request.prompt.id for request in requests)
        owner = {prompt: index % len(self._workers) for index, prompt in enumerate(prompts)}
        shards: list[list[int]] = [[] for _ in self._workers]
        for position, request in enumerate(requests):
            shards[owner[request.prompt.id]].append(position)
        answers = [
            (shard, worker.start("sample", [requests[position] for position in shard]))
            for worker, shard in zip(self._workers, shards, strict=True)
            if shard
        ]
        return _Merged(len(requests), answers)

    def load_weights(self, weights: Answer[Any], version: int) -> list[Answer[None]]:
        """Begin `rl.engines.engine.Engine.load_weights` on every engine; the weights go straight from their maker."""
        return [worker.start("load_weights", weights.reference, version) for worker in self._workers]


class _Merged:
    """The answers of several engines, put back into the order of the requests."""

    def __init__(self, requests: int, answers: Sequence[tuple[list[int], Answer[list[list[Completion]]]]]) -> None:
        self._requests, self._answers = requests, answers

    def result(self) -> list[list[Completion]]:
        merged: list[list[Completion]] = [[] for _ in range(self._requests)]
        for shard, answer in self._answers:
            for position, completions in zip(shard, answer.result(), strict=True):
                merged[position] = completions
        return merged


def placement(config: Config) -> dict[str, tuple[int, float, float]]:
    """Who runs where: for each kind of worker its number, CPUs and GPUs."""
    outcome_model = config.outcome_model
    return {
        "engine": (config.engine.count, config.engine.num_cpus, config.engine.num_gpus),
        "learner": (1, config.learner.num_cpus, config.learner.num_gpus),
        "mprm": (config.mprm.ranks, config.mprm.num_cpus, config.mprm.num_gpus),
        **({"outcome_model": (1, outcome_model.num_cpus, outcome_model.num_gpus)} if outcome_model.is_used else {}),
    }


def start_ray(config: Config) -> None:
    """Join the cluster that ``RAY_ADDRESS`` names, or start Ray on this machine.

    Raises:
        ConfigError: The cluster is too small for the placement.
    """
    # A worker that reserves no GPU may use one that is there: the quickstart's file serves both kinds of machine.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="error", ignore_reinit_error=True)
    there = ray.cluster_resources()
    for resource, column in (("CPU", 1), ("GPU", 2)):
        needed = sum(row[0] * row[column] for row in placement(config).values())
        if needed > there.get(resource, 0):
            raise ConfigError(
                f"the placement needs {needed:g} {resource}s and Ray has {there.get(resource, 0):g}: lower "
                f"engine.count, or num_{resource.lower()}s of engine, learner, mprm or outcome_model"
            )
