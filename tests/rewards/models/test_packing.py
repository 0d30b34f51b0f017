"""Packing: every row once, no micro-batch above its limit, and rows of like length together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rewards.models.sharding import Length, pack

LENGTHS = st.lists(st.builds(Length, st.integers(0, 50), st.integers(0, 50)), max_size=40)


@given(LENGTHS, st.integers(1, 200), st.integers(1, 5))
def test_every_row_is_packed_once_and_within_the_limit(lengths: list[Length], most: int, at_least: int) -> None:
    packed = pack(lengths, most, at_least)
    assert sorted(place for batch in packed for place in batch) == list(range(len(lengths)))
    for batch in packed:
        head, body = (max(lengths[place][side] for place in batch) for side in (0, 1))
        assert len(batch) == 1 or len(batch) * (head + body) <= most, (
            "heads are padded on the left, bodies on the right"
        )
    assert len(packed) >= min(at_least, len(lengths))


@given(LENGTHS, st.integers(1, 200))
def test_rows_are_packed_from_long_to_short(lengths: list[Length], most: int) -> None:
    order = [sum(lengths[place]) for batch in pack(lengths, most) for place in batch]
    assert order == sorted(map(sum, lengths), reverse=True)
