"""A lesson of a warm start: one loss, some optimizer steps, a learning rate that rises and falls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rl.monitoring.terminal import progress_bar

Report = Callable[[str], None]
IGNORED = -100
"""The label of a token that counts for nothing in PyTorch's and Transformers' losses."""


def learn(
    name: str, loss: Callable[[], Tensor], steps: int, optimizers: list[torch.optim.Optimizer], report: Report
) -> None:
    """One lesson: its learning rate rises in ten steps and falls to a twentieth; the rates are given back as they came.

    Args:
        name: For people to read.
        loss: Takes the next batch of examples and gives their loss.
        steps: Of the optimizers.
        optimizers: Of disjoint parameters.
        report: Takes a line every 50 steps.
    """
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    began = time.monotonic()
    with progress_bar(name, steps, lines=False) as advance:
        for step, factor in enumerate(_schedule(steps)):
            for optimizer, peak in zip(optimizers, peaks, strict=True):
                optimizer.param_groups[0]["lr"] = peak * factor
                optimizer.zero_grad()
            value = loss()
            value.backward()
            for optimizer in optimizers:
                optimizer.step()
            advance(1)
            if (step + 1) % 50 == 0 or step + 1 == steps:
                report(f"{name}: step {step + 1} of {steps}, loss {value.item():.3f}, {time.monotonic() - began:.0f} s")
    for optimizer, peak in zip(optimizers, peaks, strict=True):
        optimizer.param_groups[0]["lr"] = peak


def make_optimizers(model: torch.nn.Module, matrix_rate: float, other_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the rest: with AdamW alone, counting is learned late or never."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=matrix_rate, weight_decay=0.0),
        torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def answer_labels(ids: Tensor, answers: list[list[int]]) -> Tensor:
    """Labels (B, T) of left-padded tokens, of which the answers at their ends alone count.

    >>> answer_labels(torch.tensor([[0, 5, 6], [4, 5, 7]]), [[6], [5, 7]]).tolist()
    [[-100, -100, 6], [-100, 5, 7]]
    """
    labels = torch.full_like(ids, IGNORED)
    for row, answer in enumerate(answers):
        labels[row, -len(answer) :] = ids[row, -len(answer) :]
    return labels


def _schedule(steps: int) -> Iterator[float]:
    for step in range(steps):
        yield min(1.0, (step + 1) / 10) * (1 - 0.95 * step / steps)
