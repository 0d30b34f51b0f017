"""The streaming buffer: its share of every source, its order of leaving, and its memory of itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from rewards.records import Annotated
from selection.buffer import StreamingBuffer
from tests.builders import a_prompt, a_rollout, some_counts


def a_buffer(
    selector: str = "bis", keep_ratio: float = 0.25, capacity: int = 10_000, window: int = 200, seed: int = 0
) -> StreamingBuffer:
    return StreamingBuffer(selector, keep_ratio, capacity, alpha=1.0, window=window, seed=seed)


def entry(name: int, value: int, source: str = "total", sampled: int = 1000) -> Annotated:
    """A rollout numbered ``name``; one positive step and alpha 1 make its BIS ``value / sampled``."""
    rollout = a_rollout([2], group=name, source=source)
    return Annotated(a_prompt(source=source), rollout, some_counts([value], sampled))


def names(entries: Sequence[Annotated]) -> list[int]:
    return sorted(found.rollout.group for found in entries)


def kept(buffer: StreamingBuffer) -> list[int]:
    return names(buffer.draw(len(buffer)))


def a_stream(length: int, seed: int = 0, sources: Sequence[str] = ("a", "b")) -> list[list[Annotated]]:
    """Batches of ten with few different scores, and now and then a rollout without labels."""
    generator = np.random.default_rng(seed)
    rollouts = [
        entry(i, int(value), sources[i % len(sources)], sampled=4 if i % 9 else 0) if i % 9 else entry(i, 0, sampled=0)
        for i, value in enumerate(generator.integers(1, 5, length))
    ]
    return [rollouts[i : i + 10] for i in range(0, length, 10)]


@pytest.mark.parametrize("selector", ["bis", "random"])
@pytest.mark.parametrize("keep_ratio", [0.1, 0.25, 0.5])
def test_every_source_keeps_its_share_of_a_stationary_stream(selector: str, keep_ratio: float) -> None:
    """Sources of very different scores and sizes: the hardest still keeps ``keep_ratio`` of its own."""
    generator = np.random.default_rng(1)
    ranges, sizes = (
        {"low": (1, 40), "middle": (300, 600), "high": (900, 1000)},
        {"low": 500, "middle": 1000, "high": 250},
    )
    stream = [
        entry(i, int(generator.integers(*ranges[source])), source)
        for i, source in enumerate(
            generator.permutation([s for s, size in sizes.items() for _ in range(size)]).tolist()
        )
    ]
    buffer = a_buffer(selector, keep_ratio)
    for start in range(0, len(stream), 25):
        buffer.offer(stream[start : start + 25])
    found = Counter(item.rollout.source for item in buffer.draw(len(buffer)))
    for source, size in sizes.items():
        assert found[source] / size == pytest.approx(keep_ratio, abs=3.5 * (keep_ratio / size) ** 0.5)
    assert buffer.kept == len(buffer) == sum(found.values())
    assert buffer.seen == len(stream)
    assert buffer.shares() == {f"share/{source}": found[source] / len(buffer) for source in sorted(found)}


def test_the_kept_are_the_best_of_what_was_seen_so_far() -> None:
    """Slow and plain, without ties: kept if fewer than keep_ratio of the window's scores are higher."""
    values = (np.random.default_rng(2).permutation(300) + 1).tolist()
    buffer = a_buffer(keep_ratio=0.3, window=50)
    buffer.offer([entry(i, value) for i, value in enumerate(values)])
    expected = []
    for i, value in enumerate(values):
        window = values[max(0, i - 49) : i + 1]
        if sum(other > value for other in window) / len(window) < 0.3:
            expected.append(i)
    assert kept(buffer) == expected


def test_equal_scores_keep_their_share_and_not_only_the_first_ones() -> None:
    buffer = a_buffer(keep_ratio=0.25)
    buffer.offer([entry(i, 500) for i in range(2000)])
    found = kept(buffer)
    assert len(found) / 2000 == pytest.approx(0.25, abs=0.04)
    quarters = np.histogram(found, bins=4, range=(0, 2000))[0]
    assert quarters == pytest.approx(500 / 4 * np.ones(4), abs=45)


def test_among_few_values_the_higher_one_goes_first() -> None:
    """Half the rollouts score high, half low: a quarter kept is high ones only, three quarters is all of them."""
    stream = [entry(i, 900 if i % 2 else 100) for i in range(1000)]
    for keep_ratio, high, low in ((0.25, 0.5, 0.0), (0.75, 1.0, 0.5)):
        buffer = a_buffer(keep_ratio=keep_ratio)
        buffer.offer(stream)
        late = [name for name in kept(buffer) if name >= 200]
        assert sum(name % 2 for name in late) / 400 == pytest.approx(high, abs=0.08)
        assert sum(1 - name % 2 for name in late) / 400 == pytest.approx(low, abs=0.08)


def test_the_window_forgets() -> None:
    """After the scores have fallen for good, the source keeps its share again once the window has passed."""
    buffer = a_buffer(keep_ratio=0.5, window=100)
    buffer.offer([entry(i, 900) for i in range(300)])
    during = buffer.offer([entry(i, 100 + i % 50) for i in range(300, 350)])
    buffer.offer([entry(i, 100 + i % 50) for i in range(350, 400)])
    after = buffer.offer([entry(i, 100 + i % 50) for i in range(400, 600)])
    assert during["kept"] == 0
    assert after["kept"] == pytest.approx(0.5, abs=0.08)


