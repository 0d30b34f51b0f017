"""The streaming buffer: what it guarantees, on streams whose best rollouts are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.records import Annotated
from selection.buffer import StreamingBuffer
from selection.candidates import gather_candidates
from selection.config import SelectionConfig
from selection.selectors import make_selector
from tests.fixtures.builders import a_prompt, a_rollout, some_counts

EVERYTHING = SelectionConfig(keep_ratio=1.0, capacity=1000, max_all_negative=1)


def entry(name: int, source: str = "total", *, positive: bool = True, version: int = 0) -> Annotated:
    """A rollout numbered ``name``, different from every other one."""
    rollout = a_rollout([1], group=name, source=source, version=version, tokens=[name])
    return Annotated(a_prompt(source=source), rollout, some_counts([int(positive)]))


def offer(buffer: StreamingBuffer, scores: Sequence[float], first: int = 0, **options: object) -> dict[str, float]:
    return buffer.offer([entry(first + i, **options) for i in range(len(scores))], np.array(scores))  # type: ignore[arg-type]


def kept(buffer: StreamingBuffer) -> list[int]:
    """The numbers of the kept rollouts, read from the buffer's state so that nothing is drawn."""
    copy = StreamingBuffer(buffer.settings.model_copy(update={"draw": "uniform", "fresh": None}), seed=0)
    copy.restore(buffer.state())
    return sorted(found.rollout.group for found in copy.draw(len(copy)))


def offline(scores: np.ndarray, sources: np.ndarray, keep_ratio: float) -> set[int]:
    """The published rule on the whole corpus: the top share of each source, equal scores in their order."""
    chosen: set[int] = set()
    for source in set(sources.tolist()):
        places = np.flatnonzero(sources == source)
        best = sorted(places.tolist(), key=lambda place: -scores[place])
        chosen.update(best[: max(1, int(len(places) * keep_ratio))])
    return chosen


def run(buffer: StreamingBuffer, stream: Sequence[Annotated], scores: np.ndarray, batch: int) -> None:
    for start in range(0, len(stream), batch):
        buffer.offer(stream[start : start + batch], scores[start : start + batch])
        assert buffer.held <= buffer.settings.capacity


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abc")), min_size=1, max_size=60),
    st.sampled_from([0.1, 0.3, 0.5, 1.0]),
    st.integers(1, 25),
)
def test_with_room_enough_it_is_the_published_rule_at_every_moment(
    stream: list[tuple[int, str]], keep_ratio: float, batch: int
) -> None:
    """Few different scores, so that most decisions are between equals."""
    scores = np.array([score / 5 for score, _ in stream])
    sources = np.array([source for _, source in stream])
    buffer = StreamingBuffer(SelectionConfig(keep_ratio=keep_ratio, capacity=60, max_all_negative=1), seed=0)
    for start in range(0, len(stream), batch):
        end = start + batch
        buffer.offer([entry(i, sources[i]) for i in range(start, min(end, len(stream)))], scores[start:end])
        assert set(kept(buffer)) == offline(scores[:end], sources[:end], keep_ratio)


@pytest.fixture(scope="module")
def long_stream() -> tuple[list[Annotated], np.ndarray, np.ndarray]:
    """100,000 rollouts of VisualPRM400K's kind, from four sources of different size, with their BIS (many equal)."""
    generator = np.random.default_rng(0)
    size = 100_000
    sources = generator.choice(["a", "b", "c", "d"], size, p=[0.4, 0.3, 0.2, 0.1])
    first_wrong = np.where(generator.random(size) < 0.1, generator.integers(0, 6, size), 6)
    right = np.where(np.arange(6) < first_wrong[:, None], generator.binomial(16, 0.9, (size, 6)), 0)
    prompts = {source: a_prompt(source=source) for source in "abcd"}
    stream = [
        Annotated(prompts[s], a_rollout([1], group=i, source=s, tokens=[i]), some_counts(right[i], 16))
        for i, s in enumerate(sources.tolist())
    ]
    return stream, make_selector("bis", SelectionConfig(alpha=0.2))(gather_candidates(stream)), sources


