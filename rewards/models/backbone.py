"""Models, of vision and language or of language alone: loaded the same way for all who need one; frozen in part, or
with adapters."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from transformers import AutoTokenizer
from transformers.core_model_loading import Transpose

from rewards.models.architecture import empty_model, model_class, read_config, vision_tower
from rewards.models.shared_images import see_equal_images_once

LORA_SCALE = 2


def device() -> str:
    """Where models of this process live: its GPU if it was given one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def release_memory() -> None:
    """Give the device back what no tensor holds: another process, that slept there meanwhile, wants it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def load_model(
    checkpoint: str | Path, dtype: str = "float32", trust_remote_code: bool = False, sharding: str = "ddp"
) -> Any:
    """`read_model` on `device`; it sees equal images of a batch once. With `fsdp2` a rank's device may not have room
    for more than a part: all of it stays on the CPU, until `rewards.models.sharding.spread` moves that part."""
    model = read_model(checkpoint, dtype, trust_remote_code)
    see_equal_images_once(model)
    has_part = sharding == "fsdp2" and int(os.environ.get("WORLD_SIZE", "1")) > 1
    return model if has_part else model.to(device())


def read_model(
    checkpoint: str | Path, dtype: str = "float32", trust_remote_code: bool = False, onto: str | None = None
) -> Any:
    """A Transformers image-text-to-text model, or a language model, with all its weights from a checkpoint. They are
    safetensors: other kinds would be unpickled.

    Args:
        checkpoint: Folder or hub name.
        dtype: Name of a torch number format, for example ``float32`` or ``bfloat16``.
        trust_remote_code: Whether code shipped with the checkpoint may run.
        onto: A device; ``meta`` for a model without memory, to see whether the weights are its own.

    Raises:
        ValueError: See `rewards.models.architecture`'s `model_class` and `empty_model`; or weights are missing, which
            would be random, or of other shapes, or are none of the model's.
    """
    kind = model_class(checkpoint, trust_remote_code)
    try:
        model, found = kind.from_pretrained(
            checkpoint,
            dtype=getattr(torch, dtype),
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            device_map=onto,
        )
    except Exception:
        empty_model(read_config(checkpoint, trust_remote_code))  # which says so where it is the configuration's fault
        raise
    shapes = [f"{name} {list(there)} for {list(wanted)}" for name, there, wanted in sorted(found["mismatched_keys"])]
    wrong = {"missing": sorted(found["missing_keys"]), "of another shape": shapes}
    wrong["none of its own"] = sorted(found["unexpected_keys"])
    if any(wrong.values()):
        told = "; ".join(f"{len(names)} {what}: {_first(names)}" for what, names in wrong.items() if names)
        raise ValueError(f"{checkpoint} does not hold the weights of a {type(model).__name__}: {told}")
    _turn_back_when_written(model)
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        model.get_decoder().set_attn_implementation("eager")  # others leave Gemma 2's bound on attention out
    return model


def _turn_back_when_written(model: Any) -> None:
    """Qwen3-VL's experts lie on the hub, and for vLLM, the other way around than in Transformers, which turns what it
    reads where the shape says so, and would write it unturned."""
    if any(weight.dim() == 3 and weight.shape[1] == weight.shape[2] for weight in model.parameters()):
        return  # then no shape says so
    for conversion in getattr(model, "_weight_conversions", None) or ():
        for operation in getattr(conversion, "operations", ()):
            if isinstance(operation, Transpose):
                operation.check_dims = False


def check_vocabulary(model: Any, tokens: Iterable[int]) -> None:
    """Whether a model has an embedding for each of the tokens that it will read.

    Raises:
        ValueError: It has not: they were added to the tokenizer alone.
    """
    rows, most = model.get_input_embeddings().num_embeddings, max(tokens)
    if most >= rows:
        raise ValueError(
            f"its tokenizer or generation_config.json has token {most}, and its model embeddings of {rows:,}: "
            "tokens were added to the tokenizer alone; Transformers' resize_token_embeddings makes room for them"
        )


def _first(names: Sequence[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (", …" if len(names) > shown else "")


def freeze_vision_tower(model: Any) -> None:
    """Leave the weights of the vision tower as they are.

    Raises:
        ValueError: The model does not say which they are.
    """
    tower = vision_tower(model)
    if tower is None:
        raise ValueError(
            f"{type(model).__name__} has no vision tower of its own to freeze (Transformers' get_encoder); allowed is "
            "freeze_vision false"
        )
    tower.requires_grad_(False)


def lora_config(rank: int, layers: Iterable[str]) -> LoraConfig:
    """Adapters of a rank on linear layers, by their names."""
    return LoraConfig(r=rank, lora_alpha=LORA_SCALE * rank, target_modules=sorted(layers))


def add_lora(model: Any, rank: int, seed: int = 0) -> None:
    """Put low-rank adapters (LoRA, arXiv 2106.09685; alpha = 2 rank) on the linear layers of a Transformers model's
    decoder, in place; nothing but them remains trainable. ``seed`` decides their weights, which are float32 whatever
    the backbone's are.

    Raises:
        ValueError: The model has no decoder with such layers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Of a Transformers model PEFT would take the names for those that families of experts had in Transformers 4.
        whole = torch.nn.ModuleDict({"model": model})
        inject_adapter_in_model(lora_config(rank, [f"model.{name}" for name in _language_layers(model)]), whole)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if parameter.requires_grad:
            # The steps of an optimizer are too small for bfloat16, and mostly lost in it.
            parameter.data = parameter.data.float()


