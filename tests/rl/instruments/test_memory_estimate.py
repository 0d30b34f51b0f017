"""The memory estimate, against parameters counted on the published architectures and bytes counted on real models."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker
from transformers import AutoConfig, AutoModelForImageTextToText, Gemma3Config, InternVLConfig, Qwen2_5_VLConfig

from rewards.models.adamw import AdamW8bit
from rewards.models.backbone import add_lora, freeze_vision_tower
from rl.config import Config
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.instruments.planning.activations import Pass, activation_bytes
from rl.instruments.planning.launch_plan import estimate, plan_lines
from rl.instruments.planning.memory_estimate import (
    GB,
    engine_memory,
    learner_memory,
    mprm_memory,
    trained_model,
)
from rl.instruments.planning.model_shape import KNOWN_SHAPES, find_shape, shape_of

ROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
INTERN_VIT: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "attention_bias": True,
    "image_size": [448, 448],
    "patch_size": [14, 14],
}
SIGLIP: dict[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 896,
    "patch_size": 14,
    "vision_use_head": False,
}


def text(hidden: int, intermediate: int, layers: int, heads: int, key_value_heads: int, vocabulary: int) -> dict:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "vocab_size": vocabulary,
    }


def qwen(tie: bool, vision: int, *numbers: int) -> Qwen2_5_VLConfig:
    return Qwen2_5_VLConfig(
        text_config={**text(*numbers), "rope_parameters": ROPE, "tie_word_embeddings": tie},
        vision_config={
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": vision,
            "num_heads": 16,
            "out_hidden_size": numbers[0],
        },
        tie_word_embeddings=tie,
    )


def internvl(kind: str, *numbers: int, **further: int) -> InternVLConfig:
    language = {**text(*numbers), "model_type": kind, "tie_word_embeddings": False, **further}
    return InternVLConfig(text_config=language, vision_config=INTERN_VIT, tie_word_embeddings=False)


def gemma(head_dim: int, *numbers: int) -> Gemma3Config:
    return Gemma3Config(text_config={**text(*numbers), "head_dim": head_dim}, vision_config=SIGLIP)


# The published config.json files, as far as shapes go.
PUBLISHED = {
    "Qwen/Qwen2.5-VL-3B-Instruct": qwen(True, 3420, 2048, 11008, 36, 16, 2, 151936),
    "Qwen/Qwen2.5-VL-7B-Instruct": qwen(False, 3420, 3584, 18944, 28, 28, 4, 152064),
    "Qwen/Qwen2.5-VL-32B-Instruct": qwen(False, 3456, 5120, 27648, 64, 40, 8, 152064),
    "Qwen/Qwen2.5-VL-72B-Instruct": qwen(False, 3456, 8192, 29568, 80, 64, 8, 152064),
    "OpenGVLab/InternVL3-1B-hf": internvl("qwen2", 896, 4864, 24, 14, 2, 151674),
    "OpenGVLab/InternVL3-2B-hf": internvl("qwen2", 1536, 8960, 28, 12, 2, 151674),
    "OpenGVLab/InternVL3-8B-hf": internvl("qwen2", 3584, 18944, 28, 28, 4, 151674),
    "OpenGVLab/InternVL3-14B-hf": internvl("qwen2", 5120, 13824, 48, 40, 8, 151674),
    "OpenGVLab/InternVL3_5-1B-HF": internvl("qwen3", 1024, 3072, 28, 16, 8, 151936, head_dim=128),
    "OpenGVLab/InternVL3_5-2B-HF": internvl("qwen3", 2048, 6144, 28, 16, 8, 151936, head_dim=128),
    "OpenGVLab/InternVL3_5-4B-HF": internvl("qwen3", 2560, 9728, 36, 32, 8, 151936, head_dim=128),
    "OpenGVLab/InternVL3_5-8B-HF": internvl("qwen3", 4096, 12288, 36, 32, 8, 151936, head_dim=128),
    "OpenGVLab/InternVL3_5-14B-HF": internvl("qwen3", 5120, 17408, 40, 40, 8, 151936, head_dim=128),
    "google/gemma-3-4b-it": gemma(256, 2560, 10240, 34, 8, 4, 262208),
    "google/gemma-3-12b-it": gemma(256, 3840, 15360, 48, 16, 8, 262208),
    "google/gemma-3-27b-it": gemma(128, 5376, 21504, 62, 32, 16, 262208),
}


@pytest.mark.parametrize("name", KNOWN_SHAPES)
def test_known_shapes_are_those_of_the_published_models(name: str) -> None:
    assert shape_of(PUBLISHED[name]) == KNOWN_SHAPES[name]


FAMILIES = {
    # of Transformers' own defaults: vision layers, hidden size, feed-forward size, gated; patches of a token; the
    # language model's feed-forward size of one token
    "qwen2_vl": (32, 1280, 5120, False, 4, 29568),
    "qwen3_vl": (27, 1152, 4304, False, 4, 22016),
    "qwen3_vl_moe": (27, 1152, 4304, False, 4, 5632),
    "qwen3_5": (27, 1152, 4304, False, 4, 12288),
    "gemma4": (16, 768, 3072, True, 9, 9216),
    "smolvlm": (12, 1152, 3072, False, 4, 11008),
    "llava_next": (24, 1024, 4096, False, 1, 11008),
    "mistral3": (24, 1024, 4096, True, 4, 32768),
    "glm4v": (24, 1536, 4096, True, 4, 13696),
    "qwen3": (0, 0, 0, True, 1, 22016),
    "llama": (0, 0, 0, True, 1, 11008),
}

WANTED: dict[str, dict[str, Any]] = {
    "gemma4": {"vision_config": {"num_hidden_layers": 16}},
    "smolvlm": {"pad_token_id": 0},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_shape_by_its_own_classes(family: str) -> None:
    config = AutoConfig.for_model(family, **WANTED.get(family, {}))
    shape = shape_of(config)
    *vision, patches, inner = FAMILIES[family]
    tower = shape.vision
    assert [tower.layers, tower.hidden, tower.intermediate, tower.gated] == vision
    assert (shape.patches, shape.language.intermediate) == (patches, inner)
    assert shape.language.layers == config.get_text_config().num_hidden_layers
    assert shape.vocabulary == config.get_text_config().vocab_size
    assert shape.vision.parameters < shape.parameters > 10**9


def test_a_local_checkpoint_is_counted_and_an_unknown_one_is_said_to_be() -> None:
    model = AutoModelForImageTextToText.from_pretrained(SHIPPED_POLICY)
    shape = find_shape(str(SHIPPED_POLICY))
    assert shape is not None and shape.parameters == sum(p.numel() for p in model.parameters())
    assert find_shape("nobody/no-such-model") is None
    lines = list(plan_lines(Config.model_validate({"policy": {"checkpoint": "nobody/no-such-model"}}), 80))
    assert lines[-1] == "fit not checked: unknown shape of nobody/no-such-model"
    ppo = {"learner": {"algorithm": "ppo"}, "value": {"backbone": "own", "checkpoint": "nobody/no-critic"}}
    lines = list(plan_lines(Config.model_validate(ppo), 80))
    assert lines[-1] == "fit not checked: unknown shape of nobody/no-critic"
    assert not any(line.strip().startswith("CPU: learner") for line in lines)
    assert any(line.strip().startswith("CPU: engine") for line in lines)


def middle_sized(family: str) -> tuple[Any, dict[str, torch.Tensor], int]:
    """A model deep enough that its layers dominate, a row of a picture and text, and how many tokens the picture is."""
    numbers = (256, 704, 8, 4, 2, 600)
    vision = {"hidden_size": 128, "intermediate_size": 352, "num_attention_heads": 2}
    if family == "qwen2_5_vl":
        config: Any = Qwen2_5_VLConfig(
            text_config={**text(*numbers), "rope_parameters": {**ROPE, "mrope_section": [8, 12, 12]}},
            vision_config={**vision, "depth": 6, "num_heads": 2, "out_hidden_size": 256, "fullatt_block_indexes": [1]},
            image_token_id=590,
        )
        pixels = {
            "pixel_values": torch.randn(256, 3 * 2 * 14 * 14),
            "image_grid_thw": torch.tensor([[1, 16, 16]]),
        }
        image_tokens = 64
    elif family == "internvl":
        config = InternVLConfig(
            text_config={**text(*numbers), "model_type": "qwen3", "head_dim": 64},
            vision_config={**INTERN_VIT, **vision, "num_hidden_layers": 6, "image_size": [224, 224]},
            image_token_id=590,
            image_seq_length=64,
        )
        pixels, image_tokens = {"pixel_values": torch.randn(1, 3, 224, 224)}, 64
    else:
        config = Gemma3Config(
            text_config={**text(*numbers), "head_dim": 64},
            vision_config={**SIGLIP, **vision, "num_hidden_layers": 6, "image_size": 224},
            mm_tokens_per_image=16,
            image_token_index=590,
            boi_token_index=591,
            eoi_token_index=592,
        )
        pixels, image_tokens = {"pixel_values": torch.randn(1, 3, 224, 224)}, 16
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config).train()
    ids = torch.randint(10, 500, (1, 256))
    ids[0, :image_tokens] = 590
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **pixels}
    if family == "gemma3":
        inputs["token_type_ids"] = (ids == 590).long()
    if family == "qwen2_5_vl":
        inputs["mm_token_type_ids"] = (ids == 590).int()
    return model, inputs, image_tokens


def saved_bytes(model: Any, inputs: dict[str, torch.Tensor], autocast: bool) -> int:
    """Bytes that autograd keeps for the backward pass, the model's own weights apart; each storage counts once."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    casting = torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), casting:
        model.model(**inputs, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in own)


