"""Workers that live in the run's own process; tests/rl/test_faults.py has a whole run of them."""

from __future__ import annotations

import pytest

from rewards.records import PromptError
from rl.errors import WorkerError
from rl.workers.inline import InlineWorker


class Counter:
    """Counts up to three."""

    def __init__(self, start: int = 0) -> None:
        if start > 3:
            raise ValueError(f"start is {start}:\nthat is too much")
        self.count = start

    def up(self, by: int) -> int:
        if self.count + by > 3:
            raise RuntimeError("it counts\nup to three")
        self.count += by
        return self.count

    def refuse(self) -> None:
        raise PromptError("train/1: too long")


def test_calls_are_over_when_they_have_begun() -> None:
    counter = Counter()
    worker = InlineWorker("counter", lambda: counter)
    first = worker.start("up", 1)
    assert counter.count == 1, "before anybody waits"
    assert worker.call("up", first.reference) == 2, "an answer is handed on as it is"
    seconds, last = worker.start_timed("up", 1).result()
    assert (first.result(), last) == (1, 3) and seconds >= 0


def test_failures_are_told_as_those_of_workers_elsewhere() -> None:
    worker = InlineWorker("counter", Counter)
    with pytest.raises(WorkerError, match=r"^counter\.up: RuntimeError: it counts up to three$"):
        worker.start("up", 4)
    with pytest.raises(PromptError, match="train/1"):
        worker.start("refuse")
    with pytest.raises(WorkerError, match=r"^counter\.start: ValueError: start is 4: that is too much$"):
        InlineWorker("counter", lambda: Counter(4))
