"""Answers that are not there yet, as plain Python sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

Result_co = TypeVar("Result_co", covariant=True)
Result = TypeVar("Result")


class Pending(Protocol[Result_co]):
    """Work under way."""

    def result(self) -> Result_co:
        """Wait for it; raises `rl.errors.WorkerError`."""
        ...


class Reply(Pending[Result_co], Protocol[Result_co]):
    """A worker's answer, which can be handed on."""

    @property
    def reference(self) -> Any:
        """What another worker takes as an argument in its place."""
        ...

    @property
    def parts(self) -> Sequence[Any]:
        """The answers of single processes that have to be waited for."""
        ...


@dataclass(frozen=True)
class Ready(Generic[Result]):
    """An answer that is already there."""

    answer: Result

    @property
    def reference(self) -> Result:
        """The answer itself: another worker of this process takes it."""
        return self.answer

    @property
    def parts(self) -> Sequence[Any]:
        """None: there is nothing to wait for."""
        return ()

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
