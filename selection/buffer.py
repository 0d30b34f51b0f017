"""The streaming buffer: of an endless stream of annotated rollouts, the informative ones."""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from rewards.record_files import read_annotated, write_annotated
from rewards.records import Annotated
from selection.bis import step_statistics
from selection.selectors import make_selector


@dataclass(frozen=True)
class Kept:
    """One buffer entry: the rollout and the score it was kept for."""

    annotated: Annotated
    score: float


class StreamingBuffer:
    """Keeps about the top ``keep_ratio`` of each source of a stream, and never more than ``capacity`` rollouts.

    The online counterpart of "the top rho of each source file" (published BIS): an offered rollout is kept if its score
    lies among the top ``keep_ratio`` of the last ``window`` scores of its own source, itself included. Equal scores,
    which small counts make common, are told apart at random, so that a source whose scores are all equal still keeps
    its share. When the buffer is full, the entry with the lowest score leaves, the oldest first among equals.

    >>> buffer = StreamingBuffer("bis", keep_ratio=0.5, capacity=100, alpha=0.05, window=1000, seed=0)
    >>> len(buffer), buffer.seen
    (0, 0)

    Args:
        selector: Name of the selector that scores rollouts; see `selection.selectors`.
        keep_ratio: Share of each source to keep, in (0, 1].
        capacity: Most rollouts held.
        alpha: BIS's alpha.
        window: Scores remembered for each source.
        seed: Of the tie-breaking and of `draw`.

    Attributes:
        seen, kept, evicted: Rollouts offered, kept at the time of their offer, and pushed out later.
    """

    def __init__(self, selector: str, keep_ratio: float, capacity: int, alpha: float, window: int, seed: int) -> None:
        self._selector = make_selector(selector, alpha)
        self._keep_ratio, self._capacity, self._window = keep_ratio, capacity, window
        self._generator = np.random.default_rng(seed)
        self._entries: list[Kept] = []
        self._recent: dict[str, _RecentScores] = {}
        self.seen = self.kept = self.evicted = 0

    def __len__(self) -> int:
        return len(self._entries)

    def offer(self, batch: Sequence[Annotated]) -> dict[str, float]:
        """Show the buffer freshly annotated rollouts, in stream order; it keeps what is informative.

        Returns:
            Statistics of the batch: ``kept`` share, and over its labelled rollouts the mean ``score``, ``mixture``,
            ``reliability`` and ``all_negative`` share, beside the buffer's ``size`` and the ``threshold`` averaged over
            sources.
        """
        counts = [entry.counts for entry in batch]
        scores = self._selector(counts, self._generator)
        kept_before = self.kept
        for entry, score in zip(batch, scores, strict=True):
            self._offer_one(entry, float(score))
        self._evict()
        statistics = step_statistics(counts)
        labelled = statistics.labelled > 0
        return {
            "kept": (self.kept - kept_before) / max(len(batch), 1),
            "score": _mean(scores),
            "mixture": _mean(statistics.mixture[labelled]),
            "reliability": _mean(statistics.reliability[labelled]),
            "all_negative": _mean(statistics.all_negative[labelled]),
            "size": float(len(self)),
            "threshold": _mean([recent.threshold(self._keep_ratio) for recent in self._recent.values()]),
        }

    def draw(self, size: int) -> list[Annotated]:
        """``size`` kept rollouts for an MPRM update, uniformly and without repeats; all of them if there are fewer."""
        chosen = self._generator.permutation(len(self._entries))[:size]
        return [self._entries[index].annotated for index in chosen]

    def shares(self) -> dict[str, float]:
        """The share of each source among the kept rollouts, as ``share/SOURCE``."""
        sources = Counter(entry.annotated.rollout.source for entry in self._entries)
        return {f"share/{source}": count / len(self) for source, count in sorted(sources.items())}

    def save(self, folder: Path) -> None:
        """Write everything that the buffer's future depends on: Parquet for the rollouts, JSON for the rest."""
        folder.mkdir(parents=True, exist_ok=True)
        write_annotated(folder, [entry.annotated for entry in self._entries])
        state = {
            "scores": [entry.score for entry in self._entries],
            "recent": {source: list(recent.in_order) for source, recent in self._recent.items()},
            "generator": self._generator.bit_generator.state,
            "counters": [self.seen, self.kept, self.evicted],
        }
        (folder / "buffer.json").write_text(json.dumps(state))

    def restore(self, folder: Path) -> None:
        """Become the buffer that `save` wrote."""
        state = json.loads((folder / "buffer.json").read_text())
        annotated = read_annotated(folder)
        self._entries = [Kept(entry, score) for entry, score in zip(annotated, state["scores"], strict=True)]
        self._recent = {}
        for source, scores in state["recent"].items():
            self._recent[source] = _RecentScores(self._window)
            for score in scores:
                self._recent[source].add(tuple(score))
        self._generator.bit_generator.state = state["generator"]
        self.seen, self.kept, self.evicted = state["counters"]

    def _offer_one(self, entry: Annotated, score: float) -> None:
        self.seen += 1
        if np.isnan(score):
            return
        recent = self._recent.setdefault(entry.rollout.source, _RecentScores(self._window))
        ranked = (score, float(self._generator.random()))
        recent.add(ranked)
        if recent.rank(ranked) < self._keep_ratio:
            self._entries.append(Kept(entry, score))
            self.kept += 1

    def _evict(self) -> None:
        surplus = len(self._entries) - self._capacity
        if surplus <= 0:
            return
        lowest = sorted(range(len(self._entries)), key=lambda index: self._entries[index].score)[:surplus]
        leaving = set(lowest)
        self._entries = [entry for index, entry in enumerate(self._entries) if index not in leaving]
        self.evicted += surplus


class _RecentScores:
    """The last ``window`` (score, tie-breaker) pairs of one source, in order of arrival and in order of size."""

    def __init__(self, window: int) -> None:
        self.in_order: deque[tuple[float, ...]] = deque()
        self._window = window
        self._sorted: list[tuple[float, ...]] = []

    def add(self, ranked: tuple[float, ...]) -> None:
        if len(self.in_order) == self._window:
            oldest = self.in_order.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        self.in_order.append(ranked)
        insort(self._sorted, ranked)

    def rank(self, ranked: tuple[float, ...]) -> float:
        """The share of remembered scores above this one, in [0, 1)."""
        return (len(self._sorted) - bisect_left(self._sorted, ranked) - 1) / len(self._sorted)

    def threshold(self, keep_ratio: float) -> float:
        """The lowest score that would be kept now."""
        return self._sorted[-ceil(len(self._sorted) * keep_ratio)][0]


def _mean(values: Sequence[float] | np.ndarray) -> float:
    finite = np.asarray(values, dtype=float)
    finite = finite[~np.isnan(finite)]
    return float(finite.mean()) if len(finite) else float("nan")
