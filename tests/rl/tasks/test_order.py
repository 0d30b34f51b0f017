"""In which order rows are asked: passes, an order by chance, shares of sources; a number always has the same prompt."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.config import Config
from rl.config.sections import TaskConfig
from rl.errors import ConfigError
from rl.tasks.files import FileTask
from rl.tasks.making import make_task
from rl.tasks.order import Order

ROWS = {"a": np.array([0, 1, 2, 5, 6, 7, 9]), "b": np.array([3, 4, 8])}


@given(st.integers(0, 200), st.booleans(), st.integers(0, 5))
def test_every_pass_takes_each_row_once(number: int, shuffle: bool, seed: int) -> None:
    order = Order(ROWS, {}, shuffle, seed)
    one_pass = [order.row(10 * number + place) for place in range(10)]
    assert sorted(one_pass) == list(range(10))
    if not shuffle:
        assert one_pass == list(range(10))
    assert order.passes(10 * number + 5) == number + 0.5


def test_passes_differ_and_so_do_seeds() -> None:
    def passes(seed: int) -> list[tuple[int, ...]]:
        order = Order(ROWS, {}, True, seed)
        return [tuple(order.row(10 * number + place) for place in range(10)) for number in range(5)]

    assert len({*passes(0), *passes(1)}) == 10
    assert passes(3) == passes(3)


@given(st.lists(st.integers(0, 3000), max_size=30), st.booleans())
def test_a_prompts_number_decides_it_whatever_was_asked_before(asked: list[int], mixed: bool) -> None:
    shares = {"a": 1.0, "b": 4.0} if mixed else {}
    order = Order(ROWS, shares, True, 7)
    for index in asked:
        assert order.row(index) == Order(ROWS, shares, True, 7).row(index)


@pytest.mark.parametrize("shares", [{"a": 3.0, "b": 1.0}, {"b": 0.25, "a": 0.75}, {"a": 300.0, "b": 100.0}])
@pytest.mark.parametrize("shuffle", [False, True])
def test_sources_have_their_shares_and_go_through_their_own_rows(shares: dict[str, float], shuffle: bool) -> None:
    order = Order(ROWS, shares, shuffle, 1)
    rows = [order.row(index) for index in range(6400)]
    of_a = [row for row in rows if row in ROWS["a"]]
    assert len(of_a) == 4800
    for start in range(0, 6400, 64):
        assert sum(row in ROWS["a"] for row in rows[start : start + 64]) == 48
    for start in range(0, 4795, 7):
        assert sorted(of_a[start : start + 7]) == ROWS["a"].tolist()
    counts = Counter(rows)
    assert max(counts[row] for row in ROWS["b"]) - min(counts[row] for row in ROWS["b"]) <= 1
    assert order.passes(6400) == pytest.approx(0.75 * 4800 / 7 + 0.25 * 1600 / 3)
    neighbours = Counter(pairwise(rows))
    assert len(neighbours) > 30, "sources come mixed, not one after the other"


def test_a_source_without_a_share_is_left_out() -> None:
    order = Order(ROWS, {"b": 1.0}, True, 0)
    assert {order.row(index) for index in range(50)} == set(ROWS["b"].tolist())
    assert order.passes(6) == 2


def tables(folder: Path, **task: object) -> Config:
    rows = "".join(f"{name}{number},1,{name}\n" for name in ("x", "y") for number in range(6))
    (folder / "train.csv").write_text(f"question,answer,source\n{rows}")
    (folder / "heldout.csv").write_text("question,answer\nc,1\nd,1\n")
    named = {"train_files": (str(folder / "train.csv"),), "heldout_files": (str(folder / "heldout.csv"),)}
    return Config(task=TaskConfig.model_validate({"name": "files", **named, **task}))


def asked(config: Config, count: int = 12, split: str = "train") -> list[str]:
    task = make_task(config)
    return [task.prompt(split, index).question for index in range(count)]  # type: ignore[arg-type]


def test_files_are_shuffled_by_seed_and_heldout_prompts_are_not(tmp_path: Path) -> None:
    plain = asked(tables(tmp_path, shuffle=False))
    assert plain == [f"{name}{number}" for name in "xy" for number in range(6)]
    shuffled = asked(tables(tmp_path))
    assert sorted(shuffled) == plain != shuffled
    assert asked(tables(tmp_path)) == shuffled != asked(tables(tmp_path).model_copy(update={"seed": 1}))
    assert asked(tables(tmp_path), 4, "heldout") == ["c", "d", "c", "d"]


def test_shares_of_sources_are_configured(tmp_path: Path) -> None:
    config = tables(tmp_path, mixture={"x": 3, "y": 1})
    assert Counter(question[0] for question in asked(config, 640)) == {"x": 480, "y": 160}
    task = make_task(config)
    assert isinstance(task, FileTask) and task.passes(64) == pytest.approx(0.75 * 48 / 6 + 0.25 * 16 / 6)
    with pytest.raises(ConfigError, match=r"task.mixture: no source 'z' among the training prompts; there are x, y"):
        make_task(tables(tmp_path, mixture={"z": 1}))
