"""The tabular twin of the loop on the `beliefs` task: what a study would find, in seconds instead of days.

The policy is a logit a belief: how often its right result is written. The reward model is a logit a belief and result:
how likely that result is right; a step's score is the product over the steps so far. All else is as in the loop: the
task's puzzles, groups, Monte-Carlo labels from continuations, the selectors themselves, credit, updates in turn. All
seeds of an arm run side by side (S below), each with draws of its own, so that a seed's numbers do not depend on
the others, and arms of one seed begin alike.

Left out: pictures and counting errors, tokens, staleness, what one belief's update does to others, and of the buffer
all but the keep ratio. So effects have the loop's order and not its size: rates of learning are given
(`rl.instruments.study.twin_run`), and not found.

Shapes: S seeds, R rollouts, K = 6 steps, of which a puzzle uses the first 4 to 6, F beliefs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from rl.tasks.beliefs import BeliefsTask
from rl.tasks.grid_steps import Count, Puzzle, Result
from rl.tasks.task import Split
from rl.tasks.worlds import LETTERS, OPERATORS, World

K = 6
SPANS = {"*": (10, 10), "+": (121, 101), "mod": (29, 6), "vs": (101, 101)}
"""Operands from 0 that a puzzle can come to, by operator; the beliefs about them are tabulated."""
ABSENT, COUNT = -1, len(OPERATORS)


@dataclass(frozen=True)
class Beliefs:
    """A world's beliefs by number.

    Attributes:
        fact: The belief that decides an operation on two numbers (4, 121, 101).
        right, wrong: Its results as numbers, letters by their place in the alphabet, of that shape.
        sure: How often the teacher writes the right one (F,).
    """

    fact: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    sure: np.ndarray


@cache
def tabulate(world: World) -> Beliefs:
    """All beliefs that the task asks for."""
    shape = (len(OPERATORS), *np.max(list(SPANS.values()), 0))
    fact, right, wrong = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    number: dict[object, int] = {}
    sure: list[float] = []
    for place, operator in enumerate(OPERATORS):
        for left in range(SPANS[operator][0]):
            for other in range(2 if operator in ("*", "mod") else 0, SPANS[operator][1]):
                belief = world.belief(operator, left, other)
                at = (place, left, other)
                fact[at] = number.setdefault(belief.key, len(number))
                right[at], wrong[at] = as_number(belief.right), as_number(belief.wrong)
                if len(number) > len(sure):
                    sure.append(belief.sure)
    return Beliefs(fact, right, wrong, np.array(sure))


def as_number(result: str | int) -> int:
    """
    >>> as_number("12"), as_number("B")
    (12, 1)
    """
    return LETTERS.index(result) if result in LETTERS else int(result)


@dataclass(frozen=True)
class Puzzles:
    """N puzzles as programs.

    Attributes:
        source: Numbers of their sources (N,).
        operator: Place in `OPERATORS`, `COUNT`, or `ABSENT` after the last step (N, K).
        left, right: The steps whose results are the operands, -1 for a number of the question (N, K).
        number: That number, or what is counted (N, K).
        answer: (N,).
    """

    source: np.ndarray
    operator: np.ndarray
    left: np.ndarray
    right: np.ndarray
    number: np.ndarray
    answer: np.ndarray

    @property
    def written(self) -> np.ndarray:
        """Which steps there are (N, K)."""
        return self.operator != ABSENT


@cache
def read_puzzles(split: Split, count: int, seed: int = 0) -> Puzzles:
    """The first puzzles of the task."""
    task = BeliefsTask(seed=seed)
    puzzles = [task.puzzle(split, index) for index in range(count)]
    program = np.array([_program(puzzle) for puzzle in puzzles])
    operator, left, right, number = np.moveaxis(program, 2, 0)
    answer = np.array([as_number(puzzle.answer) for puzzle in puzzles])
    return Puzzles(np.array([task.sources.index(p.source) for p in puzzles]), operator, left, right, number, answer)


def _program(puzzle: Puzzle) -> list[tuple[int, int, int, int]]:
    rows = []
    for operation in puzzle.operations:
        if isinstance(operation, Count):
            rows.append((COUNT, -1, -1, puzzle.scene.count(operation.attribute)))
        else:
            right = operation.right
            step, number = (right.step, 0) if isinstance(right, Result) else (-1, right)
            rows.append((OPERATORS.index(operation.operator), operation.left.step, step, number))
    return rows + [(ABSENT, -1, -1, 0)] * (K - len(rows))


@dataclass(frozen=True)
class Rollouts:
    """Solutions.

    Attributes:
        puzzle: Which one each solves (S, R).
        values: Results; after the last step, its result again (S, R, K).
        fact: The belief behind each step, F for none (S, R, K).
        own: Whether it is right on its own (S, R, K).
        written: Which steps there are (S, R, K).
        right: Whether the answer is right (S, R).
    """

    puzzle: np.ndarray
    values: np.ndarray
    fact: np.ndarray
    own: np.ndarray
    written: np.ndarray
    right: np.ndarray

    @property
    def so_far(self) -> np.ndarray:
        """Whether each step is right, after only right ones (S, R, K)."""
        return np.logical_and.accumulate(self.own, 2)

    def take(self, places: np.ndarray) -> Rollouts:
        """The rollouts at these places of each seed (S, M)."""
        arrays = (self.puzzle, self.values, self.fact, self.own, self.written, self.right)
        return Rollouts(*(np.take_along_axis(a, places.reshape(*places.shape, *[1] * (a.ndim - 2)), 1) for a in arrays))


def roll_out(
    beliefs: Beliefs,
    puzzles: Puzzles,
    puzzle: np.ndarray,
    sure: np.ndarray,
    draws: np.ndarray,
    begun: Rollouts | None = None,
    kept: np.ndarray | int = 0,
) -> Rollouts:
    """Write solutions, or go on with some.

    Args:
        beliefs, puzzles: Of the world, and of the split.
        puzzle: Which ones (S, R).
        sure: How often each belief's right result is written now (S, F).
        draws: In [0, 1); a right result is written where it is below (S, R, K).
        begun: Solutions of the same puzzles to go on with.
        kept: How many of their steps stand (S, R).
    """
    values, facts = np.zeros((2, *draws.shape), dtype=np.int64)
    own = np.ones(draws.shape, dtype=bool)
    nothing = sure.shape[1]
    for k in range(K):
        operator, left, right, number = (
            getattr(puzzles, name)[puzzle, k] for name in ("operator", "left", "right", "number")
        )
        reckoned = (operator != COUNT) & (operator != ABSENT)
        first = np.where(reckoned, np.take_along_axis(values, left[..., None] % K, 2)[..., 0], 0)
        other = np.where(right >= 0, np.take_along_axis(values, right[..., None] % K, 2)[..., 0], number)
        at = (np.where(reckoned, operator, 0), first, np.where(reckoned, other, 0))
        fact = beliefs.fact[at]
        own[..., k] = ~reckoned | (draws[..., k] < np.take_along_axis(sure, fact, 1))
        value = np.where(own[..., k], beliefs.right[at], beliefs.wrong[at])
        values[..., k] = np.where(reckoned, value, np.where(operator == COUNT, number, values[..., k - 1]))
        facts[..., k] = np.where(reckoned, fact, nothing)
        if begun is not None:
            stands = k < kept
            for new, old in ((values, begun.values), (facts, begun.fact), (own, begun.own)):
                new[..., k] = np.where(stands, old[..., k], new[..., k])
    return Rollouts(puzzle, values, facts, own, puzzles.written[puzzle], values[..., -1] == puzzles.answer[puzzle])


def chances(beliefs: Beliefs, puzzles: Puzzles, sure: np.ndarray) -> np.ndarray:
    """How often each puzzle is answered rightly, exactly: over all ways to write its at most three results (S, N)."""
    seeds, count = len(sure), len(puzzles.answer)
    reckoned = (puzzles.operator != COUNT) & puzzles.written
    order = np.cumsum(reckoned, 1) - 1
    total = np.zeros((seeds, count))
    which = np.tile(np.arange(count), (seeds, 1))
    for way in range(2 ** int(reckoned.sum(1).max())):
        wrong = (way >> np.maximum(order, 0)) & 1  # the d-th result is written wrong where bit d says so
        found = roll_out(beliefs, puzzles, which, sure, np.broadcast_to(2.0 * wrong - 1, (seeds, count, K)))
        decided = reckoned[which]
        chance = np.take_along_axis(sure, np.minimum(found.fact, sure.shape[1] - 1).reshape(seeds, -1), 1)
        chance = np.where(found.own, chance.reshape(found.own.shape), 1 - chance.reshape(found.own.shape))
        possible = way < 2 ** reckoned.sum(1)  # no bit of a result that is not there
        total += np.where(decided, chance, 1.0).prod(2) * found.right * possible
    return total


@dataclass(frozen=True)
class Table:
    """Logits that learn by Adam, all of them at every step, as a network's weights do: entries that stood still where a
    batch says nothing of them would learn faster from any reward that is never quite equal, whatever it says.

    Attributes:
        logits: (S, ...), changed in place.
    """

    logits: np.ndarray
    rate: float
    momentum: np.ndarray
    square: np.ndarray
    steps: list[int]

    @staticmethod
    def of(logits: np.ndarray, rate: float) -> Table:
        return Table(logits, rate, np.zeros_like(logits), np.zeros_like(logits), [0])

    def descend(self, gradient: np.ndarray) -> None:
        self.steps[0] += 1
        for average, new, decay in ((self.momentum, gradient, 0.9), (self.square, gradient**2, 0.99)):
            average[:] = decay * average + (1 - decay) * new
        mean, square = self.momentum / (1 - 0.9 ** self.steps[0]), self.square / (1 - 0.99 ** self.steps[0])
        self.logits[:] -= self.rate * mean / (np.sqrt(square) + 1e-8)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def step_scores(logits: np.ndarray, rollouts: Rollouts) -> np.ndarray:
    """What a reward model with these logits (S, F + 1, 2) says of each step: right so far (S, R, K)."""
    return np.cumprod(sigmoid(_entries(logits, rollouts)), 2)


def _entries(logits: np.ndarray, rollouts: Rollouts) -> np.ndarray:
    seed = np.arange(len(logits))[:, None, None]
    return logits[seed, rollouts.fact, rollouts.own.astype(int)]


def learn_labels(table: Table, rollouts: Rollouts, labels: np.ndarray) -> None:
    """One optimizer step of a reward model on the cross-entropy of hard labels (S, R, K), mean over steps."""
    single = sigmoid(_entries(table.logits, rollouts))
    score = np.clip(np.cumprod(single, 2), 1e-4, 1 - 1e-4)
    slope = np.where(rollouts.written, (score - labels) / (1 - score), 0)  # d loss / d log score
    behind = np.cumsum(slope[..., ::-1], 2)[..., ::-1]
    gradient = np.zeros_like(table.logits)
    seed = np.broadcast_to(np.arange(len(gradient))[:, None, None], rollouts.fact.shape)
    np.add.at(gradient, (seed, rollouts.fact, rollouts.own.astype(int)), behind * (1 - single))
    table.descend(gradient / rollouts.written.sum((1, 2))[:, None, None])


def learn_policy(table: Table, rollouts: Rollouts, advantages: np.ndarray) -> None:
    """One step of the policy gradient: advantages of steps (S, R, K) on the log-probability of what they wrote."""
    sure = sigmoid(table.logits)
    fact = np.minimum(rollouts.fact, sure.shape[1] - 1)
    chance = np.take_along_axis(sure, fact.reshape(len(sure), -1), 1).reshape(fact.shape)
    gain = np.where(rollouts.fact == fact, advantages * (rollouts.own - chance), 0)
    gradient = np.zeros_like(sure)
    np.add.at(gradient, (np.broadcast_to(np.arange(len(sure))[:, None, None], fact.shape), fact), gain)
    table.descend(-gradient / rollouts.right.shape[1])


def compared(rewards: np.ndarray) -> np.ndarray:
    """GRPO's advantage: in units of the group's standard deviation (S, P, G)."""
    spread = rewards.std(2, ddof=1, keepdims=True)
    return (rewards - rewards.mean(2, keepdims=True)) / (spread + 1e-4)


def advantages(credit: str, rollouts: Rollouts, scores: np.ndarray, samples: int) -> np.ndarray:
    """Of each step (S, R, K), as `rewards.credit` has it for steps of one token; rollouts of a group stand together.

    Raises:
        KeyError: The twin does not know the credit rule.
    """
    seeds, count, _ = scores.shape
    grouped = (seeds, count // samples, samples)
    outcome, score = rollouts.right.reshape(grouped).astype(float), scores.reshape(*grouped, K)
    there = rollouts.written.reshape(score.shape)
    if credit == "outcome":
        found = np.broadcast_to(compared(outcome)[..., None], score.shape)
    elif credit == "additive":
        mean = np.where(there, score, 0).sum(3) / there.sum(3)
        found = np.broadcast_to(compared(outcome + mean)[..., None], score.shape)
    else:
        found = {"progress": _progress, "min_form": _min_form}[credit](outcome, score, there)
    return found.reshape(scores.shape)


def _progress(outcome: np.ndarray, score: np.ndarray, there: np.ndarray) -> np.ndarray:
    gain = np.diff(score, axis=3, prepend=0.0)
    gain = np.where(there, gain - gain.mean(2, keepdims=True), 0)  # siblings have as many steps
    apart = outcome - outcome.mean(2, keepdims=True)
    scale = np.sqrt(np.maximum((gain**2).sum((1, 2, 3)) / there.sum((1, 2, 3)), (apart**2).mean((1, 2))))
    return compared(outcome)[..., None] + gain / (scale[:, None, None, None] + 1e-6)


def _min_form(outcome: np.ndarray, score: np.ndarray, there: np.ndarray) -> np.ndarray:
    reward = np.where(there, 2 * score - 1, np.inf)
    weight = np.exp((reward.min(3, keepdims=True) - reward) / 0.1)
    part = np.where(there, (2 * score - 1) * weight / weight.sum(3, keepdims=True), 0)
    samples = outcome.shape[2]
    total, length = part.sum(3), there.sum(3) + 1  # the answer is a token, too
    others = (total.sum(2, keepdims=True) - total) / (length.sum(2, keepdims=True) - length)
    alone = outcome - (outcome.sum(2, keepdims=True) - outcome) / (samples - 1)
    earned = np.where(there, part - others[..., None], 0)
    return np.cumsum(earned[..., ::-1], 3)[..., ::-1] + alone[..., None]
