"""Answers that are not there yet, as plain Python sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

Result_co = TypeVar("Result_co", covariant=True)
Result = TypeVar("Result")


class Pending(Protocol[Result_co]):
    """Work under way."""

    def result(self) -> Result_co:
        """Wait for it; raises `rl.errors.WorkerError`."""
        ...


@dataclass(frozen=True)
class Ready(Generic[Result]):
    """An answer that is already there."""

    answer: Result

    def result(self) -> Result:
        return self.answer


@dataclass(frozen=True)
class Here:
    """An object of this process, which answers at once as a worker does.

    >>> Here("a b").call("split"), Here("a b").start("upper").result()
    (['a', 'b'], 'A B')
    """

    resident: Any

    def start(self, method: str, *arguments: Any) -> Ready[Any]:
        """Like `rl.workers.worker.Worker.start`."""
        return Ready(self.call(method, *arguments))

    def call(self, method: str, *arguments: Any) -> Any:
        """Like `rl.workers.worker.Worker.call`."""
        return getattr(self.resident, method)(*arguments)


class Starts(Protocol):
    """Who begins work when asked: a worker, several ranks as one, or what answers in their place."""

    def start(self, method: str, *arguments: Any) -> Pending[Any]:
        """Begin ``method(*arguments)``; see `rl.workers.worker.Worker.start`."""
        ...
