"""Trees of tokens: every token once, depth first, and each on its own path."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rewards.models.sharding import Length, pack_trees
from rewards.models.token_tree import Stem, lay_out

Tree = tuple[list[int], list[Stem | None]]
LENGTHS = st.lists(
    st.tuples(st.sampled_from("abcde"), st.builds(Length, st.just(7), st.integers(0, 20))), min_size=1, max_size=30
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


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=30))
def test_the_rows_of_a_prompt_stay_together_where_they_fit(prompts: list[str]) -> None:
    packed = pack_trees(prompts, [Length(7, 3)] * len(prompts), most_tokens=7 + 3 * len(prompts))
    assert len(packed) >= 1
    for prompt in set(prompts):
        assert sum(any(prompts[place] == prompt for place in batch) for batch in packed) == 1
