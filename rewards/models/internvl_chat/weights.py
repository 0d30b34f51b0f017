"""The weights of the `internvl_chat` layout under the names, and in the shapes, of Transformers' own InternVL class.

Attention has its projections in one matrix each. Of the vision tower's, `qkv`, the rows are all queries, then all keys,
then all values. Of InternLM2's, `wqkv`, they are groups, one a key-value head: the queries that share it, its key, its
value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import torch

RENAMED = (
    (r"^vision_model\.", "model.vision_tower."),
    (r"^(model\.vision_tower\.encoder\.)layers\.", r"\1layer."),
    (r"\.class_embedding$", ".cls_token"),
    (r"\.position_embedding$", ".position_embeddings"),
    (r"\.patch_embedding\.", ".patch_embeddings.projection."),
    (r"\.ls([12])$", r".lambda_\1"),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.projection_layer."),
    (r"\.attn\.", ".attention."),
    (r"^mlp1\.0\.", "model.multi_modal_projector.layer_norm."),
    (r"^mlp1\.1\.", "model.multi_modal_projector.linear_1."),
    (r"^mlp1\.3\.", "model.multi_modal_projector.linear_2."),
    (r"^language_model\.(lm_head|output)\.", "lm_head."),
    (r"^language_model\.model\.", "model.language_model."),
    (r"\.tok_embeddings\.", ".embed_tokens."),
    (r"\.attention\.wo\.", ".self_attn.o_proj."),
    (r"\.feed_forward\.w1\.", ".mlp.gate_proj."),
    (r"\.feed_forward\.w2\.", ".mlp.down_proj."),
    (r"\.feed_forward\.w3\.", ".mlp.up_proj."),
    (r"\.attention_norm\.", ".input_layernorm."),
    (r"\.ffn_norm\.", ".post_attention_layernorm."),
)
"""What to replace in a name, in this order."""


def native_weights(
    original: Iterable[tuple[str, torch.Tensor]], heads: int, key_value_heads: int
) -> dict[str, torch.Tensor]:
    """All weights by their names in Transformers.

    Args:
        original: By their names in the layout.
        heads: Attention heads of the language model.
        key_value_heads: Those of them that have keys and values of their own.

    Raises:
        ValueError: A matrix does not fit these heads.
    """
    state: dict[str, torch.Tensor] = {}
    for name, tensor in original:
        if not name.endswith(".rotary_emb.inv_freq"):  # a constant
            state.update(_renamed(name, tensor, heads // key_value_heads, key_value_heads))
    return state


def load_into(model: Any, state: dict[str, torch.Tensor]) -> None:
    """Give a model these weights, in place of its own.

    Raises:
        ValueError: Some are missing, of another shape, or none of the model's.
    """
    if model.config.get_text_config().tie_word_embeddings:
        state = {**state, "lm_head.weight": state.get("model.language_model.embed_tokens.weight", torch.empty(0))}
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    there = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in sorted(wanted.keys() | there.keys()):
        if wanted.get(name) != there.get(name):
            raise ValueError(
                f"{name} is {list(there.get(name, ())) or 'missing'}; config.json wants "
                f"{list(wanted.get(name, ())) or 'none of that name'}"
            )
    model.load_state_dict(state, assign=True)
    model.tie_weights()


def _renamed(name: str, tensor: torch.Tensor, queries: int, key_value_heads: int) -> Iterator[tuple[str, torch.Tensor]]:
    if ".attn.qkv." in name:
        for part, rows in zip("qkv", tensor.chunk(3), strict=True):
            yield _rename(name.replace(".qkv.", f".{part}_proj.")), rows.contiguous()
    elif ".attention.wqkv." in name:
        if len(tensor) % (key_value_heads * (queries + 2)):
            raise ValueError(f"{name} has {len(tensor)} rows, which do not fit the heads that config.json tells of")
        groups = tensor.unflatten(0, (key_value_heads, queries + 2, -1))
        parts = {"q": groups[:, :queries], "k": groups[:, queries : queries + 1], "v": groups[:, queries + 1 :]}
        for part, rows in parts.items():
            new = _rename(name.replace(".attention.wqkv.", f".self_attn.{part}_proj."))
            yield new, rows.flatten(0, 2).contiguous()
    else:
        yield _rename(name), tensor


def _rename(name: str) -> str:
    for old, new in RENAMED:
        name = re.sub(old, new, name)
    return name
