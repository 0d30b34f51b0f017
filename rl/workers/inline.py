"""Workers of a run that has no others: objects of its own process, which do what they are asked as they are asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rewards.records import PromptError
from rl.errors import WorkerError
from rl.workers.pending import Ready


class InlineWorker:
    """Like a `rl.workers.worker.Worker`, whose object lives here: a call is over when it has begun.

    Args:
        name: For messages.
        build: Makes the object.

    Raises:
        WorkerError: The object cannot be made.

    Attributes:
        beside: See `rl.workers.worker.Worker`; nothing here waits for anybody.
    """

    beside: Sequence[Any] = ()

    def __init__(self, name: str, build: Callable[[], Any]) -> None:
        self.name = name
        self._object = self._told("start", build)

    def start(self, method: str, *arguments: Any) -> Ready[Any]:
        """``object.method(*arguments)``, with the answer.

        Raises:
            WorkerError: The object raised.
            PromptError: It was asked for an answer to what is no prompt for it.
        """
        return Ready(self.call(method, *arguments))

    def start_timed(self, method: str, *arguments: Any) -> Ready[tuple[float, Any]]:
        """`start`, with the seconds that it took."""
        began = time.perf_counter()
        result = self.call(method, *arguments)
        return Ready((time.perf_counter() - began, result))

    def call(self, method: str, *arguments: Any) -> Any:
        """`start`, and the answer itself."""
        return self._told(method, getattr(self._object, method), *arguments)

    def _told(self, shown: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """What some work comes to; its failure in one line, as that of a worker elsewhere."""
        try:
            return work(*arguments)
        except PromptError:
            raise  # the user's data, and not the worker
        except Exception as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise WorkerError(f"{self.name}.{shown}: {why}") from error
