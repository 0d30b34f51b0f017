"""Images that a batch holds several times: the same features and gradients, for less work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from rewards.models.backbone import first_equals, load_model
from rewards.models.encoding import Encoder
from tests.fixtures.builders import a_prompt, an_image
from tests.fixtures.tiny_families import FAMILIES, write_tiny_checkpoint

RED, BLUE, WIDE = an_image(size=(56, 56)), an_image((20, 30, 200), (56, 56)), an_image(size=(112, 56))
COMPLETION = [11, 12, 13]


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_checkpoint(request.param, tmp_path_factory.mktemp(request.param))


def logits_and_gradients(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    logits = model(**inputs).logits
    logits.float().log_softmax(-1)[:, -3:, 7].sum().backward()
    return logits.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_a_group_sees_its_images_once_and_nothing_else_changes(checkpoint: str) -> None:
    images = [[RED], [BLUE, RED], [RED], [WIDE], [], [BLUE, RED], [WIDE, WIDE]]
    prompts = [a_prompt(str(number), images=those) for number, those in enumerate(images)]
    batch = Encoder(checkpoint).batch(prompts, [COMPLETION] * len(prompts))
    plain, shared = AutoModelForImageTextToText.from_pretrained(checkpoint), load_model(checkpoint)
    expected, gradients = logits_and_gradients(plain, batch.model_inputs())
    seen: list[int] = []
    tower = next(part for name, part in shared.named_modules() if name.endswith(("visual", "vision_tower")))
    tower.register_forward_pre_hook(
        lambda part, arguments, named: seen.append(len((*arguments, *named.values())[0])), with_kwargs=True
    )
    found, ours = logits_and_gradients(shared, batch.model_inputs())
    assert torch.allclose(found, expected, atol=1e-5)
    assert ours.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(ours[name], gradient, atol=1e-4 * max(1.0, gradient.abs().max().item())), name
    assert seen[0] < len(batch.images["pixel_values"]) / 2, "the tower had less than half of the pixels"


def test_images_are_told_apart_by_their_pixels_and_by_their_shapes() -> None:
    picture = torch.arange(6.0)
    turned = picture.flip(0)  # of the same sums
    assert first_equals([picture, turned, picture.clone()], [()] * 3) == [0, 1, 0]
    assert first_equals([picture] * 4, [(1, 2), (2, 1), (1, 2), (2, 1)]) == [0, 1, 0, 1]
    assert first_equals([picture, picture.reshape(2, 3)], [()] * 2) == [0, 1]