@pytest.mark.slow
@pytest.mark.parametrize("scored_by", ["bis", "chance"])
def test_a_long_stationary_stream_keeps_the_offline_top(
    long_stream: tuple[list[Annotated], np.ndarray, np.ndarray], scored_by: str
) -> None:
    """The guarantee: the offline top tenth of 100,000 rollouts, with no more room than that tenth."""
    stream, scores, sources = long_stream
    if scored_by == "chance":
        scores = np.random.default_rng(1).random(len(stream))
    buffer = StreamingBuffer(SelectionConfig(keep_ratio=0.1, capacity=10_000, max_all_negative=1), seed=0)
    run(buffer, stream, scores, batch=500)
    expected = offline(scores, sources, 0.1)
    overlap = len(expected & set(kept(buffer))) / len(expected)
    assert overlap > 0.99
    assert buffer.held == 10_000


def test_a_small_buffer_holds_the_best_of_a_long_stream_in_fair_shares(
    long_stream: tuple[list[Annotated], np.ndarray, np.ndarray],
) -> None:
    stream, scores, sources = long_stream
    buffer = StreamingBuffer(SelectionConfig(keep_ratio=0.1, capacity=1000, max_all_negative=1), seed=0)
    run(buffer, stream, scores, batch=500)
    found = set(kept(buffer))
    assert len(found) == len(buffer) == 1000
    assert len(found & offline(scores, sources, 0.011)) / 1000 > 0.95
    shares = Counter(sources[sorted(found)].tolist())
    assert [shares[s] / 1000 for s in "abcd"] == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=0.01)


def test_a_full_buffer_loses_what_ranks_lowest_in_its_source() -> None:
    buffer = StreamingBuffer(SelectionConfig(keep_ratio=1.0, capacity=3, max_all_negative=1), seed=0)
    offer(buffer, [0.5, 0.3])
    assert kept(buffer) == [0, 1]
    said = offer(buffer, [0.3, 0.4], first=2)
    assert kept(buffer) == [0, 1, 3]  # 1 and 2 are equal: the earlier one stays
    assert (said["kept"], said["left/capacity"]) == (0.5, 0)
    said = offer(buffer, [0.9, 0.8], first=4)
    assert kept(buffer) == [0, 4, 5]
    assert (said["kept"], said["left/capacity"], buffer.left["capacity"]) == (1.0, 2, 2)
    assert (buffer.seen, buffer.entered, buffer.held) == (6, 5, 3)


def test_the_reserve_moves_up_as_the_stream_grows() -> None:
    buffer = StreamingBuffer(SelectionConfig(keep_ratio=0.5, capacity=10, max_all_negative=1), seed=0)
    offer(buffer, [0.9, 0.8])
    assert (kept(buffer), buffer.held) == ([0], 2)
    offer(buffer, [0.1, 0.1], first=2)
    assert kept(buffer) == [0, 1]


def test_the_same_rollout_is_held_once_with_its_newest_evidence() -> None:
    buffer = StreamingBuffer(EVERYTHING, seed=0)
    offer(buffer, [0.5, 0.6])
    again = replace(entry(0), counts=some_counts([7]))
    said = buffer.offer([again, entry(2), again], np.array([0.2, 0.3, 0.4]))
    assert kept(buffer) == [0, 1, 2]
    assert said["left/replaced"] == 2  # the one held before, and its twin in the batch
    assert sorted(buffer.kept_scores().tolist()) == [0.3, 0.4, 0.6]
    held = {found.rollout.group: found.counts.correct.tolist() for found in buffer.draw(3)}
    assert held[0] == [7]


def test_equal_tokens_of_another_prompt_are_another_rollout() -> None:
    buffer = StreamingBuffer(EVERYTHING, seed=0)
    twin = entry(0)
    other = replace(twin, rollout=replace(twin.rollout, prompt_id="another", group=1))
    buffer.offer([twin, other], np.array([0.5, 0.5]))
    assert len(buffer) == 2


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=50),
    st.sampled_from([0.0, 0.2, 0.5]),
    st.sampled_from([0.3, 1.0]),
    st.integers(5, 50),
)
def test_all_negative_rollouts_never_exceed_their_share(
    stream: list[tuple[int, bool]], cap: float, keep_ratio: float, capacity: int
) -> None:
    buffer = StreamingBuffer(SelectionConfig(keep_ratio=keep_ratio, capacity=capacity, max_all_negative=cap), seed=0)
    for i, (score, positive) in enumerate(stream):
        buffer.offer([entry(i, positive=positive)], np.array([score / 10]))
        negative = [not stream[name][1] for name in kept(buffer)]
        assert sum(negative) <= cap * len(negative) + 1e-9
    if not cap and any(positive for _, positive in stream):
        assert len(buffer) > 0


