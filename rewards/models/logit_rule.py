"""What a family does to the logits of its output layer: a factor (Cohere, Granite), and a bound on them (Gemma)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class LogitRule:
    """``cap * tanh(scale * logits / cap)``, or the product alone.

    Attributes:
        scale: The factor.
        cap: The bound; None for none.
    """

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits of any shape, as tokens are drawn from them."""
        logits = logits if self.scale == 1 else logits * self.scale
        return logits if self.cap is None else self.cap * (logits / self.cap).tanh()


PLAIN = LogitRule()


def logit_rule(model: Any) -> LogitRule:
    """Of a model, by its text configuration: the same that TRL's fused head and vLLM read there, by all names that
    Transformers' families have for it."""
    config = model.config.get_text_config()
    names = ("logit_scale", "output_multiplier", "lm_head_multiplier")
    scale = next((value for name in names if (value := getattr(config, name, None)) is not None), None)
    if scale is None and (divisor := getattr(config, "logits_scaling", None)) is not None:
        scale = divisor if config.model_type == "hyperclovax" else 1 / divisor
    return LogitRule(1.0 if scale is None else float(scale), getattr(config, "final_logit_softcapping", None))


@torch.no_grad()
def left_out(model: Any, tokens: Sequence[int]) -> LogitRule:
    """What of `logit_rule` a Transformers model's own ``logits`` lack: of Aya Vision, Command A Vision and PaliGemma 2
    the wrapper around the language model leaves all of it out. The model is asked what it says after some tokens."""
    rule = logit_rule(model)
    if rule == PLAIN:
        return PLAIN
    ids = torch.tensor([list(tokens)], device=model.device)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    states = model.base_model(**given).last_hidden_state
    raw, said = model.get_output_embeddings()(states).float(), model(**given).logits.float()
    return rule if (said - raw).norm() < (said - rule(raw)).norm() else PLAIN
