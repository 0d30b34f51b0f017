"""What is worth knowing about an update, over all tokens of all ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rewards.records import Experience
from rl.config.trl_arguments import Loss
from rl.learning.trainer import PolicyTrainer

SUMS = ("tokens", "entropy", "clipped", "kl", "importance_weight")
FINITE = ("loss", "grad_norm", "value_loss", "value_grad_norm")


def clipped_tokens(
    loss: Loss, log_ratio: torch.Tensor, advantages: torch.Tensor, low: float, high: float
) -> torch.Tensor:
    """Where the probability ratio is out of the range in which it can move the policy further, (B, T).

    `sapo` and `vespo` have no sharp range: for them, where PPO's would end.

    Args:
        loss: Name of the loss.
        log_ratio: (B, T), or (B, 1) for a ratio of whole rollouts.
        advantages: (B, T).
        low, high: Clipping range: the ratio may be 1 - low to 1 + high; of `cispo`, up to high.
    """
    ratio = log_ratio.exp()
    above = (ratio > (high if loss == "cispo" else 1 + high)) & (advantages > 0)
    return above if loss == "cispo" else above | ((ratio < 1 - low) & (advantages < 0))


class Statistics:
    """Sums over rollouts' tokens in an optimizer step, micro-batch by micro-batch. Continuations are drawn from places
    that were chosen, many from one: with them, nothing would be a mean of what the policy writes."""

    def __init__(self, trainer: PolicyTrainer, device: torch.device) -> None:
        self._trainer, self._sums = trainer, torch.zeros(len(SUMS), device=device)

    @torch.no_grad()
    def add(self, inputs: Mapping[str, Any], of_rollouts: Sequence[bool]) -> None:
        """A micro-batch whose loss the trainer has just computed, and which of its rows are rollouts."""
        trainer, mask = self._trainer, inputs["completion_mask"].float()
        logprobs, entropies = (values.detach().float() for values in trainer.seen)
        log_ratio = logprobs - inputs["old_per_token_logps"]
        if trainer.importance_sampling_level == "sequence":
            log_ratio = (log_ratio * mask).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
        low, high = trainer.epsilon_low, trainer.epsilon_high
        clipped = clipped_tokens(trainer.loss_type, log_ratio, inputs["advantages"], low, high)
        apart = inputs.get("ref_per_token_logps", logprobs) - logprobs
        weights = inputs.get("importance_sampling_ratio", mask)
        found = [mask, entropies, clipped.float(), apart.exp() - apart - 1, weights]
        counted = mask * torch.tensor(of_rollouts, device=mask.device).unsqueeze(1)
        self._sums += torch.stack([(values * counted).sum() for values in found])

    def means(self, summed: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        """Means over the tokens of what there is, NaN without any; ``summed`` adds up what the ranks have."""
        tokens, *sums = summed(self._sums).tolist()
        means = {name: value / tokens if tokens else math.nan for name, value in zip(SUMS[1:], sums, strict=True)}
        missing = {"kl": not self._trainer.beta, "importance_weight": not self._trainer.use_vllm}
        return {name: mean for name, mean in means.items() if not missing.get(name)}


def over_optimizer_steps(taken: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of what each of them says; one without a rollout says nothing of these.

    >>> over_optimizer_steps([{"loss": 1.0, "entropy": float("nan")}, {"loss": 2.0, "entropy": 0.5}])
    {'loss': 1.5, 'entropy': 0.5}
    """
    said = {name: [one[name] for one in taken if not math.isnan(one[name])] for name in (taken[0] if taken else ())}
    return {name: float(np.mean(values)) if values else math.nan for name, values in said.items()}


def advantage_statistics(experiences: Sequence[Experience], reuses_continuations: bool) -> dict[str, float]:
    """Mean, standard deviation and positive share of the advantages of rollouts' tokens; where continuations are
    learned from, too, their tokens, the share of these, and the mean size of their advantages. NaN of what there is
    none of."""
    advantages = _advantages([experience for experience in experiences if not experience.prefix])
    some = len(advantages) > 0
    found = {
        "advantage_mean": float(advantages.mean()) if some else math.nan,
        "advantage_std": float(advantages.std()) if some else math.nan,
        "advantage_positive": float((advantages > 0).mean()) if some else math.nan,
    }
    if reuses_continuations:
        theirs = _advantages([experience for experience in experiences if experience.prefix])
        found["continuation_tokens"] = float(len(theirs))
        found["continuation_share"] = len(theirs) / (len(theirs) + len(advantages))
        found["continuation_advantage"] = float(np.abs(theirs).mean()) if len(theirs) else math.nan
    return found


def _advantages(experiences: Sequence[Experience]) -> np.ndarray:
    """Of all tokens."""
    return np.concatenate([np.zeros(0), *(np.asarray(experience.advantages, float) for experience in experiences)])


def is_finite(update: Mapping[str, float]) -> bool:
    """Whether losses and gradients of an optimizer step are numbers, and so its weights would be.

    >>> is_finite({"loss": 0.1, "grad_norm": 2.0, "entropy": float("nan")})
    True
    >>> is_finite({"loss": 0.1, "grad_norm": float("inf")})
    False
    """
    return all(math.isfinite(update[name]) for name in FINITE if name in update)


@dataclass
class Patience:
    """How long the learner bears with policy steps from which nothing can be learned.

    >>> patience, broken = Patience(most=1), {"loss": float("nan")}
    >>> patience.taken([broken, {"loss": 0.1}], version=0)
    [{'loss': 0.1}]
    >>> patience.taken([broken], version=1)
    []
    >>> patience.taken([broken], version=2)
    Traceback (most recent call last):
        ...
    FloatingPointError: policy update 3: loss nan, 2 in a row like that

    Attributes:
        most: Policy steps in a row without any optimizer step that could be taken; None where no optimizer step may be
            left out, since the weights have moved by the time that its gradient is known.
        steps_without_update: How many there have been in a row.
    """

    most: int | None
    steps_without_update: int = 0

    def taken(self, tried: Sequence[Mapping[str, float]], version: int) -> list[Mapping[str, float]]:
        """The optimizer steps of a policy step that could be taken.

        Args:
            tried: All of them: what they say of themselves.
            version: Of the policy before the policy step.

        Raises:
            FloatingPointError: They are too few for too long.
        """
        taken = [one for one in tried if is_finite(one)]
        self.steps_without_update = 0 if taken else self.steps_without_update + 1
        left_out = len(taken) < len(tried)
        if left_out if self.most is None else self.steps_without_update > self.most:
            last = next(one for one in reversed(tried) if not is_finite(one))
            numbers = ", ".join(f"{name} {last[name]}" for name in FINITE if name in last)
            in_a_row = f", {self.steps_without_update} in a row like that" if self.steps_without_update > 1 else ""
            raise FloatingPointError(f"policy update {version + 1}: {numbers}{in_a_row}")
        return taken