def a_pass(mode: str, image_tokens: int, checkpointing: bool = False) -> Pass:
    return Pass(
        rows=1,
        tokens=256,
        image_tokens=image_tokens,
        completion_tokens=0,
        learns="adapters" if mode.startswith("adapters") else "language" if mode == "frozen vision" else "all",
        width=4 if mode in ("float32", "frozen vision") else 2,
        autocast="no autocast" not in mode,
        checkpointing=checkpointing,
        logits="none",
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["float32", "bfloat16", "frozen vision", "adapters", "adapters, no autocast"])
@pytest.mark.parametrize("family", ["qwen2_5_vl", "internvl", "gemma3"])
def test_activations_are_what_autograd_saves(family: str, mode: str) -> None:
    model, inputs, image_tokens = middle_sized(family)
    shape = shape_of(model.config)
    if mode.startswith("adapters"):
        add_lora(model.to(torch.bfloat16), 8)
    if mode == "frozen vision":
        freeze_vision_tower(model)
    # Autocast's copies of the weights are reckoned with the model.
    copies = trained_model(shape, 0, False, 2, 1, "ddp").activations if mode == "bfloat16" else 0
    measured = saved_bytes(model, inputs, autocast=mode in ("bfloat16", "adapters"))
    assert activation_bytes(shape, a_pass(mode, image_tokens)) + copies == pytest.approx(measured, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "checkpointing"), [("float32", False), ("bfloat16", True)])
