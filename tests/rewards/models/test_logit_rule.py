"""What a family does to its logits, as the engine draws by them and the reward model reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CohereConfig, CohereForCausalLM, PhiConfig, PhiForCausalLM

from rewards.models.backbone import load_model
from rewards.models.logit_rule import PLAIN, LogitRule, left_out, logit_rule
from rewards.process_model.step_scorer import ScorerInputs, StepScorer
from tests.fixtures.family_checks import CLOSE, check_hf
from tests.fixtures.tiny_families import write_tiny_checkpoint

SIZE: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
MODELS = {
    "a factor": lambda: CohereForCausalLM(CohereConfig(**SIZE, vocab_size=50, logit_scale=0.25, pad_token_id=0)),
    "a bias": lambda: PhiForCausalLM(PhiConfig(**SIZE, vocab_size=50)),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_odds_of_verdicts_are_the_models_own(make: Any) -> None:
    model = make().eval()
    if (bias := model.get_output_embeddings().bias) is not None:
        torch.nn.init.normal_(bias)
    ids, right, wrong = torch.tensor([[5, 6, 7, 8]]), 9, 4
    answer, end = ids[:, 2:], torch.tensor([1])
    inputs = ScorerInputs({"input_ids": ids}, answer, torch.tensor([0]), end, torch.tensor([0]))
    odds = StepScorer(model, "token", (right, wrong), likelihood=False)(inputs)
    logits = model(ids).logits[0, -1]
    assert odds.item() == pytest.approx((logits[right] - logits[wrong]).item(), abs=1e-5)
    assert left_out(model, [5, 6]) == PLAIN


def test_the_engine_makes_up_for_what_a_wrapper_leaves_out(tmp_path: Path) -> None:
    checkpoint = write_tiny_checkpoint("aya_vision", tmp_path / "checkpoint")
    model = load_model(checkpoint).eval()
    assert left_out(model, [5, 6]) == logit_rule(model) == LogitRule(0.25)
    assert check_hf(checkpoint, tmp_path) < CLOSE


def test_a_bound_holds_whatever_is_said() -> None:
    assert LogitRule(2.0, 3.0)(torch.tensor([0.0, 1e3, -1e3])).tolist() == [0.0, 3.0, -3.0]
