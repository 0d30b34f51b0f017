"""AdamW by name: PyTorch's fused one, or one whose moments take a byte a weight each.

Libraries that have the latter keep it in blocks that run on from row to row, and so depend on how many ranks share a
tensor (torchao), or know no shared tensors (bitsandbytes): what one number of ranks saved would not be what another one
goes on from. Here a block is a part of a row, ranks have whole rows, and states are plain tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from rewards.section import AdamW

LEAST_SIZE = 4096
"""Numbers of a tensor, below which its moments stay float32."""
LARGEST_BLOCK, LEAST_BLOCK = 256, 16
AT_ONCE = 2**24
"""Numbers that are moved together: of a whole embedding the float32 moments might not have room."""
AS_THEY_ARE = "exp_avg", "exp_avg_sq"
IN_BYTES = "exp_avg", "exp_avg_scale", "exp_avg_root", "exp_avg_root_scale"
"""Names of the moments in a state."""
EXPONENTS = 7
"""Powers of ten that the 256 values reach over."""


def make_adamw(
    kind: AdamW, groups: Iterable[dict[str, Any]], learning_rate: float, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """The optimizer of that name over groups of parameters, of which each may have a weight decay of its own."""
    if kind == "adamw_8bit":
        return AdamW8bit(groups, lr=learning_rate, weight_decay=weight_decay)
    return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=weight_decay, fused=True)


def block_size(row: int) -> int:
    """Numbers that share a scale, in rows of so many: as many as divide the row, up to `LARGEST_BLOCK`; 0 if those are
    fewer than `LEAST_BLOCK`, whose scales would be a good part of what is saved.

    >>> [block_size(row) for row in (4096, 3420, 896, 4304, 8)]
    [256, 228, 224, 16, 0]
    """
    block = max(size for size in range(1, LARGEST_BLOCK + 1) if row % size == 0)
    return block if block >= LEAST_BLOCK else 0


@cache
def values(signed: bool, device: torch.device | None = None) -> torch.Tensor:
    """The 256 numbers from 0, or -1, to 1 that a byte stands for, sorted: the dynamic data type of 8-bit optimizers
    (arXiv 2110.02861, section 1.3), as bitsandbytes has it. Of each power of ten they are the middles of equal parts,
    half as many as of the next larger one.
    """
    found = [torch.tensor([0.0, 1.0])]
    for exponent in range(EXPONENTS):
        parts = torch.linspace(0.1, 1, 2**exponent * (1 if signed else 2) + 1)
        middles = (parts[:-1] + parts[1:]) / 2 * 10.0 ** (exponent + 1 - EXPONENTS)
        found += [middles, -middles] if signed else [middles]
    return torch.cat(found).sort().values.to(device)


def compress(numbers: torch.Tensor, block: int, signed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers (R, N) as bytes (R, N), each the nearest of `values` to a share of its block's largest, and those largest
    (R, N / block). What is not signed never becomes 0, unless its whole block is: it is divided by."""
    blocks = numbers.unflatten(-1, (-1, block))
    scales = blocks.abs().amax(-1)
    shares = blocks / scales.unsqueeze(-1).clamp_min(torch.finfo(torch.float32).tiny)
    known = values(signed, numbers.device)
    codes = torch.bucketize(shares.flatten(-2), (known[:-1] + known[1:]) / 2, out_int32=True)
    return (codes if signed else codes.clamp_min(1)).to(torch.uint8), scales


def expand(codes: torch.Tensor, scales: torch.Tensor, signed: bool) -> torch.Tensor:
    """The numbers (R, N) that `compress` made bytes of, each off by at most half the gap around it in `values`."""
    shares = values(signed, codes.device)[codes.int()].unflatten(-1, (scales.shape[-1], -1))
    return (shares * scales.unsqueeze(-1)).flatten(-2)


class AdamW8bit(torch.optim.Optimizer):
    """AdamW (arXiv 1711.05101) with the mean of the gradients in a byte a weight, and the root of that of their squares
    in another: the squares themselves would span twice as many powers of ten.

    Tensors of less than two dimensions, of fewer than `LEAST_SIZE` numbers, or in rows that `block_size` refuses, have
    float32 moments. Weights are float32.

    Args:
        params: Parameters, or groups of them.
        lr, betas, eps, weight_decay: As `torch.optim.AdamW` has them.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move all weights that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state |= _at_rest(parameter.detach())
                state["step"] += 1
                weight, gradient = _rows(parameter), _rows(parameter.grad)
                moments = [_rows(state[name]) for name in (IN_BYTES if IN_BYTES[-1] in state else AS_THEY_ARE)]
                most = max(1, AT_ONCE // weight.shape[1])
                for start in range(0, len(weight), most):
                    here = slice(start, start + most)
                    _move(weight[here], gradient[here], [moment[here] for moment in moments], state["step"], group)


def _at_rest(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """The state of a weight that has not moved, spread over ranks as the weight is."""
    step = {"step": torch.zeros((), device=weight.device)}
    block = block_size(weight.shape[-1]) if weight.dim() > 1 and weight.numel() >= LEAST_SIZE else 0
    if not block:
        return step | {name: torch.zeros_like(weight) for name in AS_THEY_ARE}
    # Of a block whose scale is 0 all numbers are, whatever its bytes.
    codes, scales = torch.zeros_like(weight, dtype=torch.uint8), weight[..., : weight.shape[-1] // block]
    moments = codes, torch.zeros_like(scales), codes.clone(), torch.zeros_like(scales)
    return step | dict(zip(IN_BYTES, moments, strict=True))


def _move(
    weight: torch.Tensor,
    gradient: torch.Tensor,
    moments: Sequence[torch.Tensor],
    step: torch.Tensor,
    group: dict[str, Any],
) -> None:
    """Rows of a weight, in place, and of its moments."""
    (beta, beta_square), rate = group["betas"], group["lr"]
    if kept_in_bytes := len(moments) > 2:
        mean = expand(moments[0], moments[1], signed=True)
        square = expand(moments[2], moments[3], signed=False).square()
    else:
        mean, square = moments
    mean.lerp_(gradient, 1 - beta)
    square.lerp_(gradient.square(), 1 - beta_square)
    if kept_in_bytes:
        block = weight.shape[1] // moments[1].shape[1]
        compressed = *compress(mean, block, signed=True), *compress(square.sqrt(), block, signed=False)
        for moment, value in zip(moments, compressed, strict=True):
            moment.copy_(value)
    root = (square / (1 - beta_square ** step.double())).sqrt() + group["eps"]
    weight.mul_(1 - rate * group["weight_decay"])
    weight.sub_(mean / root * (rate / (1 - beta ** step.double())))


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's part of a tensor, as a matrix over the same memory."""
    own = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return own.view(-1, own.shape[-1] if own.dim() > 1 else 1)
