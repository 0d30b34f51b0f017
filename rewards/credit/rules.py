"""Credit rules by name: functions from a `ScoredBatch` to one array of advantages (T,) for each rollout."""

from __future__ import annotations

from rewards.credit.additive import additive
from rewards.credit.batch import CreditRule
from rewards.credit.min_form import min_form
from rewards.credit.monte_carlo import monte_carlo
from rewards.credit.outcome import outcome
from rewards.credit.process import process
from rewards.credit.progress import progress
from rewards.credit.ps_grpo import ps_grpo

__all__ = ["CREDIT_RULES"]

CREDIT_RULES: dict[str, CreditRule] = {
    "outcome": outcome,
    "process": process,
    "additive": additive,
    "ps_grpo": ps_grpo,
    "min_form": min_form,
    "progress": progress,
    "monte_carlo": monte_carlo,
}
