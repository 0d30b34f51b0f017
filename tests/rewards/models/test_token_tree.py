"""Trees of tokens: every token once, depth first, and each on its own path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.models.sharding import Length, pack_trees
from rewards.models.token_tree import Stem, lay_out

Tree = tuple[list[int], list[Stem | None]]
LENGTHS = st.lists(
    st.tuples(st.sampled_from("abcde"), st.builds(Length, st.just(7), st.integers(0, 20))), min_size=1, max_size=30
)
HEADS = {"a": 1, "b": 2, "c": 4}
PATHS = st.lists(
    st.tuples(st.sampled_from([*HEADS]), st.lists(st.integers(0, 1), max_size=9).map(tuple)), min_size=1, max_size=16
)


@st.composite
def trees(draw: st.DrawFn, most: int = 9) -> Tree:
    """Completions of 0 to 4 tokens, on the prompt or on any place of an earlier one."""
    lengths = draw(st.lists(st.integers(0, 4), max_size=most))
    stems: list[Stem | None] = []
    for number in range(len(lengths)):
        parent = draw(st.one_of(st.none(), st.integers(0, number - 1)) if number else st.none())
        stems.append(None if parent is None else Stem(parent, draw(st.integers(0, lengths[parent]))))
    return lengths, stems


def read(lengths: list[int], stems: list[Stem | None]) -> list[list[tuple[int, int]]]:
    """The tokens on the path of each completion, a token being a completion and its place there."""
    paths: list[list[tuple[int, int]]] = []
    for number, (length, stem) in enumerate(zip(lengths, stems, strict=True)):
        before = [] if stem is None else paths[stem.completion]
        own = 0 if stem is None else lengths[stem.completion]
        kept = [] if stem is None else before[: len(before) - own + stem.tokens]
        paths.append(kept + [(number, place) for place in range(length)])
    return paths


@given(trees())
def test_each_token_has_one_place_and_each_completion_its_path(tree: Tree) -> None:
    branches = lay_out(*tree)
    places = {
        (number, place): int(branch.path[len(branch.path) - branch.own + place])
        for number, branch in enumerate(branches)
        for place in range(branch.own)
    }
    assert sorted(places.values()) == list(range(sum(tree[0]))), "no place is empty, none has two tokens"
    for branch, path in zip(branches, read(*tree), strict=True):
        assert branch.path.tolist() == [places[token] for token in path]
        own = branch.path[len(branch.path) - branch.own :]
        assert own.tolist() == list(range(branch.start, branch.start + branch.own)), "in one piece"


@given(trees())
def test_what_grows_from_a_token_lies_between_it_and_where_it_ends(tree: Tree) -> None:
    branches = lay_out(*tree)
    leave = np.zeros(sum(tree[0]), int)
    for branch in branches:
        leave[branch.path] = np.maximum(leave[branch.path], branch.path[-1:].sum() + 1)
    on_path = {
        (int(query), int(key))
        for branch in branches
        for end, query in enumerate(branch.path)
        for key in branch.path[: end + 1]
    }
    everyone = range(len(leave))
    assert on_path == {(q, k) for q in everyone for k in everyone if k <= q < leave[k]}


def test_a_chain_may_be_deeper_than_functions_may_call_each_other() -> None:
    stems = [None, *(Stem(number, 1) for number in range(4999))]
    assert lay_out([1] * 5000, stems)[-1].path.tolist() == list(range(5000))


@given(LENGTHS, st.integers(1, 200), st.integers(1, 9), st.integers(1, 4))
def test_every_row_is_packed_once_and_within_the_limits(
    rows: list[tuple[str, Length]], most_tokens: int, most_rows: int, at_least: int
) -> None:
    prompts, lengths = [prompt for prompt, _ in rows], [length for _, length in rows]
    packed = pack_trees(prompts, lengths, most_tokens, most_rows, at_least)
    assert sorted(place for batch in packed for place in batch) == list(range(len(rows)))
    for batch in packed:
        assert len(batch) <= most_rows
        bodies = [sum(lengths[p].body for p in batch if prompts[p] == prompt) for prompt in {prompts[p] for p in batch}]
        assert len(batch) == 1 or 7 + max(bodies) <= most_tokens
    assert len(packed) >= min(at_least, len(rows))


def fewest(rows: list[int], fits: Callable[[list[int]], bool]) -> int:
    """Pieces into which rows have to be cut, by trying every cut; one row is a piece whether it fits or not."""
    needed = [0]
    for end in range(1, len(rows) + 1):
        cuts = [start for start in range(end) if end - start == 1 or fits(rows[start:end])]
        needed.append(1 + min(needed[start] for start in cuts))
    return needed[-1]


@pytest.mark.parametrize("shared", [False, True], ids=["sums", "shared"])
@given(PATHS, st.integers(4, 40), st.integers(1, 8), st.randoms(use_true_random=False))
def test_rows_are_cut_no_more_often_than_it_takes(
    shared: bool, rows: list[tuple[str, tuple[int, ...]]], most_tokens: int, most_rows: int, chance: Random
) -> None:
    """Rows that begin alike share that, or count in full."""
    prompts, paths = [prompt for prompt, _ in rows], [path for _, path in rows]
    lengths = [Length(HEADS[prompt], len(path)) for prompt, path in rows]
    order = chance.sample(range(len(rows)), len(rows))

    def body(places: Sequence[int]) -> int:
        begun = [(0 if shared else place, paths[place][:end]) for place in places for end in range(len(paths[place]))]
        return len(set(begun))

    def fits(places: Sequence[int]) -> bool:
        trees = [[place for place in places if prompts[place] == prompt] for prompt in HEADS]
        widest = [max(HEADS[prompts[place]] for place in places), max(map(body, trees))]
        return len(places) <= most_rows and sum(map(bool, trees)) * sum(widest) <= most_tokens

    packed = pack_trees(prompts, lengths, most_tokens, most_rows, order=order, body=body if shared else None)
    assert sorted(place for batch in packed for place in batch) == list(range(len(rows)))
    assert all(len(batch) == 1 or fits(batch) for batch in packed)
    needed = [fewest([place for place in order if prompts[place] == prompt], fits) for prompt in HEADS]
    assert len(packed) <= sum(needed)


def test_a_prompt_is_cut_along_the_order_of_its_rows() -> None:
    assert pack_trees("aaaa", [Length(1, 2)] * 4, most_rows=2, order=[0, 2, 1, 3]) == [[0, 2], [1, 3]]


def test_parts_of_a_prompt_that_meet_count_as_they_are_read() -> None:
    """The two small rows of a prompt around a large one are 20 tokens in one row, to which another's 10 are padded."""
    lengths = [Length(1, 10), Length(1, 25), Length(1, 10), Length(1, 10)]
    assert pack_trees("aaab", lengths, most_tokens=33) == [[1], [0, 2], [3]]


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=30))
def test_the_rows_of_a_prompt_stay_together_where_they_fit(prompts: list[str]) -> None:
    packed = pack_trees(prompts, [Length(7, 3)] * len(prompts), most_tokens=7 + 3 * len(prompts))
    assert len(packed) >= 1
    for prompt in set(prompts):
        assert sum(any(prompts[place] == prompt for place in batch) for batch in packed) == 1