def test_the_cap_lets_the_next_best_positive_ones_in() -> None:
    buffer = StreamingBuffer(SelectionConfig(keep_ratio=0.5, capacity=100, max_all_negative=0.25), seed=0)
    offer(buffer, [0.9] * 8, positive=False)
    assert len(buffer) == 0  # a quarter of nothing
    said = offer(buffer, [0.1 + i / 100 for i in range(8)], first=8)
    assert kept(buffer) == [0, 1, 10, 11, 12, 13, 14, 15]
    assert said["kept"] == 6 / 8
    assert buffer.statistics()["kept_all_negative"] == 0.25


def test_a_score_counts_half_after_a_half_life() -> None:
    options = SelectionConfig(keep_ratio=1.0, capacity=2, half_life=10, max_all_negative=1)
    buffer = StreamingBuffer(options, seed=0)
    offer(buffer, [0.8, 0.5], version=0)
    offer(buffer, [0.3], first=2, version=10)
    assert kept(buffer) == [0, 2]  # 0.4, 0.25 and 0.3 by now
    assert sorted(buffer.kept_scores().tolist()) == pytest.approx([0.3, 0.4])
    assert buffer.statistics()["age"] == 5
    assert buffer.statistics()["threshold"] == pytest.approx(0.3)
    without = StreamingBuffer(options.model_copy(update={"half_life": 0}), seed=0)
    offer(without, [0.8, 0.5], version=0)
    offer(without, [0.3], first=2, version=10)
    assert kept(without) == [0, 1]


def test_a_forgetful_buffer_holds_a_share_of_the_remembered_stream() -> None:
    """With half-life h and n rollouts a version the remembered stream is n / (1 - 2^(-1/h)); here 10 / 0.067 = 149."""
    buffer = StreamingBuffer(SelectionConfig(keep_ratio=0.5, capacity=10_000, half_life=10, max_all_negative=1), seed=0)
    generator = np.random.default_rng(0)
    for version in range(150):
        offer(buffer, generator.uniform(0.2, 0.3, 10).tolist(), first=10 * version, version=version)
    assert len(buffer) == pytest.approx(0.5 * 10 / (1 - 2**-0.1), abs=2)
    assert buffer.statistics()["age"] < 10


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=40), st.sampled_from([1, 5.0]))
def test_freshness_against_scores_decayed_one_by_one(stream: list[tuple[int, int]], half_life: float) -> None:
    buffer = StreamingBuffer(
        SelectionConfig(keep_ratio=0.4, capacity=100, half_life=half_life, max_all_negative=1), seed=0
    )
    versions = np.cumsum([step for _, step in stream])
    for i, (score, _) in enumerate(stream):
        buffer.offer([entry(i, version=int(versions[i]))], np.array([score / 10 + i / 1e6]))
    weight = 2 ** -((versions[-1] - versions) / half_life)
    now = np.array([score / 10 + i / 1e6 for i, (score, _) in enumerate(stream)]) * weight
    size = max(1, int(0.4 * weight.sum() + 1e-9))
    assert set(kept(buffer)) == set(np.argsort(-now)[:size].tolist())


def test_uniform_draws_are_uniform_and_without_repeats() -> None:
    buffer = StreamingBuffer(EVERYTHING, seed=0)
    offer(buffer, [0.1, 0.2, 0.3, 0.4, 0.5])
    drawn = [sorted(found.rollout.group for found in buffer.draw(2)) for _ in range(2000)]
    assert all(first < second for first, second in drawn)
    counts = Counter(name for pair in drawn for name in pair)
    assert [counts[name] for name in range(5)] == pytest.approx([800] * 5, abs=90)
    assert len(buffer.draw(99)) == len(buffer) == 5