def _language_layers(model: Any) -> list[str]:
    """The names of the linear layers in which a model reads and writes text.

    Raises:
        ValueError: There are none.
    """
    decoder = model.get_decoder()
    names = [
        f"{place}.{name}"
        for place, part in model.named_modules()
        if part is decoder and part is not model
        for name, layer in part.named_modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    if not names:
        raise ValueError(
            f"LoRA: {type(model).__name__} has no text decoder of its own with linear layers to put adapters on "
            "(Transformers' get_decoder); allowed is lora_rank 0, which trains all weights"
        )
    return names


def merge_lora(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a model with `add_lora`'s adapters, whole tensors by their names, as those of one without:
    W + s B A, in the number format of W."""
    merged = {}
    for name, weight in state.items():
        if "lora_" in name:
            continue
        if ".base_layer." in name:
            layer, _, kind = name.partition(".base_layer.")
            if kind == "weight":
                up, down = (state[f"{layer}.lora_{side}.default.weight"].float() for side in "BA")
                weight = (weight.float() + LORA_SCALE * up @ down).to(weight.dtype)
            name = f"{layer}.{kind}"
        merged[name] = weight
    return merged


def add_token(model: Any, checkpoint: str, tokenizer: Any, text: str, trust_remote_code: bool = False) -> None:
    """Make a text one token of the vocabulary; it starts as the mean of all others, unless the checkpoint knows it.

    Args:
        model: As the checkpoint has it.
        checkpoint: Folder or hub name.
        tokenizer: The checkpoint's, perhaps with the token added before.
        text: The token.
        trust_remote_code: Whether code shipped with the checkpoint may run.
    """
    plain = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
    known = plain(text, add_special_tokens=False)["input_ids"]
    if len(known) == 1 and known[0] != plain.unk_token_id:
        return
    tokenizer.add_tokens([text], special_tokens=True)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    new = tokenizer.convert_tokens_to_ids(text)
    with torch.no_grad():
        for weight in {model.get_input_embeddings().weight, model.get_output_embeddings().weight}:
            weight[new] = weight[:new].mean(0)


def load_weights(model: torch.nn.Module, checkpoint: Path) -> None:
    """Put a saved checkpoint's weights into a model of the same architecture."""
    model.load_state_dict(read_model(checkpoint, str(model.dtype).removeprefix("torch.")).state_dict())


class BlankPicture:
    """A picture that counts for nothing, for passes of a Transformers vision-language model over text alone.

    Ranks that hold a part of the vision tower each wait for one another there, and would for ever where some of them
    have pictures to look at and others have none.

    Args:
        body: The model without its language head, with Transformers' ``get_image_features``; changed in place.
        images: What the processor makes of a picture.

    Attributes:
        is_shown: Whether passes over text alone see it. Where no rank has a picture they had better not: the tower
            then has no gradient, and stays as it is.
    """

    def __init__(self, body: Any, images: Mapping[str, torch.Tensor]) -> None:
        self.is_shown = False
        self._body, self._images = body, images
        self._plain, body.forward = body.forward, self._forward
        self._nothing: torch.Tensor | None = None
        body.get_input_embeddings().register_forward_hook(self._add_nothing)

    def _forward(self, *given: Any, **named: Any) -> Any:
        if self.is_shown and named.get("pixel_values") is None:
            images = {name: tensor.to(self._body.device) for name, tensor in self._images.items()}
            found = self._body.get_image_features(**images).pooler_output
            parts = found if isinstance(found, list | tuple) else [found]
            self._nothing = torch.stack([part.sum() for part in parts]).sum() * 0
        return self._plain(*given, **named)

    def _add_nothing(self, _module: torch.nn.Module, _given: Any, embeddings: torch.Tensor) -> torch.Tensor:
        # Where features of pictures go, too: ranks meet in the same order, forward and backward.
        nothing, self._nothing = self._nothing, None
        return embeddings if nothing is None else embeddings + nothing.to(embeddings.dtype)
