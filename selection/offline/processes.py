"""Functions over many tasks, in worker processes, with the results in order."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 2  # tasks waiting for each worker: enough to keep it busy, too few for results to pile up


class Run(Protocol):
    """``run(function, tasks)``: the function's results, in the order of the tasks."""

    def __call__(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]: ...


@contextmanager
def workers(number: int, functions: tuple[Callable[[Any], Any], ...]) -> Iterator[Run]:
    """Processes that stay for the length of the block; with one, all is done in this process.

    They are forked and so begin with all that this process has loaded; it should not have started threads. On leaving,
    tasks under way are finished, waiting ones dropped.

    Args:
        number: Of worker processes.
        functions: All that will be run: what a fork carries over need not be pickled.

    Raises:
        concurrent.futures.process.BrokenProcessPool: From the results: a worker died.
    """
    if number == 1:
        yield lambda function, tasks: map(function, tasks)
        return
    executor = ProcessPoolExecutor(number, get_context("fork"), _begin, (functions,))

    def run(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        waiting: deque[Future[Result]] = deque()
        for task in tasks:
            waiting.append(executor.submit(_call, functions.index(function), task))
            if len(waiting) > AHEAD * number:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield run
    finally:
        executor.shutdown(cancel_futures=True)


_functions: tuple[Callable[[Any], Any], ...] = ()


def _begin(functions: tuple[Callable[[Any], Any], ...]) -> None:
    global _functions
    _functions = functions
    # Ctrl-C reaches all processes of a terminal; the first one decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):  # it may take these for Ctrl-C, too; here they just end a process
        signal.signal(number, signal.SIG_DFL)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _call(index: int, task: Any) -> Any:
    return _functions[index](task)
