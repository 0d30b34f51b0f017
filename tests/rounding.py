"""Two computations that differ in rounding alone: what of them is the same on every machine, and what is not.

Other vector units, thread counts and batches add up in another order, and last digits differ. Losses, scores and
gradients stay as they are but for those. Weights after Adam's steps do not: it divides a gradient by its own size, and
so where a gradient is nothing but rounding it moves the weight by up to the learning rate, in either direction.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

Tensors = Mapping[str, torch.Tensor]
ROUNDING = 1e-3
"""What rounding may make up of a gradient, as a share of the largest in its tensor; it is a hundredth of that."""
SLIGHT = 1e-6
"""A tensor whose largest gradient is below this share of the largest of all may be nothing but rounding."""


def assert_same_gradients(left: Tensors, right: Tensors, rounding: float = ROUNDING) -> None:
    """Each tensor against its own largest entry: one with small gradients is looked at as closely as the others."""
    assert left.keys() == right.keys()
    largest = max(tensor.abs().max().item() for tensor in left.values())
    for name, tensor in left.items():
        assert tensor.shape == right[name].shape, name
        difference = (tensor - right[name]).abs().max().item()
        assert difference <= rounding * max(tensor.abs().max().item(), SLIGHT * largest), (name, difference)


def assert_same_training(
    left: Tensors, right: Tensors, states: tuple[Tensors, Tensors], rate: float, rounding: float = ROUNDING
) -> None:
    """Weights by name that began as the same, and the Adam that moved them all at one rate.

    Its moments, which are means of gradients and of their squares, are compared for all weights. The weights
    themselves are compared where their gradients stand clear of rounding, and elsewhere they differ by no more than
    Adam can have moved them. What does not learn is equal to the last bit.

    Args:
        left, right: The weights.
        states: The optimizer's state of either, as `rewards.optimizer_files` saves it.
        rate: The learning rate.
        rounding: See `ROUNDING`; more than that after several large steps, each of which begins where the last ended.
    """
    for kind in ("exp_avg", "exp_avg_sq"):
        assert_same_gradients(moments(states[0], kind), moments(states[1], kind), rounding)
    steps = {name: int(count) for name, count in moments(states[0], "step").items()}
    assert steps == {name: int(count) for name, count in moments(states[1], "step").items()}
    squares = moments(states[0], "exp_avg_sq")
    sizes = {name: (square / (1 - 0.999 ** steps[name])).sqrt() for name, square in squares.items()}
    largest = max(size.max().item() for size in sizes.values())
    assert left.keys() == right.keys() >= sizes.keys()
    compared = 0
    for name, weight in left.items():
        difference = (weight - right[name]).abs()
        if name not in sizes:
            assert not difference.any(), name
            continue
        moved = steps[name] * rate
        clear = sizes[name] > max(rounding * sizes[name].max().item(), SLIGHT * largest)
        assert difference.max().item() <= 2 * moved, (name, difference.max().item())
        assert not (difference[clear] > 10 * rounding * moved).any(), (name, difference[clear].max().item())
        compared += int(clear.sum())
    assert compared > 0.3 * sum(int((size > 0).sum()) for size in sizes.values()), "too few to say anything"


def moments(state: Tensors, kind: str) -> dict[str, torch.Tensor]:
    """One kind of entry of an optimizer's saved state, by the name of the weight."""
    return {name.removesuffix(f"/{kind}"): tensor for name, tensor in state.items() if name.endswith(f"/{kind}")}


def state_of(optimizer: torch.optim.Optimizer, weights: Tensors) -> dict[str, torch.Tensor]:
    """An optimizer's state as `rewards.optimizer_files` saves it, given the names of what it moves."""
    return {
        f"{name}/{kind}": value for name, weight in weights.items() for kind, value in optimizer.state[weight].items()
    }
