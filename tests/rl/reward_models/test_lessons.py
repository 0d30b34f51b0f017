"""What the MPRM learns from: offers, what is held back, and when there is a lesson."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewards.records import Annotated, StepScores
from rewards.seeds import derive_seed
from rewards.users_code import UsersCodeError
from rl.config import Config
from rl.errors import ConfigError
from rl.reward_models.lessons import BUFFER_FILE, HELD_BACK_FILE, Lessons
from rl.workers.pending import Ready
from selection.rows import identity
from tests.fixtures.builders import a_prompt, a_rollout, some_counts


class Pupil:
    """Says that it has learned, and remembers from what."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def start(self, method: str, *arguments: Any) -> Ready[dict[str, float]]:
        self.asked.append((method, *arguments))
        return Ready({"loss": 0.5})


def some_lessons(selector: str = "random", **mprm: Any) -> Lessons:
    selection = {"selector": selector, "keep_ratio": 0.5, "capacity": 100}
    return Lessons(Config.model_validate({"seed": 7, "selection": selection, "mprm": mprm}))


def a_batch(size: int = 20, first: int = 0) -> list[Annotated]:
    """One rollout a group."""
    return [
        Annotated(a_prompt(str(p)), a_rollout(prompt=str(p), group=p, tokens=[p] * 5), some_counts([4, p % 3], 4))
        for p in range(first, first + size)
    ]


def names(entries: Iterable[Annotated]) -> set[object]:
    return {identity(entry) for entry in entries}


@pytest.mark.parametrize("step", [3, "corpus"])
def test_what_is_chosen_at_random_depends_on_seed_and_step_alone(step: Any) -> None:
    wanted = np.random.default_rng(derive_seed(7, "select", step)).random(20).tolist()
    lessons = some_lessons()
    found = [lessons.offer(number, a_batch(), None, None).informative.tolist() for number in (step, step, 4)]
    assert found[0] == found[1] == wanted != found[2]


def test_an_offer_tells_how_the_buffer_stands() -> None:
    lessons = some_lessons("bis")
    lessons.offer(0, a_batch(), None, None)
    offer = lessons.offer(1, a_batch(first=20), None, None)
    assert offer.seen == 40 and len(offer.candidates) == len(offer.informative) == 20
    assert list(offer.kept) == lessons.buffer.kept() and len(offer.kept) == len(offer.kept_scores) == 20
    assert offer.buffer["size"] == 20 and offer.buffer["left/capacity"] == 0
    assert set(lessons.buffer.statistics()) < set(offer.buffer)


@pytest.mark.parametrize("score", [-1.0, np.inf])
def test_a_score_that_cannot_be_kept_is_the_selectors_failure(score: float) -> None:
    lessons = some_lessons()
    lessons.selector = lambda candidates: np.full(len(candidates), score)
    told = r"^selection\.selector random failed: rollout 0 .* allowed is a number"
    with pytest.raises(UsersCodeError, match=told):
        lessons.offer(0, a_batch(), None, None)
    with pytest.raises(UsersCodeError, match=told):
        lessons.keep_corpus(0, a_batch(), None, None)


def test_held_back_groups_are_scored_and_never_learned_from() -> None:
    lessons = some_lessons(guard_share=0.4, guard_capacity=100)
    offer = lessons.offer(0, a_batch(60), None, None)
    held_back = lessons.held_back.entries()
    assert 10 < len(held_back) < 40 and offer.seen == 60 - len(held_back) and len(offer.informative) == 60
    assert not names(held_back) & names(lessons.buffer.draw(100))


def test_a_lesson_is_begun_when_one_is_due_and_something_is_kept() -> None:
    lessons, pupil = some_lessons(every=2, batches=2, batch_size=3, guard_share=0.4, guard_margin=0.1), Pupil()
    assert lessons.begin(pupil, 1).result() == {}, "nothing is kept"
    offer = lessons.offer(0, a_batch(60), None, None)
    assert lessons.begin(pupil, 0).result() == lessons.begin(pupil, 2).result() == {} and not pupil.asked
    assert lessons.begin(pupil, 1).result() == {"loss": 0.5}
    ((method, samples, held_back, margin),) = pupil.asked
    assert (method, len(samples), margin) == ("update", 6, 0.1)
    assert names(samples) <= names(offer.kept) and held_back == lessons.held_back.entries()


def test_lessons_that_are_loaded_go_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    lessons, again = some_lessons(guard_share=0.4), some_lessons(guard_share=0.4)
    lessons.offer(0, a_batch(60), None, None)
    lessons.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {BUFFER_FILE, HELD_BACK_FILE}
    again.load(tmp_path)
    for one in (lessons, again):
        one.offer(1, a_batch(60, first=60), None, None)
    assert names(again.held_back.entries()) == names(lessons.held_back.entries())
    drawn = [[identity(entry) for entry in one.buffer.draw(10)] for one in (lessons, again)]
    assert drawn[0] == drawn[1]
    (tmp_path / HELD_BACK_FILE).unlink()
    with pytest.raises(ValueError, match=HELD_BACK_FILE):
        again.load(tmp_path)


@pytest.mark.parametrize(
    ("selector", "images", "scores"),
    [
        ("bis", False, False),
        ("bis_visual", True, False),
        ("hard", False, True),
        ("tests.fixtures.own_selector:LongAndFull", True, True),
        ("tests.fixtures.own_selector:failing", False, True),
    ],
)
def test_selectors_say_what_they_look_at(selector: str, images: bool, scores: bool) -> None:
    lessons = some_lessons(selector)
    assert (lessons.looks_at_images, lessons.looks_at_scores) == (images, scores)


def test_a_selector_sees_scores_and_entropy() -> None:
    batch = a_batch(2)
    scores = [StepScores(np.array([0.5, 0.25]), 0) for _ in batch]
    lessons = some_lessons("tests.fixtures.own_selector:LongAndFull")
    assert lessons.offer(0, batch, scores, np.array([0.5, 0.25])).informative.tolist() == [1.0, 0.5]


def test_selectors_that_fail_or_are_none_are_said_to() -> None:
    with pytest.raises(ConfigError, match=r"selection\.selector: 'best' is not one of"):
        some_lessons("best")
    with pytest.raises(UsersCodeError, match=r"^selection\.selector tests\.fixtures\.own_selector:failing failed"):
        some_lessons("tests.fixtures.own_selector:failing").offer(0, a_batch(), None, None)


def test_a_selector_is_not_asked_about_nothing() -> None:
    offer = some_lessons("tests.fixtures.own_selector:failing").offer(0, [], [], None)
    assert offer.seen == len(offer.informative) == len(offer.kept) == 0
