"""Images that a batch holds several times: the same features and gradients, for less work."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from rewards.models.architecture import vision_tower
from rewards.models.backbone import load_model, read_model
from rewards.models.encoding import Batch, Encoder
from rewards.models.shared_images import UNREAD, first_equals, see_equal_images_once
from tests.fixtures.builders import a_prompt, an_image
from tests.fixtures.tiny_families import SEEING_FAMILIES, write_tiny_checkpoint

RED, BLUE, WIDE = an_image(size=(56, 56)), an_image((20, 30, 200), (56, 56)), an_image(size=(112, 56))
GROUPS = [[RED], [BLUE, RED, WIDE], [RED], [WIDE], [], [BLUE, RED, WIDE], [WIDE], [RED], [BLUE, RED, WIDE]]
COMPLETION = [11, 12, 13]


@pytest.fixture(scope="module", params=SEEING_FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_checkpoint(request.param, tmp_path_factory.mktemp(request.param))


def a_batch(checkpoint: str) -> Batch:
    prompts = [a_prompt(str(number), images=those) for number, those in enumerate(GROUPS)]
    return Encoder(checkpoint).batch(prompts, [COMPLETION] * len(prompts))


def logits_and_gradients(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    logits = model(**inputs).logits
    logits.float().log_softmax(-1)[:, -3:, 7].sum().backward()
    return logits.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_a_group_sees_its_images_once_and_nothing_else_changes(checkpoint: str) -> None:
    inputs = a_batch(checkpoint).model_inputs()
    plain, shared = read_model(checkpoint), load_model(checkpoint)
    seen: list[int] = []
    for model in (plain, shared):
        vision_tower(model).register_forward_pre_hook(
            lambda part, arguments, named: seen.append((*arguments, *named.values())[0].numel()), with_kwargs=True
        )
    expected, gradients = logits_and_gradients(plain, inputs)
    found, ours = logits_and_gradients(shared, inputs)
    assert torch.allclose(found, expected, atol=1e-5)
    assert ours.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(ours[name], gradient, atol=1e-4 * max(1.0, gradient.abs().max().item())), name
    assert seen[1] < seen[0] / 2, "the tower had less than half of the pixels"


def tensors_of(found: Any) -> dict[str, list[torch.Tensor]]:
    """What there is of them that a model may read."""
    fields = {name: value for name, value in vars(found).items() if name not in UNREAD and value is not None}
    return {name: list(value) if isinstance(value, list | tuple) else [value] for name, value in fields.items()}


@torch.no_grad()
def test_all_that_a_model_may_read_of_the_features_is_whole(checkpoint: str) -> None:
    """Not the features alone: Qwen3-VL's language model reads more of them at each of its first layers."""
    images = a_batch(checkpoint).images
    expected = tensors_of(read_model(checkpoint).base_model.get_image_features(**images))
    found = tensors_of(load_model(checkpoint).base_model.get_image_features(**images))
    assert found.keys() == expected.keys() and "pooler_output" in found
    for name, tensors in expected.items():
        assert [ours.shape for ours in found[name]] == [tensor.shape for tensor in tensors], name
        assert all(map(partial(torch.allclose, atol=1e-5), found[name], tensors)), name


def test_features_that_are_not_known_are_computed_as_ever() -> None:
    """A body of another kind: which part of what it gives is whose cannot be told."""
    calls: list[int] = []

    def features(pixel_values: torch.Tensor) -> Any:
        calls.append(len(pixel_values))
        return BaseModelOutputWithPooling(pooler_output=pixel_values.mean(0, keepdim=True))

    body = SimpleNamespace(get_image_features=features)
    see_equal_images_once(SimpleNamespace(base_model=body))
    picture = torch.arange(5.0)
    batch = torch.stack([picture, picture + 1, picture, picture])
    assert torch.equal(body.get_image_features(batch).pooler_output, features(batch).pooler_output)
    assert calls[:2] == [2, 4]


def test_images_are_told_apart_by_their_pixels_and_by_their_shapes() -> None:
    picture = torch.arange(6.0)
    turned = picture.flip(0)  # of the same sums
    assert first_equals([picture, turned, picture.clone()], [()] * 3) == [0, 1, 0]
    assert first_equals([picture] * 4, [(1, 2), (2, 1), (1, 2), (2, 1)]) == [0, 1, 0, 1]
    assert first_equals([picture, picture.reshape(2, 3)], [()] * 2) == [0, 1]