def test_a_full_buffer_loses_the_lowest_and_among_equals_the_oldest() -> None:
    buffer = a_buffer(keep_ratio=1.0, capacity=3)
    buffer.offer([entry(0, 500), entry(1, 300)])
    assert kept(buffer) == [0, 1]
    buffer.offer([entry(2, 300), entry(3, 300)])
    assert kept(buffer) == [0, 2, 3]  # 1, 2 and 3 are equal: the oldest leaves
    buffer.offer([entry(4, 100)])
    assert kept(buffer) == [0, 2, 3]  # the newcomer is the lowest
    buffer.offer([entry(5, 400), entry(6, 200), entry(7, 600), entry(8, 300)])
    assert kept(buffer) == [0, 5, 7]
    assert (buffer.seen, buffer.kept, buffer.evicted, len(buffer)) == (9, 9, 6, 3)


def test_the_random_selector_does_not_look_at_scores() -> None:
    buffer = a_buffer("random", keep_ratio=0.5)
    buffer.offer([entry(i, 900 if i % 2 else 100) for i in range(1000)])
    assert np.mean([name % 2 for name in kept(buffer)]) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("selector", ["bis", "random"])
def test_what_has_no_labels_is_seen_and_never_kept(selector: str) -> None:
    buffer = a_buffer(selector, keep_ratio=1.0)
    statistics = buffer.offer([entry(0, 0, sampled=0), entry(1, 5), entry(2, 0, sampled=0)])
    assert kept(buffer) == [1]
    assert buffer.seen == 3
    assert statistics["kept"] == pytest.approx(1 / 3)


def test_statistics_of_a_batch_worked_by_hand() -> None:
    """Scores (1/4 + 1) 1/2, 1 and 1/4; the unlabelled rollout is in no mean but the kept share."""
    prompt, rollout = a_prompt(), a_rollout([1, 1])
    batch = [
        Annotated(prompt, rollout, some_counts(correct, sampled))
        for correct, sampled in (([4, 0], 8), ([0, 0], 8), ([2, 2], 8), ([0, 0], 0))
    ]
    statistics = a_buffer(keep_ratio=1.0, capacity=2).offer(batch)
    assert statistics == {
        "kept": 0.75,
        "score": pytest.approx((0.625 + 1.0 + 0.25) / 3),
        "mixture": pytest.approx(0.25 / 3),
        "reliability": pytest.approx((0.5 + 1.0 + 0.25) / 3),
        "all_negative": pytest.approx(1 / 3),
        "size": 2.0,
        "threshold": pytest.approx(0.25),
    }


@pytest.mark.parametrize(("scores", "threshold"), [([1, 2], 2), ([1, 2, 3], 2), ([4, 3, 2, 1], 3), ([5], 5)])
def test_the_threshold_is_the_lowest_score_among_the_top_half(scores: list[int], threshold: int) -> None:
    statistics = a_buffer(keep_ratio=0.5).offer([entry(i, score) for i, score in enumerate(scores)])
    assert statistics["threshold"] == pytest.approx(threshold / 1000)


def test_an_empty_batch_changes_nothing() -> None:
    buffer = a_buffer()
    statistics = buffer.offer([])
    assert (statistics["kept"], statistics["size"]) == (0, 0)
    assert all(isnan(statistics[name]) for name in ("score", "mixture", "reliability", "all_negative", "threshold"))
    assert (buffer.draw(3), buffer.shares()) == ([], {})


def test_draws_are_uniform_and_without_repeats() -> None:
    buffer = a_buffer(keep_ratio=1.0)
    buffer.offer([entry(i, i + 1) for i in range(5)])
    drawn = [names(buffer.draw(2)) for _ in range(2000)]
    assert all(first < second for first, second in drawn)
    counts = Counter(name for pair in drawn for name in pair)
    assert [counts[name] for name in range(5)] == pytest.approx([800] * 5, abs=90)
    assert names(buffer.draw(99)) == [0, 1, 2, 3, 4]
    assert len(buffer) == 5


def run(buffer: StreamingBuffer, batches: list[list[Annotated]]) -> list:
    """All that the buffer says, draws included: what a training run would see of it."""
    said = []
    for batch in batches:
        statistics = buffer.offer(batch)
        drawn = [found.rollout.group for found in buffer.draw(3)]
        said.append((json.dumps(statistics), drawn, buffer.seen, buffer.kept, buffer.evicted, buffer.shares()))
    return said


@pytest.mark.parametrize("selector", ["bis", "random"])
def test_the_same_seed_gives_the_same_buffer(selector: str) -> None:
    stream = a_stream(200)
    first = run(a_buffer(selector, capacity=30), stream)
    assert run(a_buffer(selector, capacity=30), stream) == first
    assert run(a_buffer(selector, capacity=30, seed=1), stream) != first


@pytest.mark.parametrize("selector", ["bis", "random"])
@pytest.mark.parametrize("stop", [0, 1, 12])
def test_a_restored_buffer_has_the_future_it_would_have_had(selector: str, stop: int, tmp_path: Path) -> None:
    stream = a_stream(250)
    # Small enough that the window slides and entries leave, before the stop and after it.
    uninterrupted = a_buffer(selector, keep_ratio=0.5, capacity=20, window=30)
    run(uninterrupted, stream[:stop])
    uninterrupted.save(tmp_path / "buffer")
    restored = a_buffer(selector, keep_ratio=0.5, capacity=20, window=30, seed=99)
    restored.offer(a_stream(20, seed=5)[0])  # whatever it held before is gone
    restored.restore(tmp_path / "buffer")
    assert len(restored) == len(uninterrupted)
    expected = run(uninterrupted, stream[stop:])
    assert run(restored, stream[stop:]) == expected
    assert uninterrupted.evicted > 0
