"""Several engines as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rewards.records import Completion, SamplingRequest
from rl.workers.inline import InlineWorker
from rl.workers.pending import Pending, Reply
from rl.workers.worker import Worker


class EnginePool:
    """Several engines as one: a prompt's requests in one call go to one of them, which so computes their prefixes once.

    Attributes:
        workers: The engines.
        busy_seconds: What the engines spent on sampling, all of them together, as far as the answers have been seen.
    """

    def __init__(self, workers: Sequence[Worker | InlineWorker]) -> None:
        self.workers = workers
        self.busy_seconds = 0.0
        self._held: _Held | None = None

    def __len__(self) -> int:
        return len(self.workers)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is asked for inside is sampled in one call, begun at the end: an engine decodes all of it side by side,
        in as many passes as the longest takes. No answer can be waited for before that."""
        self._held = held = _Held()
        try:
            yield
        finally:
            self._held = None
        call = self.sample(held.requests)
        for part in held.parts:
            part.call = call

    def sample(self, requests: Sequence[SamplingRequest]) -> Pending[list[list[Completion]]]:
        """Begin `rl.engines.engine.Engine.sample`; inside `together` it begins later."""
        if self._held is not None:
            return self._held.hold(requests)
        prompts = dict.fromkeys(request.prompt.id for request in requests)
        owner = {prompt: index % len(self.workers) for index, prompt in enumerate(prompts)}
        shards: list[list[int]] = [[] for _ in self.workers]
        for position, request in enumerate(requests):
            shards[owner[request.prompt.id]].append(position)
        answers = [
            (shard, worker.start_timed("sample", [requests[position] for position in shard]))
            for worker, shard in zip(self.workers, shards, strict=True)
            if shard
        ]
        return _Merged(len(requests), answers, self._count)

    def start_all(self, method: str, *arguments: Any) -> list[Reply[Any]]:
        """Begin ``engine.method(*arguments)`` on every engine, behind what it was asked for before.

        An argument that is the ``reference`` of another worker's answer goes straight from there.
        """
        return self.start_each(method, [arguments] * len(self))

    def start_each(self, method: str, arguments: Sequence[Sequence[Any]]) -> list[Reply[Any]]:
        """`start_all`, with each engine's own arguments."""
        return [worker.start(method, *own) for worker, own in zip(self.workers, arguments, strict=True)]

    def _count(self, seconds: float) -> None:
        self.busy_seconds += seconds


@dataclass
class _Part:
    """The answers to some of a call's requests; none before the call has begun."""

    first: int
    number: int
    call: Pending[list[list[Completion]]] | None = None
    answers: list[list[Completion]] | None = None

    def result(self) -> list[list[Completion]]:
        if self.answers is None:
            if self.call is None:
                raise RuntimeError("the engines have not been asked yet: see EnginePool.together")
            self.answers = self.call.result()[self.first : self.first + self.number]
            self.call = None  # else it would keep the answers to all of the call, as long as this is kept
        return self.answers


@dataclass
class _Held:
    """Requests of one call, and the parts that it will answer."""

    requests: list[SamplingRequest] = field(default_factory=list)
    parts: list[_Part] = field(default_factory=list)

    def hold(self, requests: Sequence[SamplingRequest]) -> _Part:
        self.parts.append(_Part(len(self.requests), len(requests)))
        self.requests += requests
        return self.parts[-1]


class _Merged:
    """The answers of several engines, put back into the order of the requests, and counted when they are first seen."""

    def __init__(
        self,
        requests: int,
        answers: Sequence[tuple[list[int], Reply[tuple[float, list[list[Completion]]]]]],
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
