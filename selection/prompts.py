"""Which training prompts are asked next: those whose groups are likely to be mixed, since no others teach a policy.

A group of n rollouts carries an outcome signal only if some are right and others wrong. With p, the chance that the
policy answers the prompt rightly, distributed as Beta(a, b), that has the probability

    1 - E[p^n] - E[(1 - p)^n],        E[p^n] = prod_{i < n} (a + i) / (a + b + i).

What counts is a rollout's verdict, as one, and those of the continuations of a rollout's first step, together as one,
since they share that step. (A budget that stops at the first success does not bias a posterior: the likelihood of what
was seen is the same. Searching for a first error does, and says nothing here.) The policy moves, so what was seen of
older weights counts less, by half every so many policy versions. The prior is the mean of a prompt's source, worth two
verdicts, so that few verdicts are corrected by what the source is like. A prompt that was never asked is as likely to
be mixed as the first groups of its source's others were.

A share of all prompts comes in the task's own order, as all of them do otherwise: so none waits for ever, whatever is
believed of it. The rest is drawn, without replacement, among those that come next in that order, by their chance of a
mixed group, and those that were asked before, by how far theirs is from that of the others, in the mean, on the way to
1, squared. By the chance itself, the many that are remembered would crowd out what is new even if all were alike, and
what is hardly ever mixed would crowd out what is. Nobody is asked again while an answer is under way.

What is believed of a prompt when it is asked, `ByDifficulty.believed`, is the prior of `selection.bis_posterior` and of
`rewards.annotation.predicted_bis` for the rollouts of that group: their own verdicts, and those of their continuations,
are not in it.

In the same vein: VADE (arXiv:2511.18902) keeps a Beta posterior a prompt and draws from it; prime-rl sorts prompts into
pools by their success rate. Here continuations, which are sampled for the reward model's sake, count too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from heapq import nsmallest
from itertools import islice
from typing import Any

import msgspec
import numpy as np

from rewards.records import Belief, Prompt
from rewards.seeds import derive_seed
from selection.config import SelectionConfig
from selection.rows import Whole

PRIOR_VERDICTS = 2.0
"""What a source's mean is worth beside a prompt's own verdicts."""
SHOWN = 10
"""Prompts in a table."""
LEAST_CHANCE = 1e-6
"""So that what is surely not mixed can still be drawn, where nothing else is left."""


@dataclass
class Evidence:
    """Verdicts on answers by one policy version, or by older ones, which count less.

    >>> seen = Evidence()
    >>> seen.add(3, 1, version=0, half_life=10)
    >>> seen.add(1, 0, version=10, half_life=10)
    >>> seen
    Evidence(right=2.5, wrong=0.5, version=10)
    """

    right: float = 0.0
    wrong: float = 0.0
    version: int = 0

    def at(self, version: int, half_life: float) -> tuple[float, float]:
        """Right and wrong ones, as they count at a version; 0 is the half-life of what never ages."""
        kept = 0.5 ** (max(version - self.version, 0) / half_life) if half_life else 1.0
        return self.right * kept, self.wrong * kept

    def add(self, right: float, wrong: float, version: int, half_life: float) -> None:
        """Count further ones, which may have come late."""
        newest = max(version, self.version)
        before, further = self.at(newest, half_life), Evidence(right, wrong, version).at(newest, half_life)
        self.right, self.wrong, self.version = before[0] + further[0], before[1] + further[1], newest


@dataclass
class Asked:
    """A prompt that was asked: its place in the task's order, its source, the verdicts on its answers, how often."""

    index: int
    source: str
    evidence: Evidence = field(default_factory=Evidence)
    times: Whole = 1


@dataclass(frozen=True)
class Standing:
    """What is known of a remembered prompt.

    Attributes:
        name: Its id.
        source: Its source.
        times: How often it was asked since it is remembered.
        right: The chance of a right answer.
        verdicts: What that rests on.
        mixed: The chance of a mixed group.
    """

    name: str
    source: str
    times: int
    right: float
    verdicts: float
    mixed: float


@dataclass(frozen=True)
class _Kept:
    """The state of `ByDifficulty`; nothing was known of first groups before they were counted."""

    next: Whole
    ahead: list[Whole]
    asked: dict[str, Asked]
    under_way: list[str]
    sources: dict[str, Evidence]
    expected: list[float]
    again: list[bool]
    first_groups: dict[str, Evidence] = field(default_factory=dict)


