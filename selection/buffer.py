"""The streaming buffer: of an endless stream of annotated rollouts, the informative ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rewards.records import Annotated
from selection.config import SelectionConfig
from selection.rows import BufferState, Rows, identity, no_rows, place_in_source

REASONS = ("all_negative", "capacity", "outranked", "replaced")


class StreamingBuffer:
    """Keeps the top ``keep_ratio`` of each source of a stream, and never holds more than ``capacity`` rollouts.

    The online counterpart of "the top rho of each source file" (published BIS). After every `offer`, with m rollouts of
    a source seen so far, the *kept* ones are the best max(1, int(rho m)) of that source: by score, and among equals the
    earlier first, as a stable sort of a file would have it. The last one's score is the source's running threshold.
    What room is left holds a *reserve*, the next best of each source, which moves up as m grows; it is never drawn.

    Guaranteed:
        - At most ``capacity`` rollouts are held, after every offer.
        - No rollout (prompt and tokens) is held twice: one offered again takes the place of the earlier one. Both count
          in m, so where many repeat others, more of the distinct ones are kept than the ratio says.
        - Of a source's kept rollouts at most the share ``max_all_negative`` has no positive step.
        - Nothing leaves before ``capacity`` rollouts are held. From then on a rollout with a positive step leaves only
          if it ranks below the best capacity / m of its source, m being all that was seen; one without, under a
          ``max_all_negative`` below 1, also if it ranks below the best max_all_negative capacity / m among its like.
          So while rho m fits the capacity, and the cap is 1, the kept set is the offline top rho of everything seen,
          but for rollouts whose rank has risen since they left. On a stationary stream of 100,000 rollouts, with a
          capacity of rho times that, the two agree (a test asks for 95 % and finds more than 99). Once rho m has
          outgrown the capacity, the buffer holds the best ``capacity``, in fair shares.

    *Freshness.* With a half-life h, a score s of policy version v counts s 2^((v - now) / h), and so does each rollout
    in m: the kept set is the top rho of a stream that is forgotten at that rate. Ranking by log2(s) + v / h is the same
    at any time ("forward decay", Cormode et al. 2009), so nothing is ever rescored. Among equals the newer goes first.

    >>> buffer = StreamingBuffer(SelectionConfig(keep_ratio=0.5, capacity=100), seed=0)
    >>> len(buffer), buffer.seen
    (0, 0)

    Args:
        settings: What to keep and what to give.
        seed: Of the draws.

    Attributes:
        seen: Rollouts offered.
        entered: Of these, how many were kept at the end of their own offer.
        left: Rollouts that were kept and are no more, by reason: ``outranked`` (better ones came, or the source's share
            shrank), ``capacity``, ``all_negative`` (the cap); and all that were ``replaced``, kept or not.
    """

    def __init__(self, settings: SelectionConfig, seed: int) -> None:
        self.settings = settings
        self.seen = self.entered = 0
        self.left = Counter(dict.fromkeys(REASONS, 0))
        self._generator = np.random.default_rng(seed)
        self._sources: dict[str, int] = {}
        self._mass = np.zeros(0)  # rollouts seen of each source, discounted by age
        self._now = 0
        self._rows = no_rows()
        self._held: dict[tuple[str, tuple[int, ...]], int] = {}  # what is held: its place in the stream

    def __len__(self) -> int:
        """Rollouts kept, the reserve not counted."""
        return int(self._rows.kept.sum())

    @property
    def held(self) -> int:
        """Rollouts in memory, the reserve included."""
        return len(self._rows)

    def offer(self, batch: Sequence[Annotated], scores: np.ndarray) -> dict[str, float]:
        """Show the buffer freshly annotated rollouts, in stream order, with a selector's scores (B,); NaN is not kept.

        Returns:
            What the offer did: the ``kept`` share of the batch, and how many rollouts ``left/REASON``.

        Raises:
            ValueError: A score is negative or infinite, naming the rollout; nothing of the batch is taken then.
        """
        _check(batch, scores)
        before = Counter(self.left)
        scored = np.flatnonzero(~np.isnan(scores))
        arriving = self._arriving([batch[place] for place in scored], scores[scored], self.seen + scored)
        self._grow_mass(arriving)
        self._arrange(self._join(arriving))
        entered = int(self._rows.kept[self._rows.arrival >= self.seen].sum())
        self.seen += len(batch)
        self.entered += entered
        reasons = {f"left/{reason}": float(self.left[reason] - before[reason]) for reason in REASONS}
        return {"kept": entered / max(len(batch), 1)} | reasons

    def draw(self, size: int) -> list[Annotated]:
        """``size`` kept rollouts for an MPRM update, without repeats and in random order; all if there are fewer.

        ``settings.draw`` says who goes first, ``settings.fresh`` which share comes from those never drawn before (where
        one kind runs short the other fills up).
        """
        places = np.flatnonzero(self._rows.kept)
        order = places[np.argsort(-self._urgency(places), kind="stable")]
        if self.settings.fresh is not None:
            fresh = self._rows.drawn[order] == 0
            wanted = np.where(fresh, self.settings.fresh, 1 - self.settings.fresh) * size
            place_in_kind = np.where(fresh, np.cumsum(fresh), np.cumsum(~fresh))
            order = order[np.argsort(place_in_kind > np.round(wanted), kind="stable")]
        chosen = self._generator.permutation(order[:size])
        self._rows.drawn[chosen] += 1
        return list(self._rows.entry[chosen])

    def statistics(self) -> dict[str, float]:
        """The kept set as it stands: ``size``, ``held``, ``threshold`` (the lowest kept score, decayed, averaged over
        sources), mean ``age`` in policy versions, the ``all_negative`` share, and each source's ``share/SOURCE``."""
        rows = self._rows.take(self._rows.kept)
        per_source = np.bincount(rows.source, minlength=len(self._sources))
        present = np.flatnonzero(per_source)
        decayed = self._decayed(rows)
        lowest = [decayed[rows.source == source].min() for source in present]
        counts = {
            f"share/{name}": per_source[number] / max(len(rows), 1) for name, number in sorted(self._sources.items())
        }
        return {
            "size": float(len(rows)),
            "held": float(self.held),
            "threshold": _mean(lowest),
            "age": _mean(self._now - rows.version),
            "kept_all_negative": _mean(rows.negative),
        } | {name: float(share) for name, share in counts.items()}

    def kept(self) -> list[Annotated]:
        """The kept rollouts, source by source, the best of each first."""
        return list(self._rows.entry[self._rows.kept])

    def kept_scores(self) -> np.ndarray:
        """The decayed scores of the kept rollouts, in no particular order."""
        return self._decayed(self._rows.take(self._rows.kept))

    def state(self) -> BufferState:
        """Everything that the buffer's future depends on, settings apart."""
        return BufferState(
            replace(self._rows, drawn=self._rows.drawn.copy()),
            {name: float(self._mass[number]) for name, number in self._sources.items()},
            self._now,
            {"seen": self.seen, "entered": self.entered} | {f"left/{reason}": self.left[reason] for reason in REASONS},
            self._generator.bit_generator.state,
        )

    def restore(self, state: BufferState) -> None:
        """Become the buffer that had this state; settings may have changed since."""
        self._sources = {name: number for number, name in enumerate(state.mass)}
        self._mass, self._now = np.array(list(state.mass.values())), state.now
        self.seen, self.entered = state.counters["seen"], state.counters["entered"]
        self.left = Counter({reason: state.counters[f"left/{reason}"] for reason in REASONS})
        self._generator.bit_generator.state = state.generator
        rows = state.rows
        self._held = {identity(entry): place for entry, place in zip(rows.entry, rows.arrival.tolist(), strict=True)}
        earlier_first = np.argsort(rows.arrival)
        self._arrange(rows.take(earlier_first[::-1] if self.settings.half_life else earlier_first))

    def _arriving(self, batch: Sequence[Annotated], scores: np.ndarray, arrival: np.ndarray) -> Rows:
        for entry in batch:
            self._sources.setdefault(entry.rollout.source, len(self._sources))
        rows = no_rows(len(batch))
        rows.entry[:] = batch
        return replace(
            rows,
            source=np.array([self._sources[entry.rollout.source] for entry in batch], dtype=np.int64),
            score=scores.astype(float),
            version=np.array([entry.rollout.policy_version for entry in batch], dtype=np.int64),
            negative=_all_negative(batch),
            arrival=arrival,
        )

    def _grow_mass(self, arriving: Rows) -> None:
        """Count the newcomers into their sources, after discounting what came before if the policy has moved on."""
        now = max(self._now, int(arriving.version.max(initial=0)))
        self._mass = np.concatenate([self._mass, np.zeros(len(self._sources) - len(self._mass))])
        self._mass = self._mass * self._decay(now - self._now)
        self._now = now
        self._mass += np.bincount(arriving.source, self._decay(now - arriving.version), minlength=len(self._mass))

    def _join(self, arriving: Rows) -> Rows:
        """The rows with the newcomers, without those that they replace; equal ones in the order that they rank in."""
        keys = [identity(entry) for entry in arriving.entry]
        newest = dict(zip(keys, arriving.arrival.tolist(), strict=True))
        last_of_its_kind = np.array([newest[key] for key in keys], dtype=np.int64) == arriving.arrival
        replaced = [self._held.pop(key) for key in newest.keys() & self._held.keys()]
        self.left["replaced"] += len(replaced) + int((~last_of_its_kind).sum())
        rows = self._rows.take(~np.isin(self._rows.arrival, replaced)) if replaced else self._rows
        arriving = arriving.take(last_of_its_kind)
        return arriving.take(slice(None, None, -1)).join(rows) if self.settings.half_life else rows.join(arriving)

    def _arrange(self, rows: Rows) -> None:
        """Sort the rows, let go of what does not fit, and mark what is kept."""
        rows = rows.take(np.lexsort((-self._priority(rows), rows.source)))  # stable: equal ones stay in their order
        fitting = self._fitting(rows)
        is_new = rows.arrival >= self.seen
        for entry in rows.entry[~fitting & ~is_new]:
            del self._held[identity(entry)]
        for entry, place in zip(rows.entry[fitting & is_new], rows.arrival[fitting & is_new].tolist(), strict=True):
            self._held[identity(entry)] = place
        self.left["capacity"] += int(rows.kept[~fitting].sum())
        rows = rows.take(fitting)

        kept = self._choose(rows)
        capped = rows.negative if self.settings.max_all_negative < 1 else np.zeros(len(rows), dtype=bool)
        self.left["all_negative"] += int((rows.kept & ~kept & capped).sum())
        self.left["outranked"] += int((rows.kept & ~kept & ~capped).sum())
        self._rows = replace(rows, kept=kept)

    def _fitting(self, rows: Rows) -> np.ndarray:
        """Which rows the capacity has room for (n,)."""
        fitting = np.ones(len(rows), dtype=bool)
        if len(rows) > self.settings.capacity:
            fitting[np.argpartition(self._depth(rows), self.settings.capacity - 1)[self.settings.capacity :]] = False
        return fitting

    def _choose(self, rows: Rows) -> np.ndarray:
        """Which rows are kept (n,): the first ones of each source, not too many of them all-negative."""
        cap = self.settings.max_all_negative
        target = np.maximum(1, np.floor(self.settings.keep_ratio * self._mass))
        most_negative = np.floor(cap * target + 1e-9)
        if cap < 1:
            # Where positive rollouts are too few to fill the target, negative ones must not become the larger part.
            positive = np.bincount(rows.source, ~rows.negative, minlength=len(target))
            most_negative = np.minimum(most_negative, np.floor(cap / (1 - cap) * positive + 1e-9))
        allowed = ~rows.negative | (place_in_source(rows, rows.negative) <= most_negative[rows.source])
        return allowed & (place_in_source(rows, allowed) <= target[rows.source])

    def _depth(self, rows: Rows) -> np.ndarray:
        """The share of its source that ranks at or above each row (n,): the capacity goes to the smallest ones."""
        mass = np.maximum(self._mass, np.finfo(float).tiny)[rows.source]
        depth = place_in_source(rows, np.ones(len(rows), dtype=bool)) / mass
        if self.settings.max_all_negative < 1:
            cap = max(self.settings.max_all_negative, np.finfo(float).eps)
            among_negative = place_in_source(rows, rows.negative) / (mass * cap)
            depth = np.where(rows.negative, np.maximum(depth, among_negative), depth)
        return depth

    def _priority(self, rows: Rows) -> np.ndarray:
        """What rows are ranked by (n,), the same at any time."""
        if not self.settings.half_life:
            return rows.score
        with np.errstate(divide="ignore"):
            return np.log2(rows.score) + rows.version / self.settings.half_life

    def _urgency(self, places: np.ndarray) -> np.ndarray:
        """Who goes first in a draw: higher is earlier (k,)."""
        if self.settings.draw == "uniform":
            # By arrival: buffers that keep the same give the same, whatever their scores.
            return self._generator.random(len(places))[np.argsort(np.argsort(self._rows.arrival[places]))]
        decayed = self._decayed(self._rows.take(places))
        if self.settings.draw == "top":
            return decayed
        with np.errstate(divide="ignore"):
            # The k largest of log weight plus Gumbel noise are a weighted sample without replacement.
            return np.log(decayed) + self._generator.gumbel(size=len(places))

    def _decay(self, age: np.ndarray | int) -> np.ndarray:
        half_life = self.settings.half_life
        return np.exp2(-np.asarray(age) / half_life) if half_life else np.ones_like(age, dtype=float)

    def _decayed(self, rows: Rows) -> np.ndarray:
        return rows.score * self._decay(self._now - rows.version)


def _all_negative(batch: Sequence[Annotated]) -> np.ndarray:
    lengths = [len(entry.counts.correct) for entry in batch]
    correct = np.concatenate([np.zeros(0), *(entry.counts.correct for entry in batch)])
    return np.bincount(np.repeat(np.arange(len(batch)), lengths), correct > 0, minlength=len(batch)) == 0


def _check(batch: Sequence[Annotated], scores: np.ndarray) -> None:
    wrong = (scores < 0) | np.isinf(scores)
    if wrong.any():
        place = int(np.argmax(wrong))
        rollout = batch[place].rollout
        raise ValueError(
            f"rollout {place} of the batch (prompt {rollout.prompt_id!r}, group {rollout.group}): the selector's score "
            f"is {scores[place]:g}; allowed is a number from 0 on, or NaN for a rollout that is not to be kept"
        )


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
