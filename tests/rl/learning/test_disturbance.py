"""Weights that are others for a while."""

from __future__ import annotations

import torch

from rl.learning.disturbance import Disturbance


def test_every_weight_is_another_and_then_the_same_to_the_last_bit() -> None:
    torch.manual_seed(0)
    kinds = (torch.float32, torch.bfloat16)
    some = [torch.nn.Parameter(torch.randn(5, 3).to(kind) * 10.0**power) for kind in kinds for power in (-30, 0, 30)]
    with_zeros = torch.nn.Parameter(torch.tensor([0.0, 1.5, 0.0]))
    parameters = [*some, with_zeros, torch.nn.Parameter(torch.zeros(4, 2))]
    before = [parameter.detach().clone() for parameter in parameters]
    disturbance = Disturbance(parameters)
    assert all((left != right).any() for left, right in zip(parameters, before, strict=True))
    disturbance.end()
    assert all(torch.equal(left, right) for left, right in zip(parameters, before, strict=True))
