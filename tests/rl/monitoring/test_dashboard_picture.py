"""Pictures of rollouts, looked at pixel by pixel."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from rl.monitoring.rollout_picture import (
    PAPER,
    RIGHT,
    RULE,
    WIDTH,
    WRONG,
    ShownRollout,
    draw_rollout,
    step_colour,
)
from tests.fixtures.builders import (
    a_prompt,
    a_rollout,
    an_image,
    some_counts,
)

RED = (250, 10, 10)


def shown(**changes: object) -> ShownRollout:
    """Three steps, of which the last one has no finished continuation."""
    plain = ShownRollout(
        prompt=a_prompt(images=[Image.new("RGB", (40, 40), RED)]),
        rollout=dataclasses.replace(a_rollout([1, 1, 1]), text="one\ntwo\nthree\nAnswer: 4"),
        steps=["one", "two", "three"],
        scores=np.array([0.9, 0.2, 0.4]),
        counts=some_counts([4, 1, 0], [4, 4, 0]),
        kept=True,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def colours(rollout: ShownRollout) -> dict[tuple[int, int, int], int]:
    """How many pixels of each colour the picture has."""
    pixels = np.asarray(draw_rollout(rollout)).reshape(-1, 3)
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    return {tuple(colour): int(count) for colour, count in zip(found.tolist(), counts, strict=True)}


def test_every_score_has_a_cell_of_its_colour_and_what_is_missing_is_hatched() -> None:
    found = colours(shown())
    for score in (0.9, 0.2, 0.4, 1.0, 0.25):
        assert found.get(step_colour(score), 0) > 300, score
    assert found[RED] > 5000
    assert found[RULE] > colours(shown(counts=some_counts([4, 1, 2], 4)))[RULE] + 50
    assert found[RULE] < colours(shown(counts=None))[RULE] < colours(shown(counts=None, scores=np.zeros(0)))[RULE]


def test_colours_go_from_wrong_over_unsure_to_right() -> None:
    assert (step_colour(0.0), step_colour(1.0)) == (WRONG, RIGHT)
    reds = [step_colour(score)[0] for score in (0.5, 0.6, 0.8, 1.0)]
    blues = [step_colour(score)[2] for score in (0.0, 0.2, 0.4, 0.5)]
    assert reds == sorted(reds, reverse=True) and blues == sorted(blues)


def test_the_verdict_is_seen() -> None:
    neutral = {"scores": np.zeros(0), "counts": None}
    wrong = dataclasses.replace(shown().rollout, outcome=0.0)
    assert RIGHT in colours(shown(**neutral)) and WRONG not in colours(shown(**neutral))
    assert WRONG in colours(shown(rollout=wrong, **neutral)) and RIGHT not in colours(shown(rollout=wrong, **neutral))


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": a_prompt(images=[])},
        {"prompt": a_prompt(images=[an_image(size=(900, 30)), an_image(size=(20, 700)), an_image(size=(1, 1))])},
        {"prompt": dataclasses.replace(a_prompt(), question="why? " * 500, answer="x" * 400)},
        {"steps": ["an endless step " * 200, "w" * 3000, ""]},
        {"steps": ["step"] * 60, "scores": np.full(60, 0.5), "counts": some_counts([1] * 60, 4)},
        {"rollout": dataclasses.replace(a_rollout([]), text=""), "steps": [], "scores": np.zeros(0), "counts": None},
    ],
    ids=["no image", "odd images", "long question", "long steps", "many steps", "nothing written"],
)
def test_whatever_a_policy_writes_fits(changes: dict[str, object]) -> None:
    """The picture keeps its width, is not endless, and its right and lower margins stay empty."""
    picture = draw_rollout(shown(**changes))
    assert picture.width == WIDTH and 60 < picture.height < 2000
    pixels = np.asarray(picture)
    assert (pixels[:, -4:] == PAPER).all() and (pixels[-4:] == PAPER).all()
