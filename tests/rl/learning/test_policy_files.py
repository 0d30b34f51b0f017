"""What is copied from the learner's device for the engines: no more than travels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rewards.models.encoding import Encoder
from rl.learning.learner import PolicyLearner
from tests.fixtures.learner_config import learner_config
from tests.fixtures.learner_experiences import CHECKPOINT

pytestmark = pytest.mark.slow


class Copies(TorchDispatchMode):
    """While inside, counts the numbers that are copied, by their format."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: Counter[torch.dtype] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        made = function(*given, **(named or {}))
        if function in (torch.ops.aten._to_copy.default, torch.ops.aten.clone.default):
            self.numbers[made.dtype] += made.numel()
        return made


def test_adapters_are_copied_without_what_they_adapt() -> None:
    learner = PolicyLearner(CHECKPOINT, Encoder(CHECKPOINT), learner_config(lora_rank=2))
    with Copies() as copies:
        adapters = learner.adapters()
    assert adapters and copies.numbers.total() == sum(tensor.numel() for tensor in adapters.values())


@pytest.mark.parametrize("method", ["weights", "checkpoint_weights"])
def test_weights_are_cast_before_they_are_copied(method: str) -> None:
    """What learns is float32: twice as much to copy, and then to be cast by the CPU."""
    learner = PolicyLearner(CHECKPOINT, Encoder(CHECKPOINT), learner_config("bfloat16"))
    with Copies() as copies:
        weights = getattr(learner, method)()
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert copies.numbers[torch.float32] == 0
    assert copies.numbers[torch.bfloat16] == sum(tensor.numel() for tensor in weights.values())


def test_what_is_copied_is_no_part_of_the_model() -> None:
    learner = PolicyLearner(CHECKPOINT, Encoder(CHECKPOINT), learner_config())
    before = learner.weights()
    kept = {name: tensor.clone() for name, tensor in before.items()}
    with torch.no_grad():
        for parameter in learner._model.parameters():
            parameter.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in kept.items())
