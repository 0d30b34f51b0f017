"""The entropy of an image's features: closed forms, and the real vision tower."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.models.encoding import Encoder
from rewards.process_model.complexity import feature_entropy
from rewards.process_model.labels import hard
from rewards.process_model.mprm import MPRM
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.tasks.grid import GridTask
from tests.fixtures.builders import a_prompt, an_image


def test_features_along_one_line_have_no_entropy() -> None:
    line = torch.arange(10.0).unsqueeze(1) * torch.tensor([[1.0, -2.0, 3.0]])
    assert feature_entropy(line + 5) == pytest.approx(0, abs=1e-9)


def test_equal_variance_in_all_directions_is_the_most_there_is() -> None:
    corners = torch.cat([torch.eye(4), -torch.eye(4)])
    assert feature_entropy(corners) == pytest.approx(1)


def test_two_directions_against_the_closed_form() -> None:
    """Variances 1 and 9 of two: shares 0.1 and 0.9, two directions."""
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
    expected = -(0.1 * np.log(0.1) + 0.9 * np.log(0.9)) / np.log(2)
    assert feature_entropy(features) == pytest.approx(expected)


@pytest.mark.parametrize("features", [torch.ones(6, 3), torch.zeros(4, 2), torch.rand(1, 5), torch.rand(2, 5)])
def test_nothing_to_tell_apart_is_zero(features: torch.Tensor) -> None:
    assert feature_entropy(features) == 0


@settings(max_examples=50)
@given(st.integers(3, 30), st.integers(2, 8), st.integers(0, 10_000), st.floats(0.01, 100))
def test_it_ignores_scale_shift_and_rotation(tokens: int, size: int, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(tokens, size, generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    entropy = feature_entropy(features)
    assert 0 <= entropy <= 1
    assert feature_entropy(features @ rotation * scale + 3) == pytest.approx(entropy, abs=1e-6)


def test_fuller_pictures_have_more_entropy_and_equal_prompts_are_computed_once() -> None:
    mprm = MPRM(str(SHIPPED_POLICY), Encoder(str(SHIPPED_POLICY)), hard)
    task = GridTask()
    prompts = [task.prompt("heldout", index) for index in range(40)]
    filled = [sum(cell is not None for cell in task.puzzle("heldout", index).scene.cells) for index in range(40)]
    entropy = mprm.image_entropy(prompts)
    assert ((entropy > 0) & (entropy < 1)).all()
    assert np.corrcoef(entropy, filled)[0, 1] > 0.5
    np.testing.assert_array_equal(mprm.image_entropy([prompts[3], prompts[3], prompts[1]]), entropy[[3, 3, 1]])
    assert mprm.image_entropy([a_prompt("none", images=[])]).tolist() == [0]
    assert mprm.image_entropy([a_prompt("two", images=[an_image(size=(56, 56)), an_image(size=(28, 84))])]).shape == (
        1,
    )