def chance_of_a_mixed_group(right: np.ndarray, wrong: np.ndarray, rollouts: int) -> np.ndarray:
    """The probability that so many rollouts are neither all right nor all wrong, under Beta(right, wrong), elementwise.

    >>> chance_of_a_mixed_group(np.array([1.0, 9.0]), np.array([1.0, 1.0]), 2).round(4).tolist()
    [0.3333, 0.1636]
    """
    i = np.arange(rollouts)[:, None]
    all_right = ((right + i) / (right + wrong + i)).prod(0)
    all_wrong = ((wrong + i) / (right + wrong + i)).prod(0)
    return 1 - all_right - all_wrong


class InOrder:
    """Prompts in the task's own order: the one of number n is the n-th."""

    def __init__(self, prompt: Callable[[int], Prompt]) -> None:
        self._prompt = prompt

    def choose(self, numbers: range, version: int) -> list[tuple[int, Prompt]]:
        """The prompts of these numbers, each with its place in the task's order."""
        return [(number, self._prompt(number)) for number in numbers]

    def believed(self, prompt: Prompt, version: int) -> Belief | None:
        """What is believed of a prompt so far; None where nobody believes anything."""
        return None

    def saw(self, prompt: Prompt, outcomes: Sequence[float], version: int) -> None:
        """The answers to a prompt that was chosen are there; without any, they will never be."""

    def continued(self, prompt: Prompt, right: int, wrong: int, version: int) -> None:
        """Continuations of one first step of its answers, by a policy version, came out right and wrong so often."""

    def gone_through(self, cursor: int) -> int:
        """How many prompts of the task's order are behind those that were asked, so many of them."""
        return cursor

    def metrics(self) -> dict[str, float]:
        """Nothing to tell."""
        return {}

    def distributions(self) -> dict[str, np.ndarray]:
        """Nothing to show."""
        return {}

    def standings(self) -> dict[str, list[Standing]]:
        """Nothing to show here, either."""
        return {}

    def state(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def restore(self, state: dict[str, Any], cursor: int) -> None:
        """Nothing to go on from but the ``cursor``, how many were asked."""


class ByDifficulty(InOrder):
    """Prompts by their chance of a mixed group; see the module.

    Args:
        config: The share in order, the half-life, how many prompts are remembered.
        prompt: Training prompts by their place in the task's order.
        rollouts: Of a group.
        continuations: Most that a step gets: together they are worth one verdict.
        seed: Of the draws.
    """

    def __init__(
        self, config: SelectionConfig, prompt: Callable[[int], Prompt], rollouts: int, continuations: int, seed: int
    ) -> None:
        super().__init__(prompt)
        self._config, self._rollouts, self._continuations, self._seed = config, rollouts, continuations, seed
        self._next = 0
        self._ahead: list[tuple[int, Prompt]] = []
        self._asked: dict[str, Asked] = {}
        self._under_way: list[str] = []
        self._sources: dict[str, Evidence] = {}
        self._first_groups: dict[str, Evidence] = {}  # mixed ones as right
        self._expected: list[float] = []
        self._again: list[bool] = []

    def choose(self, numbers: range, version: int) -> list[tuple[int, Prompt]]:
        self._look_ahead(len(numbers))
        share = self._config.prompts_in_order
        in_order = int(share * numbers.stop) - int(share * numbers.start)  # however small the rounds are
        under_way = set(self._under_way)
        free: dict[str, tuple[int, Prompt]] = {}
        for entry in self._ahead:
            if entry[1].id not in under_way:
                free.setdefault(entry[1].id, entry)
        chosen = list(free.values())[:in_order]
        for entry in chosen:
            self._ahead.remove(entry)
        taken = {prompt.id for _, prompt in chosen} | under_way
        coming = {prompt.id: (index, prompt) for index, prompt in reversed(self._ahead)}  # where it comes first
        fresh = [entry for entry in self._ahead if entry == coming[entry[1].id] and entry[1].id not in taken]
        again = [asked for name, asked in self._asked.items() if name not in taken | coming.keys()]
        missing = len(numbers) - len(chosen)
        for place in self._draw(fresh, again, missing, version, numbers.start):
            if place < len(fresh):
                chosen.append(fresh[place])
                self._ahead.remove(fresh[place])
            else:
                index = again[place - len(fresh)].index
                chosen.append((index, self._prompt(index)))
        # Where there are hardly any prompts, some are asked twice at once.
        chosen += [self._ahead.pop(0) for _ in range(len(numbers) - len(chosen))]
        for index, prompt in chosen:
            self._begin(index, prompt, version)
        return chosen

    def believed(self, prompt: Prompt, version: int) -> Belief:
        right, wrong = self._beliefs([(prompt.source, self._asked.get(prompt.id))], version)
        return Belief(float(right[0]), float(wrong[0]))

    def saw(self, prompt: Prompt, outcomes: Sequence[float], version: int) -> None:
        if prompt.id in self._under_way:  # or it was asked before prompts were chosen
            self._under_way.remove(prompt.id)
        right, known = float(np.clip(outcomes, 0, 1).sum()), self._asked.get(prompt.id)
        if known and not known.evidence.right + known.evidence.wrong and len(outcomes) > 1:
            is_mixed = float(0 < right < len(outcomes))
            groups = self._first_groups.setdefault(prompt.source, Evidence())
            groups.add(is_mixed, 1 - is_mixed, version, self._config.prompts_half_life)
        self._count(prompt, right, len(outcomes) - right, version)
        surplus = len(self._asked) - self._config.prompts_remembered
        if surplus > 0:
            under_way = set(self._under_way)
            for name in list(islice((name for name in self._asked if name not in under_way), surplus)):
                del self._asked[name]

    def continued(self, prompt: Prompt, right: int, wrong: int, version: int) -> None:
        most = max(right + wrong, self._continuations)  # of one step, however many there are: one verdict
        self._count(prompt, right / most, wrong / most, version)

    def gone_through(self, cursor: int) -> int:
        return self._next - len(self._ahead)

    def metrics(self) -> dict[str, float]:
        """Of the prompts chosen since the last call, and of the sources."""
        expected, again = self._expected, self._again
        self._expected, self._again = [], []
        nan = float("nan")
        sources = {f"selection/prompts_right/{source}": self._mean(source) for source in sorted(self._sources)}
        return {
            "selection/prompts_remembered": float(len(self._asked)),
            "selection/prompts_asked_again": float(np.mean(again)) if again else nan,
            "selection/prompts_expected_mixed": float(np.mean(expected)) if expected else nan,
        } | sources

    def distributions(self) -> dict[str, np.ndarray]:
        """Of the remembered prompts: the chance of a right answer, and the verdicts that it rests on."""
        if not self._asked:
            return {}
        right, wrong = self._beliefs([(asked.source, asked) for asked in self._asked.values()], self._newest())
        return {
            "selection/prompts_right": right / (right + wrong),
            "selection/prompts_verdicts": right + wrong - PRIOR_VERDICTS,
        }

    def standings(self) -> dict[str, list[Standing]]:
        """Some of the remembered prompts: those asked most often, and those surest to be mixed."""
        if not self._asked:
            return {}
        names, asked = list(self._asked), list(self._asked.values())
        right, wrong = self._beliefs([(entry.source, entry) for entry in asked], self._newest())
        mixed = chance_of_a_mixed_group(right, wrong, self._rollouts)

        def first(key: Callable[[int], float]) -> list[Standing]:
            places = nsmallest(SHOWN, range(len(names)), key=lambda place: (-key(place), names[place]))
            return [standing(place) for place in places]

        def standing(place: int) -> Standing:
            verdicts = right[place] + wrong[place]
            chance, seen, mixes = (float(n) for n in (right[place] / verdicts, verdicts - PRIOR_VERDICTS, mixed[place]))
            return Standing(names[place], asked[place].source, asked[place].times, chance, seen, mixes)

        return {
            "asked most often": first(lambda place: asked[place].times),
            "surest to be mixed": first(lambda place: mixed[place]),
        }

    def state(self) -> dict[str, Any]:
        return {
            "next": self._next,
            "ahead": [index for index, _ in self._ahead],
            "asked": {name: asdict(asked) for name, asked in self._asked.items()},
            "under_way": self._under_way,
            "sources": {source: asdict(evidence) for source, evidence in self._sources.items()},
            "first_groups": {source: asdict(evidence) for source, evidence in self._first_groups.items()},
            "expected": self._expected,
            "again": self._again,
        }

    def restore(self, state: dict[str, Any], cursor: int) -> None:
        if not state:  # prompts came in order until now
            self._next = cursor
            return
        kept = msgspec.convert(state, _Kept)
        self._next, self._under_way, self._expected, self._again = kept.next, kept.under_way, kept.expected, kept.again
        self._ahead = [(index, self._prompt(index)) for index in kept.ahead]
        self._asked, self._sources, self._first_groups = kept.asked, kept.sources, kept.first_groups

    def _look_ahead(self, count: int) -> None:
        """Twice as many prompts as are wanted: with those in order gone, there are enough to choose among."""
        while len(self._ahead) < 2 * count:
            self._ahead.append((self._next, self._prompt(self._next)))
            self._next += 1

    def _draw(
        self, fresh: Sequence[tuple[int, Prompt]], again: Sequence[Asked], count: int, version: int, number: int
    ) -> list[int]:
        """Places among those that come next and those that were asked before."""
        candidates = [(prompt.source, self._asked.get(prompt.id)) for _, prompt in fresh]
        candidates += [(asked.source, asked) for asked in again]
        count = min(count, len(candidates))
        if count == 0:
            return []
        chance = self._chances(candidates, version)
        weights = np.maximum(chance, LEAST_CHANCE)
        if fresh:
            usual = min(chance[: len(fresh)].mean(), 1 - LEAST_CHANCE)
            further = (chance[len(fresh) :] - usual) / (1 - usual)
            weights[len(fresh) :] = np.maximum(np.maximum(further, 0) ** 2, LEAST_CHANCE)
        generator = np.random.default_rng(derive_seed(self._seed, "prompts", number))
        return generator.choice(len(weights), count, replace=False, p=weights / weights.sum()).tolist()

    def _begin(self, index: int, prompt: Prompt, version: int) -> None:
        """Remember that a prompt is asked; those that wait longest stand first."""
        known = self._asked.pop(prompt.id, None)
        self._again.append(known is not None)
        self._expected.append(float(self._chances([(prompt.source, known)], version)[0]))
        evidence, times = (known.evidence, known.times + 1) if known else (Evidence(), 1)
        self._asked[prompt.id] = Asked(index, prompt.source, evidence, times)
        self._under_way.append(prompt.id)

    def _count(self, prompt: Prompt, right: float, wrong: float, version: int) -> None:
        asked = self._asked.get(prompt.id)
        source = self._sources.setdefault(prompt.source, Evidence())
        for evidence in [source] + ([asked.evidence] if asked else []):
            evidence.add(right, wrong, version, self._config.prompts_half_life)

    def _chances(self, candidates: Sequence[tuple[str, Asked | None]], version: int) -> np.ndarray:
        """Of a mixed group, for each candidate."""
        chance = chance_of_a_mixed_group(*self._beliefs(candidates, version), self._rollouts)
        for place, (source, asked) in enumerate(candidates):
            if asked is None:
                groups = self._first_groups.get(source, Evidence())
                mixed = groups.right + PRIOR_VERDICTS * chance[place]
                chance[place] = mixed / (groups.right + groups.wrong + PRIOR_VERDICTS)
        return chance

    def _beliefs(self, candidates: Sequence[tuple[str, Asked | None]], version: int) -> tuple[np.ndarray, np.ndarray]:
        """The a and the b of each candidate's posterior."""
        nothing, half_life = Evidence(), self._config.prompts_half_life
        means = {source: self._mean(source) for source, _ in candidates}
        prior = PRIOR_VERDICTS * np.array([means[source] for source, _ in candidates])
        seen = np.array([(asked.evidence if asked else nothing).at(version, half_life) for _, asked in candidates])
        return prior + seen[:, 0], PRIOR_VERDICTS - prior + seen[:, 1]

    def _mean(self, source: str) -> float:
        """The chance that an answer to a prompt of a source is right."""
        seen = self._sources.get(source, Evidence())
        return (seen.right + 1) / (seen.right + seen.wrong + 2)

    def _newest(self) -> int:
        return max(evidence.version for evidence in self._sources.values()) if self._sources else 0
