"""Vision-language models: loaded the same way for policy, engine and reward model; frozen in part, or with adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from transformers import AutoModelForImageTextToText, AutoTokenizer

LORA_SCALE = 2
VISION_TOWERS = {"visual", "vision_tower", "vision_model"}
LANGUAGE_LAYERS = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def device() -> str:
    """Where models of this process live: its GPU if it was given one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(checkpoint: str | Path, dtype: str = "float32", trust_remote_code: bool = False) -> Any:
    """`read_model` on `device`; it sees equal images of a batch once."""
    model = read_model(checkpoint, dtype, trust_remote_code)
    see_equal_images_once(model)
    return model.to(device())


def read_model(checkpoint: str | Path, dtype: str = "float32", trust_remote_code: bool = False) -> Any:
    """A Transformers image-text-to-text model with all its weights from a checkpoint. They are safetensors: other kinds
    would be unpickled.

    Args:
        checkpoint: Folder or hub name.
        dtype: Name of a torch number format, for example ``float32`` or ``bfloat16``.
        trust_remote_code: Whether code shipped with the checkpoint may run.

    Raises:
        ValueError: Weights are missing, which would be random, or of other shapes, or are none of the model's.
    """
    model, found = AutoModelForImageTextToText.from_pretrained(
        checkpoint,
        dtype=getattr(torch, dtype),
        trust_remote_code=trust_remote_code,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused below, by name
    )
    shapes = [f"{name} {list(there)} for {list(wanted)}" for name, there, wanted in sorted(found["mismatched_keys"])]
    wrong = {"missing": sorted(found["missing_keys"]), "of another shape": shapes}
    wrong["none of its own"] = sorted(found["unexpected_keys"])
    if any(wrong.values()):
        told = "; ".join(f"{len(names)} {what}: {_first(names)}" for what, names in wrong.items() if names)
        raise ValueError(f"{checkpoint} does not hold the weights of a {type(model).__name__}: {told}")
    return model


def _first(names: Sequence[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (", …" if len(names) > shown else "")


def freeze_vision_tower(model: torch.nn.Module) -> None:
    """Leave the weights of the vision tower as they are.

    Raises:
        ValueError: The model has none under a name that is known.
    """
    parameters = [p for name, p in model.named_parameters() if not VISION_TOWERS.isdisjoint(name.split("."))]
    if not parameters:
        raise ValueError(f"the model has no part named {' or '.join(sorted(VISION_TOWERS))} to freeze")
    for parameter in parameters:
        parameter.requires_grad_(False)


def lora_config(rank: int) -> LoraConfig:
    """Adapters of a rank on the language model's linear layers."""
    return LoraConfig(r=rank, lora_alpha=LORA_SCALE * rank, target_modules=LANGUAGE_LAYERS)


def add_lora(model: torch.nn.Module, rank: int, seed: int = 0) -> None:
    """Put low-rank adapters (LoRA, arXiv 2106.09685; alpha = 2 rank) on the language model's linear layers, in place;
    nothing but them remains trainable. ``seed`` decides their weights, which are float32 whatever the backbone's are.

    Raises:
        ValueError: The model has no such layers under names that are known.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(lora_config(rank), model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if parameter.requires_grad:
            # The steps of an optimizer are too small for bfloat16, and mostly lost in it.
            parameter.data = parameter.data.float()


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


def see_equal_images_once(model: Any) -> None:
    """Have a Transformers vision-language model compute the features of equal images of a batch only once, in place.

    Features, and the gradients that flow back through them, are what they were.

    Args:
        model: With a part ``model`` that has Transformers' ``get_image_features``; any other is left as it is.
    """
    inner: Any = getattr(model, "model", None)
    if not hasattr(inner, "get_image_features"):
        return
    plain = inner.get_image_features

    def once(pixel_values: torch.Tensor, image_grid_thw: torch.Tensor | None = None, **named: Any) -> Any:
        given = {} if image_grid_thw is None else {"image_grid_thw": image_grid_thw}
        sizes = [1] * len(pixel_values) if image_grid_thw is None else image_grid_thw.prod(-1).tolist()
        images = pixel_values.split(sizes)
        shapes = [()] * len(images) if image_grid_thw is None else [tuple(row) for row in image_grid_thw.tolist()]
        firsts = first_equals(images, shapes)
        distinct = sorted(set(firsts))
        if len(distinct) < len(images):
            pixel_values = torch.cat([images[place] for place in distinct])
            given = {name: tensor[distinct] for name, tensor in given.items()}
        found = plain(pixel_values=pixel_values, **given, **named)
        if len(distinct) < len(images):
            places = [distinct.index(first) for first in firsts]
            features = found.pooler_output
            alike = isinstance(features, torch.Tensor)
            found.pooler_output = features[places] if alike else tuple(features[place] for place in places)
        return found

    inner.get_image_features = once


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


def first_equals(images: Sequence[torch.Tensor], shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """For each image the place of the first one that equals it, its own if there is none before it.

    Args:
        images: Pixels or patches, of any shapes.
        shapes: What else two images must have in common: a picture of 2 x 8 patches is not one of 4 x 4.

    >>> red, blue = torch.zeros(2, 3), torch.ones(2, 3)
    >>> first_equals([red, blue, red.clone(), blue[:1]], [()] * 4)
    [0, 1, 0, 3]
    """
    # Sums tell most images apart without comparing every pair.
    sums = torch.stack([torch.stack([image.sum(), image.square().sum()]) for image in images]).tolist()
    seen: dict[tuple[Any, ...], list[int]] = {}
    firsts = []
    for place, image in enumerate(images):
        alike = seen.setdefault((*sums[place], *shapes[place], *image.shape), [])
        first = next((other for other in alike if torch.equal(images[other], image)), place)
        if first == place:
            alike.append(place)
        firsts.append(first)
    return firsts