def test_a_training_step_peaks_where_the_estimate_says(mode: str, checkpointing: bool) -> None:
    model, inputs, image_tokens = middle_sized("qwen2_5_vl")
    if checkpointing:
        model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters())
    tracker = MemTracker()
    tracker.track_external(model, optimizer, *inputs.values())
    with tracker:
        # A first step makes the optimizer's state; the third pass then finds the gradients of the second.
        for step_follows in (True, False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=mode == "bfloat16"):
                hidden = model.model(**inputs, use_cache=False).last_hidden_state
            hidden.float().square().mean().backward()
            if step_follows:
                optimizer.step()
                optimizer.zero_grad()
            tracker.reset_mod_stats()
    peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    shape = shape_of(model.config)
    memory = trained_model(shape, 0, False, 2 if mode == "bfloat16" else 4, 1, "ddp")
    reckoned = memory.total + activation_bytes(shape, a_pass(mode, image_tokens, checkpointing))
    assert reckoned == pytest.approx(peak, rel=0.1)


def test_the_layer_that_is_computed_again_is_there_as_a_whole() -> None:
    """A model of one layer saves nothing."""
    one = replace(SEVEN, language=replace(SEVEN.language, layers=1))
    again, kept = (a_pass("frozen vision", 64, checkpointing) for checkpointing in (True, False))
    assert activation_bytes(one, again) >= activation_bytes(one, kept)


def test_of_a_deeper_model_no_more_is_kept_where_layers_inputs_are_elsewhere() -> None:
    deeper = replace(SEVEN, language=replace(SEVEN.language, layers=2 * SEVEN.language.layers))
    kept = a_pass("bfloat16", 64, checkpointing=True)
    assert activation_bytes(deeper, kept) > activation_bytes(SEVEN, kept)
    elsewhere = replace(kept, offload=True)
    assert activation_bytes(deeper, elsewhere) == activation_bytes(SEVEN, elsewhere) < activation_bytes(SEVEN, kept)


