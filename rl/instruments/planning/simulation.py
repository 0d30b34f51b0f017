"""The online loop as discrete events: who works when, and who waits for whom."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from rl.config import Config
from rl.instruments.planning.engine_work import EngineWork
from rl.instruments.planning.stage_seconds import (
    Split,
    StageSeconds,
    scaled_learner,
    scaled_sync,
)
from rl.reward_models.credit import Needs, configured_rule, learner_waits_for

WARM_UP, MEASURED = 4, 12


@dataclass(frozen=True)
class Forecast:
    """What a simulation found, over its steady steps.

    Attributes:
        step_seconds: Of a policy step, mean.
        engines_idle, learner_idle, mprm_idle: Shares of the time in which they have nothing to do, mean over them;
            1 where there are none.
        staleness: Policy versions between sampling and training, mean.
    """

    step_seconds: float
    engines_idle: float
    learner_idle: float
    mprm_idle: float
    staleness: float


class Servers:
    """Workers of one kind, each of which does what it is asked in order.

    >>> servers = Servers(2)
    >>> servers.submit(0.0, np.array([3.0, 1.0]))
    3.0
    >>> servers.submit(2.0, np.array([1.0, 1.0]))
    4.0
    >>> servers.busy
    array([4., 2.])
    """

    def __init__(self, number: int) -> None:
        self.busy = np.zeros(number)
        self._free = np.zeros(number)

    def submit(self, ready: float, seconds: np.ndarray | float) -> float:
        """Begin a piece of work that takes each server so long, at ``ready`` or when it is free; gives the time at
        which the last one is done."""
        seconds = np.broadcast_to(seconds, self._free.shape)
        # A server without a part in it stays as it is.
        self._free = np.where(seconds > 0, np.maximum(self._free, ready) + seconds, self._free)
        self.busy += seconds
        return max(ready, float(self._free[seconds > 0].max(initial=ready)))


def _waits_for(config: Config) -> Needs:
    """What the learner waits for in `rl.loop`. What an outcome model says of answers is part of the scores here: how
    long it takes alone was not measured."""
    needs = learner_waits_for(config, configured_rule(config))
    return "scores" if needs == "outcomes" and config.outcome_model.reward != "rule" else needs


@dataclass(frozen=True)
class SimulatedBatch:
    """Rollouts of a policy step, asked for."""

    version: int
    done: float


@dataclass
class SimulatedLabelling:
    """Continuations of a policy step: when the round that is under way is done, and the rounds after it."""

    done: float
    others: deque[np.ndarray]


class Simulation:
    """Policy steps in the order of `rl.loop`, on a clock of their own.

    Engines, learner and MPRM are servers with queues; the controller is a process that hands out work and waits. Its
    waits are events in a heap, taken in the order of time. Rollouts of a step are sampled behind the first round of the
    step's continuations and before the further ones, or, with `annotation.delay`, behind these as soon as new weights
    were sent, as far ahead as ``max_staleness`` lets them; new weights arrive behind whatever an engine was asked
    before. What an engine takes depends on the lengths of its answers, drawn from the seed; everything else takes as
    long as it is said to. What is asked for in one call takes as long as it would apart, though engines decode it side
    by side.

    Args:
        config: Batch sizes, ``max_staleness``, ``mprm.every``, ``engine.segment_tokens``, the seed.
        seconds: Stage times, as measured on ``measured_on``.
        measured_on, split: Numbers of workers then, and those to simulate.
        work: What the engines have to do, to share it among simulations; None to make it here.

    Raises:
        ConfigError: There is no such credit rule.

    Example: sampling takes 3 s and learning 2 s. Strictly on-policy the one waits for the other; with a step's
    staleness the learner's time is hidden.

    >>> from rl.config import Config
    >>> seconds, one = StageSeconds(rollout=3, learn=2), Split(1, 1, 1)
    >>> Simulation(Config(max_staleness=0), seconds, one, one).run().step_seconds.__round__(1)
    5.0
    >>> overlapping = Simulation(Config(max_staleness=1), seconds, one, one).run()
    >>> overlapping.step_seconds.__round__(1), overlapping.staleness
    (3.0, 1.0)
    """

    def __init__(
        self,
        config: Config,
        seconds: StageSeconds,
        measured_on: Split,
        split: Split,
        work: EngineWork | None = None,
    ) -> None:
        self._config, self._seconds, self._split = config, seconds, split
        self._waits_for = _waits_for(config)
        self._engines, self._learner, self._mprm = Servers(split.engines), Servers(1), Servers(1)
        self._work = work or EngineWork(config, seconds, measured_on.engines)
        rows = config.learner.prompts * config.learner.samples
        self._learn = scaled_learner(seconds.learn, rows, split.learner, measured_on.learner)
        self._score = scaled_learner(seconds.score, rows, split.mprm, measured_on.mprm)
        self._teach = scaled_learner(seconds.teach, config.mprm.batch_size, split.mprm, measured_on.mprm)
        self._sync = scaled_sync(seconds.sync, split.engines, measured_on.engines)
        self._upcoming: deque[SimulatedBatch] = deque()
        self._rounds: deque[list[np.ndarray]] = deque()
        self._labellings: deque[SimulatedLabelling] = deque()
        self._asked = self._version = 0
        self._now = 0.0

    def run(self) -> Forecast:
        """Simulate until the first steps no longer matter, and measure the rest."""
        parts = (self._engines, self._learner, self._mprm)
        events: list[tuple[float, int, Iterator[float | SimulatedBatch]]] = [(0.0, 0, self._controller())]
        ends: list[float] = []
        busy: list[list[float]] = []
        ages: list[int] = []
        while len(ends) <= WARM_UP + MEASURED:
            self._now, order, process = heapq.heappop(events)
            until = next(process)
            if isinstance(until, SimulatedBatch):  # a policy step is over
                ends.append(self._now)
                ages.append(len(ages) - until.version)
                busy.append([float(part.busy.sum()) / max(1, len(part.busy)) for part in parts])
                until = self._now
            heapq.heappush(events, (max(self._now, until), order + 1, process))
        elapsed = ends[-1] - ends[WARM_UP]
        worked = np.array(busy[-1]) - np.array(busy[WARM_UP])
        idle = np.clip(1 - worked / elapsed, 0.0, 1.0)
        engines, learner, mprm = idle.tolist()
        return Forecast(elapsed / MEASURED, engines, learner, mprm, float(np.mean(ages[WARM_UP:])))

    def _controller(self) -> Iterator[float | SimulatedBatch]:
        """The policy steps of `rl.loop.run`: each value is a time to wait for, or, at a step's end, what it trained
        on."""
        every, ahead = self._config.mprm.every, self._config.max_staleness
        for step in count():
            self._ask(step)
            batch = self._upcoming.popleft()
            yield batch.done
            scored = self._mprm.submit(self._now, self._score)
            if self._waits_for == "outcomes":
                updated = self._learner.submit(self._now, self._learn)
            yield scored
            if not self._config.asks_ahead:
                yield from self._advance()
            first, *others = self._rounds.popleft()
            self._labellings.append(SimulatedLabelling(self._engines.submit(self._now, first), deque(others)))
            if self._waits_for == "counts":
                yield from self._labels()
            if self._waits_for != "outcomes":
                updated = self._learner.submit(self._now, self._learn)
            self._ask(step + ahead)
            if self._waits_for != "counts":
                yield from self._labels()
            yield self._now + self._seconds.other
            due = (step + 1) % every == 0
            taught = self._mprm.submit(self._now, self._teach) if due else self._now
            yield updated
            self._version = step + 1
            self._engines.submit(self._now, self._sync)
            if self._config.asks_ahead:
                yield from self._advance(step + 1 + ahead)
            yield taught
            yield batch

    def _advance(self, last: int | None = None) -> Iterator[float]:
        """The next round of every labelling, in one call with rollouts of the steps up to ``last``."""
        for labelling in self._labellings:
            yield labelling.done
        advanced = [labelling for labelling in self._labellings if labelling.others]
        done = max((self._engines.submit(self._now, one.others.popleft()) for one in advanced), default=self._now)
        if last is not None:
            before = len(self._upcoming)
            self._ask(last)
            done = max([done, *(batch.done for batch in list(self._upcoming)[before:])])
        for labelling in advanced:
            labelling.done = done

    def _labels(self) -> Iterator[float]:
        """`rl.annotating.labelling.Labeller.due`, and all rounds of what is due."""
        if len(self._labellings) > self._config.annotation.delay:
            due = self._labellings.popleft()
            yield due.done
            for continued in due.others:
                yield self._engines.submit(self._now, continued)

    def _ask(self, last: int) -> None:
        """Begin the rollouts of the steps up to ``last`` that are not yet asked for, if staleness allows."""
        while self._asked <= last and self._asked - self._version <= self._config.max_staleness:
            rollouts, rounds = self._work.step(self._asked, self._split.engines)
            self._upcoming.append(SimulatedBatch(self._version, self._engines.submit(self._now, rollouts)))
            self._rounds.append(rounds)
            self._asked += 1
