"""A model's attention, held to trees: every token looks at its own path, as it would in a row of its own.

Whatever mask a family has (causal, sliding windows, pictures that are seen both ways) Transformers makes of a function
of a query's and a key's place. Here it is asked for the places that the two have on their path, where it says of every
pair what it would say in a row, and pairs that have no path in common see nothing of each other.

On a CPU the prompts are read once, and then all branches that are equally far from their roots side by side, with the
keys of their paths: no product is computed to be masked. On a GPU FlexAttention leaves out the blocks that a block mask
says are empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any

import torch
from PIL.Image import Image
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask

from rewards.models.encoding import Encoder
from rewards.models.reading_check import gradient, taken, two_words
from rewards.models.sharding import all_say
from rewards.models.token_tree import Stem, TokenTree, pack_batch
from rewards.records import Prompt

NAME = "token_tree"
"""Of the attention among Transformers' implementations. Without a tree it is `sdpa`."""
MaskFunction = Callable[..., torch.Tensor]
"""Of batch, head, query and key, as index tensors: whether the one sees the other."""
_CURRENT: ContextVar[TokenTree | None] = ContextVar("tree", default=None)


def read_trees(model: Any, encoder: Encoder) -> bool:
    """Have a Transformers model take the inputs of `rewards.models.token_tree.PackedBatch`, in place: its body gives
    the last hidden states of each completion, (R, T + 1, H); see `TokenTree.unfold`. Other inputs are read as before.

    Not every model can: one whose tokens see each other in other ways than by Transformers' attention (linear
    attention, cross attention) reads a tree as something else. So it is asked to read a small one, with gradients, and
    if it does not say what it says of the same rows, it is left as it was; of ranks, on all of them.

    Args:
        model: Whole, and where it can compute.
        encoder: Its processor.

    Returns:
        Whether it reads trees now.
    """
    body, text = model.base_model, model.config.get_text_config()
    plain, attention = body.forward, text._attn_implementation

    @wraps(plain)
    def forward(*given: Any, tree: TokenTree | None = None, **named: Any) -> Any:
        if tree is None:
            return plain(*given, **named)
        with _reading(tree):
            found = plain(*given, **named, position_ids=_positions(body, tree, named))
        found.last_hidden_state = tree.unfold(found.last_hidden_state)
        return found

    if attention == "sdpa":
        body.forward, text._attn_implementation = forward, NAME
        if all_say(_reads_alike(model, encoder)):
            return True
        body.forward, text._attn_implementation = plain, attention
    return False


@torch.no_grad()
def _reads_alike(model: Any, encoder: Encoder) -> bool:
    """Whether small trees of prompts of different lengths, with a picture if the model sees any, and without, say what
    their rows say, and can be learned from."""
    pictures: list[tuple[Image, ...]] = [(gradient(64, 64),) if encoder.sees else (), ()]
    asked = [Prompt(f"a tree, {place}", "", "? " * place, images, "") for place, images in enumerate(pictures, 1)]
    shown = taken(encoder, asked)
    prompts = [prompt for prompt in shown for _ in range(3)]
    one, two = two_words(encoder)
    tree = [(one, two, one), (two, two, one, one), (two, one)]
    stems = [Stem(3 * place, 2) if last else None for place in range(len(shown)) for last in (False, False, True)]
    rows = [tree[0], tree[1], tree[0][:2] + tree[2]] * len(shown)
    packed, plain = pack_batch(encoder, prompts, tree * len(shown), None, stems), encoder.batch(prompts, rows)
    was_training = model.training
    model.eval()
    try:
        ours = _differentiated(model, packed.model_inputs(model.device), [len(own) + 1 for own in tree * len(shown)])
        theirs = model.base_model(**plain.model_inputs(model.device), use_cache=False).last_hidden_state
    except Exception:  # whatever a model does that cannot read it
        return False
    finally:
        model.train(was_training)
    theirs = theirs[:, plain.prompt_ids.shape[1] - 1 :]
    pairs = [
        (ours[place, : len(own) + 1], theirs[place, len(row) - len(own) : len(row) + 1])
        for place, (own, row) in enumerate(zip(tree * len(shown), rows, strict=True))
    ]
    left, right = (torch.cat(parts).float() for parts in zip(*pairs, strict=True))
    return bool((left - right).norm() <= torch.finfo(ours.dtype).eps ** 0.5 * right.norm())


