"""What the MPRM minimises: a target and a weight for every step, and the loss of a head's outputs.

    loss = sum_j w_j l_j / sum_j w_j          over the steps of one optimizer step's rollouts

l is the cross-entropy with the label rule's target, or for the `beta` head minus the log-likelihood of the counts under
a Beta-Binomial model. A missing step has weight 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rewards.process_model.config import MPRMConfig
from rewards.process_model.labels import LabelRule
from rewards.records import Annotated

LOG_CONCENTRATION = (-4.0, 9.0)
"""Range of the logarithm of the `beta` head's concentration: beyond it nothing changes any more."""


@dataclass(frozen=True)
class Targets:
    """What the steps of one rollout are to be (K,): targets in [0, 1], weights (0: no loss), and the counts."""

    target: np.ndarray
    weight: np.ndarray
    correct: np.ndarray
    sampled: np.ndarray


def make_targets(sample: Annotated, label_rule: LabelRule, settings: MPRMConfig) -> Targets:
    """The targets of a rollout's steps, with 0 where there is none, weighted as the section says."""
    target = label_rule(sample.counts)
    missing = np.isnan(target)
    negative = ~missing & (target < 0.5)
    weight = np.where(negative, *settings.class_weights)
    perception = np.array([span.kind == "perception" for span in sample.rollout.steps], dtype=bool)
    weight = np.where(perception, weight * settings.perception_weight, weight)
    if settings.until_first_error:
        after_an_error = np.cumsum(negative) - negative > 0
        weight = np.where(after_an_error, 0.0, weight)
    weight = np.where(missing, 0.0, weight)
    return Targets(np.where(missing, 0.0, target), weight, sample.counts.correct, sample.counts.sampled)


def weighted_loss(outputs: torch.Tensor, targets: Sequence[Targets]) -> torch.Tensor:
    """The sum over steps of weight times loss; ``outputs`` is (S, 1) log-odds, or (S, 2) of the `beta` head."""

    def column(values: list[np.ndarray]) -> torch.Tensor:
        return torch.tensor(np.concatenate(values), dtype=torch.float64, device=outputs.device)

    weight = column([entry.weight for entry in targets])
    if outputs.shape[1] == 2:
        correct, sampled = column([entry.correct for entry in targets]), column([entry.sampled for entry in targets])
        losses = -beta_binomial_log_likelihood(outputs.double(), correct, sampled)
    else:
        target = column([entry.target for entry in targets])
        losses = torch.nn.functional.binary_cross_entropy_with_logits(outputs[:, 0].double(), target, reduction="none")
    return (weight * losses).sum()


def beta_binomial_log_likelihood(outputs: torch.Tensor, correct: torch.Tensor, sampled: torch.Tensor) -> torch.Tensor:
    """log P(this sequence of right and wrong continuations) (S,), for outputs (S, 2): logit of the mean m, log of the
    concentration c, where the success rate is Beta(m c, (1 - m) c).

    It is log B(m c + K, (1 - m) c + N - K) - log B(m c, (1 - m) c). The binomial coefficient is left out: it depends on
    nothing learned, and without it the formula also holds for budgets that stop early.
    """
    concentration = outputs[:, 1].clamp(*LOG_CONCENTRATION).exp()
    # 1 - sigmoid(x) would be 0 for large x.
    a, b = torch.sigmoid(outputs[:, 0]) * concentration, torch.sigmoid(-outputs[:, 0]) * concentration
    return _log_beta(a + correct, b + (sampled - correct)) - _log_beta(a, b)


def _log_beta(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