@pytest.mark.slow
@pytest.mark.parametrize("lora_rank", [0, 8])
@pytest.mark.parametrize("freeze_vision", [False, True])
def test_weights_gradients_and_optimizer_are_counted_exactly(lora_rank: int, freeze_vision: bool) -> None:
    model, inputs, _ = middle_sized("qwen2_5_vl")
    shape = shape_of(model.config)
    if lora_rank:
        add_lora(model.to(torch.bfloat16), lora_rank)
    elif freeze_vision:
        freeze_vision_tower(model)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning)
    model(**inputs).logits.float().square().mean().backward()
    optimizer.step()

    def size(tensors: list[torch.Tensor]) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    memory = trained_model(shape, lora_rank, freeze_vision, 2 if lora_rank else 4, 1, "ddp")
    assert memory.weights == size(list(model.parameters()))
    assert memory.gradients == size([parameter.grad for parameter in learning if parameter.grad is not None])
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert memory.optimizer == size(moments)


@pytest.mark.parametrize("lora_rank", [0, 64])
def test_moments_in_8_bits_are_counted_from_above(lora_rank: int) -> None:
    """But for what makes patches of a picture, which is little of a large model."""
    model, _, _ = middle_sized("qwen2_5_vl")
    shape = shape_of(model.config)
    if lora_rank:
        add_lora(model, lora_rank)
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = AdamW8bit(parameter for name, parameter in learning.items() if "patch_embed" not in name)
    for parameter in learning.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    tensors = [value for state in optimizer.state.values() for name, value in state.items() if name != "step"]
    counted = trained_model(shape, lora_rank, False, 4, 1, "ddp", "adamw_8bit").optimizer
    assert 0.9 * counted < sum(tensor.numel() * tensor.element_size() for tensor in tensors) <= counted
    plain = trained_model(shape, lora_rank, False, 4, 1, "ddp").optimizer
    assert counted < plain / 3


def a_config(**sections: Any) -> Config:
    engine = {"num_gpus": 1, "max_model_len": 4096, "max_completion_tokens": 1024}
    learner = {"num_gpus": 1, "micro_batch": 1, "gradient_checkpointing": True}
    return Config.model_validate(
        {
            "policy": {"checkpoint": "Qwen/Qwen2.5-VL-7B-Instruct", "dtype": "bfloat16"},
            "engine": engine | sections.pop("engine", {}),
            "learner": learner | sections.pop("learner", {}),
            "mprm": {"num_gpus": 1, "lora_rank": 64, "micro_batch_tokens": 4096, "likelihood": False},
        }
        | sections
    )


SEVEN = KNOWN_SHAPES["Qwen/Qwen2.5-VL-7B-Instruct"]


def test_ranks_that_share_a_model_hold_parts_of_it() -> None:
    alone = learner_memory(a_config(), SEVEN)
    assert alone.gradients == 4 * SEVEN.parameters and alone.optimizer == 8 * SEVEN.parameters
    fsdp2 = learner_memory(a_config(learner={"ranks": 4, "sharding": "fsdp2"}), SEVEN)
    assert fsdp2.optimizer == alone.optimizer / 4
    # Beside its part, each rank has two layers whole at a time, and what is outside the layers.
    for name in ("weights", "gradients"):
        assert getattr(alone, name) / 4 < getattr(fsdp2, name) < getattr(alone, name) / 2
    ddp = learner_memory(a_config(learner={"ranks": 4, "sharding": "ddp"}), SEVEN)
    assert ddp.weights == alone.weights and ddp.optimizer == alone.optimizer
    eight = learner_memory(a_config(learner={"ranks": 8, "sharding": "fsdp2"}), SEVEN)
    assert eight.total < fsdp2.total < alone.total < ddp.total


def test_an_engine_takes_its_share_of_the_gpu_and_fills_it_with_cache() -> None:
    config = a_config(engine={"gpu_memory_utilization": 0.5})
    memory = engine_memory(config, SEVEN, 80 * GB)
    assert memory.total == pytest.approx(40 * GB) and memory.weights == 2 * SEVEN.parameters
    split = a_config(engine={"gpu_memory_utilization": 0.5, "tensor_parallel": 2, "num_gpus": 2})
    assert engine_memory(split, SEVEN, 80 * GB).cache > memory.cache + SEVEN.parameters * 0.99
    # 28 layers, keys and values of 4 heads of 128 numbers, two bytes each: 57,344 bytes a token.
    assert estimate(config, 80 * GB).cache_tokens == int(memory.cache / 57_344)


def test_an_mprm_with_adapters_holds_the_backbone_in_bfloat16() -> None:
    memory = mprm_memory(a_config(), SEVEN)
    adapters = SEVEN.language.adapter_parameters(64)
    assert memory.weights == 2 * SEVEN.parameters + 4 * adapters and memory.optimizer == 8 * adapters