def test_draws_by_priority() -> None:
    top = StreamingBuffer(EVERYTHING.model_copy(update={"draw": "top"}), seed=0)
    offer(top, [0.1, 0.5, 0.3, 0.4])
    assert sorted(found.rollout.group for found in top.draw(2)) == [1, 3]
    proportional = StreamingBuffer(EVERYTHING.model_copy(update={"draw": "proportional"}), seed=0)
    offer(proportional, [0.1, 0.2, 0.0, 0.7])
    counts = Counter(found.rollout.group for _ in range(4000) for found in proportional.draw(1))
    assert [counts[name] / 4000 for name in range(4)] == pytest.approx([0.1, 0.2, 0.0, 0.7], abs=0.03)


def test_a_draw_mixes_fresh_and_replayed_rollouts() -> None:
    buffer = StreamingBuffer(EVERYTHING.model_copy(update={"fresh": 0.75, "draw": "top"}), seed=0)
    offer(buffer, [0.9, 0.8, 0.7, 0.6])
    assert len(buffer.draw(4)) == 4  # nothing to replay yet: fresh ones fill up
    offer(buffer, [0.1, 0.2, 0.3, 0.4], first=4)
    assert sorted(found.rollout.group for found in buffer.draw(4)) == [0, 5, 6, 7]
    assert sorted(found.rollout.group for found in buffer.draw(4)) == [0, 1, 2, 4]  # one fresh one was left


def test_rollouts_without_a_score_are_seen_and_not_kept() -> None:
    buffer = StreamingBuffer(EVERYTHING, seed=0)
    said = offer(buffer, [np.nan, 0.5, np.nan])
    assert (kept(buffer), buffer.seen, said["kept"]) == ([1], 3, pytest.approx(1 / 3))
    assert buffer.offer([], np.zeros(0))["kept"] == 0
    assert StreamingBuffer(EVERYTHING, seed=0).draw(3) == []


@pytest.mark.parametrize("score", [-0.1, np.inf, -np.inf])
def test_a_score_that_cannot_be_is_refused_by_the_rollouts_name(score: float) -> None:
    buffer = StreamingBuffer(EVERYTHING, seed=0)
    with pytest.raises(ValueError, match=r"rollout 1 of the batch \(prompt 'prompt', group 1\): .* allowed is"):
        offer(buffer, [0.5, score])
    assert (buffer.seen, len(buffer)) == (0, 0)


def test_statistics_worked_by_hand() -> None:
    buffer = StreamingBuffer(SelectionConfig(keep_ratio=0.5, capacity=100, max_all_negative=1), seed=0)
    offer(buffer, [0.9, 0.7, 0.5, 0.1], source="a")
    offer(buffer, [0.4, 0.2], first=4, source="b", version=3, positive=False)
    assert buffer.statistics() == {
        "size": 3,
        "held": 6,
        "threshold": pytest.approx((0.7 + 0.4) / 2),
        "age": 2,
        "kept_all_negative": pytest.approx(1 / 3),
        "share/a": pytest.approx(2 / 3),
        "share/b": pytest.approx(1 / 3),
    }


@pytest.mark.parametrize("keep_ratio", [0.07, 0.14, 0.28, 0.29, 0.55, 0.56, 0.57, 0.58])
def test_what_is_kept_is_published_int_of_m_rho_rounding_and_all(keep_ratio: float) -> None:
    """0.29 * 100 is 28.999999999999996, of which the published script keeps 28."""
    buffer = StreamingBuffer(SelectionConfig(keep_ratio=keep_ratio, capacity=100, max_all_negative=1), seed=0)
    offer(buffer, np.linspace(1, 0.1, 100).tolist())
    assert len(buffer) == int(100 * keep_ratio)


def test_under_a_cap_an_all_negative_rollout_leaves_for_ranking_low_among_its_like() -> None:
    """It ranks above rollouts that stay, and would have stayed with them if it were not for the cap."""
    settings = SelectionConfig(keep_ratio=1.0, capacity=4, max_all_negative=0.25)
    buffer = StreamingBuffer(settings, seed=0)
    offer(buffer, [0.9, 0.8, 0.7], positive=False)
    offer(buffer, [0.3, 0.2, 0.1], first=3)
    assert buffer.held == 4
    stayed = {found.rollout.group for found in buffer.state().rows.entry}
    assert stayed == {0, 3, 4, 5}
