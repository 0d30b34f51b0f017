"""The stream of finished groups that policy steps are made of."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import msgspec
import numpy as np

from rewards.records import Belief, Completion, Prompt, Rollout, SamplingRequest
from rewards.seeds import copies
from rl.config import Config
from rl.monitoring.report import Delivery
from rl.rollouts.groups import Group, Judged, Round
from rl.rollouts.making import check_readable
from rl.rollouts.staleness import StalenessGate
from rl.workers.pending import Pending
from selection.prompts import InOrder
from selection.rows import Whole


class Engines(Protocol):
    """What the stream, and whoever labels, need of `rl.workers.engine_pool.EnginePool`."""

    def sample(self, requests: Sequence[SamplingRequest]) -> Pending[list[list[Completion]]]:
        """Begin to answer the requests, behind everything that was asked for before."""
        ...


MakeGroup = Callable[[Prompt, Sequence[Completion], int], list[Rollout]]
"""From a prompt, the finished answers to it and the group's number to records; see `rl.rollouts.making.make_group`."""


@dataclass
class Tally:
    """What came since the last delivery: rounds, groups, and tokens."""

    rounds: int = 0
    fresh_rounds: int = 0
    finished: int = 0
    informative: int = 0
    stale: int = 0
    unreadable: int = 0
    tokens: int = 0


