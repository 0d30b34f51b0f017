"""Configurations that no class opens, and the parts that a model says it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, Gemma3TextConfig, Phi3Config

from rewards.models.architecture import check_longest_row, layers_of, model_class, vision_tower
from rewards.models.backbone import freeze_vision_tower, read_model
from rl.files.named_checkpoint import SHIPPED_POLICY
from tests.fixtures.tiny_families import write_tiny_checkpoint

OWN_CODE = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}


def written(folder: Path, **config: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model_type": "no_such"}, "its model_type 'no_such' is unknown to Transformers"),
        ({}, "its model_type None is unknown"),
        (
            {"model_type": "no_such", "auto_map": OWN_CODE},
            "code of its own; allowed with policy.trust_remote_code true",
        ),
        ({"model_type": "clip"}, "no model for its model_type 'clip' that writes text"),
        ({"model_type": "florence2"}, "'florence2' encodes a prompt apart from the answer"),
        ({"model_type": "llama", "quantization_config": {"quant_method": "awq"}}, r"quantised \(awq\), and cannot"),
        ({"model_type": "llava", "text_config": {"quantization_config": {}, "model_type": "llama"}}, None),
        ({"model_type": "llama", "auto_map": OWN_CODE}, None),
    ],
)
def test_what_cannot_be_a_policy_is_told_from_its_configuration(
    config: dict[str, Any], told: str | None, tmp_path: Path
) -> None:
    folder = written(tmp_path, **config)
    if told is None:
        sees = config["model_type"] == "llava"
        assert model_class(folder) is (AutoModelForImageTextToText if sees else AutoModelForCausalLM)
        return
    with pytest.raises(ValueError, match=told) as caught:
        model_class(folder)
    assert "\n" not in str(caught.value)


def test_adapters_alone_are_no_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds no model but adapters .*allowed is a whole checkpoint"):
        model_class(tmp_path)


def test_positions_that_change_with_the_longest_row_are_refused_beyond_their_bound() -> None:
    """Phi-3's: engine and learner were 3 nats apart there, without a word."""
    sizes: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 2, "pad_token_id": 0}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 16, "long_factor": [2.0] * 16}
    config = Phi3Config(**sizes, rope_parameters=rope, original_max_position_embeddings=64)
    check_longest_row(config, 64)
    with pytest.raises(ValueError, match=r"\(longrope\) are others .* engine.max_model_len up to 64$"):
        check_longest_row(config, 65)
    check_longest_row(Gemma3TextConfig(), 10**6)


def test_a_model_says_where_it_sees(tmp_path: Path) -> None:
    policy, language = read_model(SHIPPED_POLICY), read_model(write_tiny_checkpoint("llama", tmp_path))
    tower = vision_tower(policy)
    assert tower is policy.model.visual and len(layers_of(tower)) == policy.config.vision_config.depth
    assert vision_tower(language) is None and layers_of(language.get_decoder()) is language.model.layers
    with pytest.raises(ValueError, match=r"LlamaForCausalLM has no vision tower .*allowed is freeze_vision false"):
        freeze_vision_tower(language)