def _differentiated(model: Any, inputs: dict[str, Any], lengths: Sequence[int]) -> torch.Tensor:
    """The last hidden states, once a gradient has come back from so many of each completion to the tokens' embeddings.

    Raises:
        ValueError: It is missing, or not finite.
    """
    embedded: list[torch.Tensor] = []

    def keep(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        embedded.append(output.requires_grad_())
        return output.clone()  # which pictures may be written into

    hook = model.get_input_embeddings().register_forward_hook(keep)
    try:
        with torch.enable_grad():
            states = model.base_model(**inputs).last_hidden_state
            real = torch.cat([states[place, :length] for place, length in enumerate(lengths)])
            found = torch.autograd.grad(real.float().square().sum(), embedded, allow_unused=True)
        known = [part for part in found if part is not None]
        if not known or not all(part.isfinite().all() for part in known):
            raise ValueError("no finite gradient")
    finally:
        hook.remove()
    return states.detach()


@contextmanager
def _reading(tree: TokenTree) -> Iterator[None]:
    """Masks that are made in here are the tree's."""
    before = _CURRENT.set(tree)
    try:
        yield
    finally:
        _CURRENT.reset(before)


def _positions(body: Any, tree: TokenTree, inputs: dict[str, Any]) -> torch.Tensor:
    """Along each token's own path: (B, L), or (3, B, L) where pictures have positions in time, height and width."""
    of_pictures = getattr(body, "get_rope_index", None)
    end = tree.prompt
    real = inputs["attention_mask"][:, :end]
    if of_pictures is None or inputs.get("image_grid_thw") is None:
        return (tree.positions - (real == 0).sum(1, keepdim=True)).clamp(min=0)
    prompts, _ = of_pictures(
        inputs["input_ids"][:, :end],
        inputs["mm_token_type_ids"][:, :end],
        image_grid_thw=inputs["image_grid_thw"],
        attention_mask=real,
    )
    # What follows a picture follows on the largest of its positions.
    last = prompts.masked_fill(real == 0, -1).amax((0, 2))
    after = (last[:, None] + 1 + tree.positions[:, end:] - end).expand(3, -1, -1)
    return torch.cat([prompts, after], dim=2)


@dataclass(frozen=True)
class PathMask:
    """What a layer's tokens see, on a CPU.

    Attributes:
        tree: Which tokens there are.
        prompts: Among those of the prompts (B, 1, P, P).
        levels: Of each level's queries, among the keys of their paths (N, 1, T, K).
    """

    tree: TokenTree
    prompts: torch.Tensor
    levels: tuple[torch.Tensor, ...]


def path_mask(tree: TokenTree, sees: MaskFunction, real: torch.Tensor) -> PathMask:
    """The mask function's word on every pair of a token and one on its path.

    Args:
        tree: Where they are.
        sees: The mask function of the layers.
        real: (B, L), False for padding.
    """
    head, batch = real.new_zeros(1, dtype=torch.long), torch.arange(len(real), device=real.device)
    within = torch.arange(tree.prompt, device=real.device)
    prompts = sees(batch[:, None, None, None], head, within[:, None], within) & real[:, None, None, : tree.prompt]
    levels = []
    for level in tree.levels:
        along = torch.arange(level.keys.shape[1], device=real.device)
        there = (along < level.lengths[:, None]) & real.flatten()[level.keys]
        seen = sees(level.trees[:, None, None, None], head, level.positions[:, None, :, None], along)
        levels.append(seen & there[:, None, None])
    return PathMask(tree, prompts, tuple(levels))


def tree_block_mask(tree: TokenTree, sees: MaskFunction, real: torch.Tensor, compiled: bool = True) -> BlockMask:
    """The same for FlexAttention: of two tokens one must have grown from the other; arguments as of `path_mask`."""
    leaves, positions = tree.leaves, tree.positions

    def allowed(batch: Any, head: Any, query: Any, key: Any) -> Any:
        below = (key <= query) & (query < leaves[batch, key])
        above = (query <= key) & (key < leaves[batch, query])
        along = sees(batch, head, positions[batch, query], positions[batch, key])
        return (below | above) & along & real[batch, key]

    rows, length = leaves.shape
    return create_block_mask(allowed, rows, None, length, length, device=real.device.type, _compile=compiled)


def _mask(
    *given: Any,
    mask_function: MaskFunction = causal_mask_function,
    attention_mask: torch.Tensor | None = None,
    **named: Any,
) -> Any:
    """As Transformers asks for one, once in a pass for each kind of layer."""
    tree = _CURRENT.get()
    if tree is None:
        return sdpa_mask(*given, mask_function=mask_function, attention_mask=attention_mask, **named)
    real = torch.ones_like(tree.leaves) if attention_mask is None else attention_mask
    make = tree_block_mask if real.is_cuda else path_mask
    return make(tree, mask_function, real.bool())


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    **named: Any,
) -> tuple[torch.Tensor, None]:
    """As Transformers' layers call one: of (B, heads, L, D) each, (B, L, heads, D)."""
    if isinstance(attention_mask, BlockMask):
        found = _compiled()(query, key, value, block_mask=attention_mask, scale=scaling, enable_gqa=True)
        return found.transpose(1, 2).contiguous(), None
    if not isinstance(attention_mask, PathMask):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **named)
    tree, states = attention_mask.tree, (query, key, value)

    def attend(parts: tuple[torch.Tensor, ...], seen: torch.Tensor) -> torch.Tensor:
        return sdpa_attention_forward(module, *parts, seen, scaling=scaling, **named)[0].flatten(0, 1)

    found = [attend(tuple(part[:, :, : tree.prompt] for part in states), attention_mask.prompts)]
    every = [part.transpose(1, 2).flatten(0, 1) for part in states]
    for level, seen in zip(tree.levels, attention_mask.levels, strict=True):
        places = level.queries, level.keys, level.keys
        found.append(attend(tuple(map(_at, every, places)), seen))
    found.append(torch.zeros_like(found[0][:1]))
    whole = torch.cat(found).index_select(0, tree.slots)
    return whole.unflatten(0, tree.leaves.shape), None


def _at(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Of those of all places (B * L, heads, D) the ones at (N, T), as (N, heads, T, D)."""
    return states.index_select(0, places.flatten()).unflatten(0, places.shape).transpose(1, 2)


@cache
def _compiled() -> Any:
    """Once, for rows of any length."""
    return torch.compile(flex_attention, dynamic=True)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