class RolloutStream:
    """Asks the engines for rollouts in rounds, and hands over one policy step's groups at a time.

    A group goes this way, and no other:

        fresh --> under way --> open --> under way --> ... --> ready --> delivered
                                  |                              |
                                  +-------> dropped (stale) <----+      silent (finished, and no signal in it)

    A round asks for ``samples`` rollouts of some fresh prompts and, where ``segment_tokens`` cut rollouts short, for
    the rest of every open one. All of it is asked of one policy version. The loop calls, for each policy step,

        delivery = stream.take()         # waits, and asks for further rounds, until there is enough
        stream.prefetch()                # the engines write while the learner works,
        stream.prepare()                 # round after round, if one is not enough
        stream.weights_sent(version)     # what is asked for from here on is asked of these weights

    >>> from rl.config.learner import LearnerConfig
    >>> from rl.config.sections import EngineConfig
    >>> from rl.workers.pending import Ready
    >>> class Letters:  # an engine that spells the prompt's answer, one token a letter, in no time at all
    ...     version = 0
    ...     def sample(self, requests):
    ...         return Ready([[self.spell(r) for _ in range(r.n)] for r in requests])
    ...     def spell(self, request):
    ...         rest = request.prompt.answer[len(request.prefix):]
    ...         now = rest[:request.max_tokens]
    ...         ids, reason = tuple(map(ord, now)), "stop" if now == rest else "segment"
    ...         return Completion(ids, (0.0,) * len(ids), reason, self.version)
    >>> def prompt(number):
    ...     word = ["owl", "salamander", "cat", "dog", "ant"][number]
    ...     return Prompt(word, "animals", "Which animal?", (), word)
    >>> def records(prompt, completions, number):
    ...     return [Rollout(prompt.id, prompt.source, number, c.token_ids, c.logprobs, "".join(map(chr, c.token_ids)),
    ...                     (), 1.0, c.finish_reason, c.policy_version) for c in completions]
    >>> engines = Letters()
    >>> learner, segments = LearnerConfig(prompts=1, samples=2), EngineConfig(segment_tokens=4)
    >>> config = Config(steps=4, max_staleness=2, learner=learner, engine=segments)
    >>> stream = RolloutStream(config, engines, prompt, records)
    >>> for version in (1, 2, 3, 4):
    ...     print([(rollout.text, rollout.policy_version) for rollout in stream.take().rollouts])
    ...     stream.prefetch()
    ...     stream.prepare()
    ...     engines.version = version
    ...     stream.weights_sent(version)
    [('owl', 0), ('owl', 0)]
    [('cat', 0), ('cat', 0)]
    [('salamander', 0), ('salamander', 0)]
    [('dog', 1), ('dog', 1)]

    The salamander is longer than a segment: the second step does without it, and its end is written by version 1.

    What may surprise:

    - A rollout's version is the oldest among its tokens. Each token keeps the log-probability of the weights that
      wrote it, so the learner corrects for each; but how far off-policy the answer can be, its oldest token decides.
    - Stragglers do not block: a step takes the first finished groups, those with older numbers first. A group that
      cannot be trained on any more within ``max_staleness`` is dropped, finished or not, and a fresh prompt takes its
      place. Those are long answers, more often than not, and the policy learns from fewer of them: hence the count
      ``reward/stale_groups``. With ``segment_tokens`` None there are no stragglers.
    - With ``segment_tokens`` a step begins more groups than it takes: as many as could be trained on while their
      version is young enough. Otherwise there would be nothing to take in a straggler's place. With ``max_staleness``
      1 all that the engines write beside the learner is for the very next step, so it takes 2 to gain much.
    - A step never goes without rollouts: where no group has a signal, it takes those without.
    - ``drop`` leaves a step with fewer groups; ``refill`` asks for as many further prompts as the share of groups with
      a signal so far suggests, at most a whole step's. What is left over waits for the next step, if it may.
    - One round is one policy version. `weights_sent` reaches an engine behind the round that it writes at, and no
      engine may answer with other weights than it was asked for; a group that would be mixed stops the run.

    Args:
        config: The experiment.
        engines: Answer in the order in which they are asked.
        prompt: Training prompts by number; always the same one for the same number.
        make_group: Makes a finished group's records.
        passes: How often the training prompts were gone through in so many of them; None where they never end.
        chooses: Which prompts are asked; by default all, in their order.

    Attributes:
        step: The policy step that `take` delivers next.
        cursor: Training prompts handed out so far.
    """

    def __init__(
        self,
        config: Config,
        engines: Engines,
        prompt: Callable[[int], Prompt],
        make_group: MakeGroup,
        passes: Callable[[int], float] | None = None,
        chooses: InOrder | None = None,
    ) -> None:
        self._config, self._learner, self._segment_tokens = config, config.learner, config.engine.segment_tokens
        self._gate, self._chooses = StalenessGate(config.max_staleness), chooses or InOrder(prompt)
        self._engines, self._prompt, self._make_group, self._passes = engines, prompt, make_group, passes
        self.step = self.cursor = self._asked = self._version = 0
        self._under_way: deque[Round] = deque()
        self._open: list[Group] = []
        self._ready: list[Group] = []
        self._silent: list[Group] = []
        self._tally = Tally()

    def take(self) -> Delivery:
        """Wait for the groups of the next policy step.

        Raises:
            WorkerError: An engine died, raised, or did not answer in time.
            MixedGroupError: An engine answered with other weights than it was asked for.
            UnreadableRolloutsError: No rollout of the step can be read.
        """
        # A segment is short, and the open groups can go on only once it is back: it is waited for in any case.
        while self._segment_tokens and self._under_way:
            self._receive(self._under_way.popleft())
        self._fill()
        return self._deliver()

    def prefetch(self) -> None:
        """Ask for what the next steps need, as far as staleness allows."""
        self._drop_stale()
        last = self._furthest()
        # Whole answers come in one round a step, so that no step waits for the prompts of a later one.
        for target in [last] if self._segment_tokens else range(self.step, last + 1):
            if self.step <= target:
                self._ask(self._missing(target) - self._written_at())

    def prepare(self) -> None:
        """Wait until the next step has its groups, where that takes more rounds than `prefetch` has begun.

        Raises:
            WorkerError, MixedGroupError: See `take`.
        """
        in_rounds = self._segment_tokens or self._learner.dynamic_sampling == "refill"
        if in_rounds and self.step <= self._furthest():
            self._fill()
            self.prefetch()

    def weights_sent(self, version: int) -> None:
        """From here on the engines answer with the weights of ``version``."""
        self._version = version

    def state(self) -> dict[str, Any]:
        """Plain JSON for a checkpoint; waits for the rounds under way."""
        return {
            "step": self.step,
            "cursor": self.cursor,
            "asked": self._asked,
            "version": self._version,
            "tally": asdict(self._tally),
            "prompts": self._chooses.state(),
            "under_way": [round.state() for round in self._under_way],
            "open": [group.state() for group in self._open],
            "ready": [group.state() for group in self._ready],
            "silent": [group.state() for group in self._silent],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        counted = {name: msgspec.convert(state[name], Whole) for name in ("step", "cursor", "asked", "version")}
        self.step, self.cursor, self._asked, self._version = counted.values()
        self._tally = msgspec.convert(state["tally"], Tally)
        self._chooses.restore(state.get("prompts", {}), self.cursor)
        self._under_way = deque(Round.restore(entry, self._prompt) for entry in state["under_way"])
        self._open = [Group.restore(entry, self._prompt) for entry in state["open"]]
        self._ready = [self._finished(entry) for entry in state["ready"]]
        self._silent = [self._finished(entry) for entry in state["silent"]]

    def again(self, states: Sequence[dict[str, Any]]) -> Delivery:
        """Prompts and rollouts as they were delivered once, from the states of that delivery's groups."""
        groups = [self._finished(state) for state in states]
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        return Delivery(_prompts(groups), rollouts, {}, tokens=0, groups=groups, believed=_believed(groups))

    def _finished(self, state: dict[str, Any]) -> Group:
        group = Group.restore(state, self._prompt)
        rollouts = self._make_group(group.prompt, group.completions(), group.number)
        # A verifier need not say the same again, and what else a checkpoint holds follows from what it said.
        judged = group.judged or [Judged.of(rollout) for rollout in rollouts]
        group.rollouts = [replace(rollout, **vars(kept)) for rollout, kept in zip(rollouts, judged, strict=True)]
        return group

    def _fill(self) -> None:
        """Wait for rounds, and begin further ones, until the next step has its groups or no more can be had."""
        self._drop_stale()
        while self._missing(self.step) > 0 and (self._under_way or self._ask(self._wanted())):
            self._receive(self._under_way.popleft())
            self._drop_stale()

    def _furthest(self) -> int:
        """The last policy step that the engines may write for now."""
        return min(self._gate.furthest(self._version), self._config.steps - 1)

    def _missing(self, target: int) -> int:
        """Groups that the steps up to ``target`` lack, not counting those that are still being written."""
        there = len(self._ready) + (len(self._silent) if self._learner.dynamic_sampling == "drop" else 0)
        return self._learner.prompts * (target - self.step + 1) - there

    def _written_at(self) -> int:
        """Groups that are still being written."""
        return len(self._open) + sum(len(round.groups) for round in self._under_way)

    def _wanted(self) -> int:
        """Fresh prompts of one more round for the step that is to be taken."""
        tally = self._tally
        refills = self._learner.dynamic_sampling == "refill"
        if refills and tally.fresh_rounds >= self._learner.refill_rounds and (self._ready or self._silent):
            return 0
        if self._segment_tokens:
            return self._missing(self._furthest()) - self._written_at()
        missing = self._missing(self.step)
        if not refills or tally.finished == 0:
            return missing
        return min(self._learner.prompts, math.ceil(missing * tally.finished / max(tally.informative, 1)))

    def _ask(self, fresh: int) -> bool:
        """Begin a round of all open groups and so many fresh ones; gives False if that is nobody."""
        numbers = range(self.cursor, self.cursor + max(fresh, 0))
        chosen = self._chooses.choose(numbers, self._version)
        fresh_groups = [
            Group(number, prompt, index, believed=self._chooses.believed(prompt, self._version))
            for number, (index, prompt) in zip(numbers, chosen, strict=True)
        ]
        groups = [*self._open, *fresh_groups]
        if not groups:
            return False
        asked = self._learner.samples, self._segment_tokens, self._config.seed, "rollout", self._asked
        requests = [
            request
            for group, copy in zip(groups, copies(group.prompt.id for group in groups), strict=True)
            for request in group.requests(*asked, *copy)  # of one prompt, too, each has its own
        ]
        self._under_way.append(Round(self._version, groups, self._engines.sample(requests), len(numbers) > 0))
        self._open = []
        self.cursor += len(numbers)
        self._asked += 1
        return True

    def _receive(self, round: Round) -> None:
        """Sort the groups of a round that is back."""
        tally = self._tally
        tally.tokens += round.receive()
        tally.rounds += 1
        tally.fresh_rounds += round.is_fresh
        for group in round.groups:
            if not group.is_finished:
                self._open.append(group)
                continue
            group.rollouts = self._make_group(group.prompt, group.completions(), group.number)
            self._chooses.saw(group.prompt, [rollout.outcome for rollout in group.rollouts], group.version)
            tally.finished += 1
            tally.informative += group.has_signal
            tally.unreadable += len(group.samples) - len(group.rollouts)
            keeps = group.has_signal or self._learner.dynamic_sampling == "off"
            (self._ready if keeps else self._silent).append(group)

    def _drop_stale(self) -> None:
        """Let go of groups that the next policy step, and so any later one, would find too old."""
        for groups in (self._open, self._ready, self._silent):
            old = [group for group in groups if self._gate.furthest(group.version) < self.step]
            for group in old:
                groups.remove(group)
                if not group.is_finished:
                    self._chooses.saw(group.prompt, [], group.version)
            self._tally.stale += len(old)

    def _deliver(self) -> Delivery:
        in_order = sorted(self._ready or self._silent, key=lambda group: group.number)
        chosen = in_order[: self._learner.prompts]
        self._ready = in_order[len(chosen) :] if self._ready else []
        self._silent = []
        rollouts = [rollout for group in chosen for rollout in group.rollouts]
        check_readable(rollouts, len(chosen))
        tokens, mixed = (sum(counts) for counts in zip(*(group.tokens() for group in chosen), strict=True))
        tally, self._tally = self._tally, Tally()
        metrics = {
            "perf/staleness": float(max(self._gate.check(self.step, group.version) for group in chosen)),
            "perf/prompts_asked": float(self.cursor),
            "perf/rounds": float(tally.rounds),
            "perf/mixed_version_tokens": mixed / tokens,
            "reward/dropped": float(tally.unreadable),
            "reward/stale_groups": float(tally.stale),
            "reward/no_signal": 1 - tally.informative / tally.finished if tally.finished else float("nan"),
        }
        if self._passes is not None:
            metrics["perf/epochs"] = self._passes(self._chooses.gone_through(self.cursor))
        self.step += 1
        return Delivery(
            _prompts(chosen),
            rollouts,
            metrics | self._chooses.metrics(),
            tally.tokens,
            self._chooses.distributions(),
            chosen,
            _believed(chosen),
            self._chooses.standings(),
        )


def _prompts(groups: Sequence[Group]) -> list[Prompt]:
    """The prompt of each of their rollouts."""
    return [group.prompt for group in groups for _ in group.rollouts]


def _believed(groups: Sequence[Group]) -> np.ndarray | None:
    """`rewards.annotation.evidence.Evidence.believed` of each of their rollouts."""
    if all(group.believed is None for group in groups):
        return None
    nothing = Belief(np.nan, np.nan)
    return np.array([group.believed or nothing for group in groups for _ in group.rollouts])
