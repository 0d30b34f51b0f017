"""Trees read as their rows are: the same states, the same gradients, whatever a family's attention is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import flex_attention
from transformers.masking_utils import (
    and_masks,
    blockwise_overlay,
    causal_mask_function,
    or_masks,
    sliding_window_causal_mask_function,
)

from rewards.models import tree_attention
from rewards.models.backbone import add_lora, load_model
from rewards.models.encoding import Encoder
from rewards.models.reading_check import check_reading
from rewards.models.token_tree import Stem, pack_batch
from rewards.models.tree_attention import path_mask, read_trees, tree_block_mask
from rewards.records import Prompt
from tests.fixtures.family_checks import mixed_prompts
from tests.fixtures.rounding import assert_same_direction, gradients_of
from tests.fixtures.tiny_families import ALL_FAMILIES, FURTHER_FAMILIES, write_tiny_checkpoint
from tests.rewards.models.test_token_tree import Tree, trees

STATES, GRADIENTS = 1e-5, 2e-6
"""How far states and log-probabilities may be apart, and a gradient from another one, in parts of its length."""
ROUGHER = {"gemma4": 6e-6, "granite": 3e-6, "granite4_vision": 3e-6}
"""Gradients of families whose own arithmetic rounds more. Here others are at 7e-7, Granite at 1e-6 and Gemma 4 at 3e-6;
another processor adds up in another order."""
LEFT_TO_RIGHT = {"qwen3_5", "lfm2", "lfm2_vl", "mamba2"}
"""Linear attention, convolutions and states go through a row from left to right."""
ANOTHER_ATTENTION = {"gemma2", "gpt_oss", "paligemma"}
"""Attention that is bounded, or has sinks: Transformers computes it itself."""
ROWS_ALONE = LEFT_TO_RIGHT | ANOTHER_ATTENTION
TREE: Tree = (
    [5, 0, 1, 7, 4, 3, 2, 0, 6],
    [None, None, None, None, Stem(0, 2), Stem(0, 5), Stem(4, 1), Stem(3, 3), Stem(0, 2)],
)
"""Four answers, of which one is empty, and continuations: of a place with a sibling, of an end, of a continuation."""
EDGES: dict[str, list[Tree]] = {
    "a deep chain": [([1] * 30, [None, *(Stem(parent, 1) for parent in range(29))])] * 2,
    "stems at no tokens": [([3, 2, 2, 2], [None, Stem(0, 0), Stem(1, 0), Stem(2, 0)])] * 2,
    "nothing but empty": [([0, 0], [None, None]), ([0, 0, 0], [None, Stem(0, 0), None])],
    "nothing beside something": [([0, 0], [None, None]), ([3, 2], [None, Stem(0, 1)])],
}
SIBLINGS: Tree = ([4, 4, 4, 2, 2], [None, None, None, Stem(0, 2), Stem(0, 2)])


def grown(
    encoder: Encoder, prompts: Sequence[Prompt], shapes: Sequence[Tree], words: int | None = None
) -> dict[str, list[Any]]:
    """A tree on each prompt, of so many words or of all; ``whole`` are the completions as rows of their own would have
    them."""
    known = {*encoder.placeholders, *encoder.end_tokens, encoder.pad_token}
    tokens = [token for token in range(len(encoder.tokenizer)) if token not in known][:words]
    generator = torch.Generator().manual_seed(0)
    found: dict[str, list[Any]] = {"prompts": [], "own": [], "whole": [], "stems": []}
    for prompt, (lengths, stems) in zip(prompts, shapes, strict=True):
        first = len(found["own"])
        for length, stem in zip(lengths, stems, strict=True):
            own = tuple(tokens[int(n)] for n in torch.randint(len(tokens), (length,), generator=generator))
            before: tuple[int, ...] = ()
            if stem is not None:
                parent, theirs = (found[kind][first + stem.completion] for kind in ("whole", "own"))
                before, stem = (
                    parent[: len(parent) - len(theirs) + stem.tokens],
                    Stem(first + stem.completion, stem.tokens),
                )
            for kind, value in zip(found, (prompt, own, before + own, stem), strict=True):
                found[kind].append(value)
    return found


def of_rows(model: Any, encoder: Encoder, grown: dict[str, list[Any]]) -> list[torch.Tensor]:
    """The states before and after each completion's own tokens, read in a row of its own, alone: beside others it would
    be padded, and so stand elsewhere, where some models (Gemma 4) round otherwise."""
    found = []
    for prompt, whole, own in zip(grown["prompts"], grown["whole"], grown["own"], strict=True):
        inputs = encoder.batch([prompt], [whole]).model_inputs()
        (states,) = model.base_model(**inputs, use_cache=False).last_hidden_state
        found.append(states[len(states) - len(own) - 1 :])
    return found


def of_trees(model: Any, encoder: Encoder, grown: dict[str, list[Any]]) -> list[torch.Tensor]:
    """The same, read in the rows of their prompts."""
    batch = pack_batch(encoder, grown["prompts"], grown["own"], None, grown["stems"])
    states = model.base_model(**batch.model_inputs()).last_hidden_state
    assert batch.rows.completion_ids.shape[1] <= max(1, sum(map(len, grown["own"])))
    return [row[: len(own) + 1] for row, own in zip(states, grown["own"], strict=True)]


def logprobs_and_gradients(
    model: Any, states: Sequence[torch.Tensor], completions: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Of all tokens; gradients of their mean."""
    before = torch.cat([row[:-1] for row in states])
    tokens = torch.tensor([token for completion in completions for token in completion])
    logprobs = model.get_output_embeddings()(before).log_softmax(-1).gather(1, tokens[:, None])
    logprobs.mean().backward()
    gradients = gradients_of(model)
    model.zero_grad()
    return logprobs.detach(), gradients


def assert_equal(
    checkpoint: str, prepare: Callable[[Any], None] = lambda model: None, gradients_apart: float = GRADIENTS
) -> None:
    encoder = Encoder(checkpoint)
    plain, ours = load_model(checkpoint), load_model(checkpoint)
    check_reading(ours, encoder)  # which finds what to fill up rows with
    prompts = mixed_prompts(encoder)
    there = grown(encoder, prompts, [TREE] * len(prompts))
    for model in (plain, ours):
        prepare(model)
    assert read_trees(ours, encoder)
    expected, states = of_rows(plain, encoder, there), of_trees(ours, encoder, there)
    for row, other in zip(expected, states, strict=True):
        assert torch.allclose(row, other, atol=STATES)
    wanted, gradients = logprobs_and_gradients(plain, expected, there["own"])
    found, others = logprobs_and_gradients(ours, states, there["own"])
    assert (wanted - found).abs().max() <= STATES
    assert_same_direction(gradients, others, gradients_apart)


@pytest.mark.slow
@pytest.mark.parametrize("family", [f for f in [*ALL_FAMILIES, *FURTHER_FAMILIES] if f not in ROWS_ALONE])
def test_a_family_reads_trees_as_it_reads_rows(family: str, tmp_path: Path) -> None:
    assert_equal(write_tiny_checkpoint(family, tmp_path), gradients_apart=ROUGHER.get(family, GRADIENTS))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_checkpoint("qwen2_5_vl", tmp_path_factory.mktemp("qwen2_5_vl"))


def test_with_adapters_and_with_gradient_checkpointing(checkpoint: str) -> None:
    def prepare(model: Any) -> None:
        add_lora(model, 4)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # which begins at 0, and would say nothing of the others' gradients
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": False})

    assert_equal(checkpoint, prepare)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(ROWS_ALONE))
def test_a_family_that_cannot_read_trees_stays_as_it_was(family: str, tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(family, tmp_path)
    assert_left_alone(load_model(folder), Encoder(folder))


def assert_left_alone(model: Any, encoder: Encoder) -> None:
    check_reading(model, encoder)
    before, attention = model.base_model.forward, model.config.get_text_config()._attn_implementation
    assert not read_trees(model, encoder)
    assert model.base_model.forward == before
    assert model.config.get_text_config()._attn_implementation == attention


def test_a_model_that_has_no_gradient_of_a_tree_reads_rows(checkpoint: str) -> None:
    """It says of a tree what it says of rows, and only learning would fail."""

    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, states: torch.Tensor) -> torch.Tensor:
            return states.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
            raise NotImplementedError("there is no such kernel")

    def only_forward(module: torch.nn.Module, given: Any, output: Any) -> Any:
        output.last_hidden_state = Forward.apply(output.last_hidden_state)
        return output

    model = load_model(checkpoint)
    model.get_decoder().register_forward_hook(only_forward)
    assert_left_alone(model, Encoder(checkpoint))


def test_a_model_that_would_read_a_tree_as_a_row_is_found_out(checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial itself can fail: with the positions of a row, and with its mask."""
    monkeypatch.setattr(tree_attention, "_positions", lambda body, tree, inputs: None)
    assert not read_trees(load_model(checkpoint), Encoder(checkpoint))
    monkeypatch.undo()
    monkeypatch.setattr(tree_attention, "path_mask", lambda tree, sees, real: None)
    assert not read_trees(load_model(checkpoint), Encoder(checkpoint))


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Encoder]:
    """A model that reads rows, and the same one that reads trees, in numbers of twice the digits but for its norms."""
    folder = write_tiny_checkpoint("qwen2_5_vl", tmp_path_factory.mktemp("exact"))
    rows, ours, encoder = load_model(folder, "float64"), load_model(folder, "float64"), Encoder(folder)
    assert read_trees(ours, encoder)
    return rows, ours, encoder


def assert_equal_states(exact: tuple[Any, Any, Encoder], there: dict[str, list[Any]]) -> None:
    """States, and the gradients of a sum of these that weighs each of their numbers by chance."""
    rows, ours, encoder = exact
    found = of_rows(rows, encoder, there), of_trees(ours, encoder, there)
    before, after = (torch.cat(states) for states in found)
    assert torch.allclose(before, after, atol=1e-7)
    weights = torch.randn(before.shape, generator=torch.Generator().manual_seed(0), dtype=before.dtype)
    gradients = []
    for model, states in ((rows, before), (ours, after)):
        (states * weights).sum().backward()
        gradients.append(gradients_of(model))
        model.zero_grad()
    assert_same_direction(*gradients, 1e-6)


@pytest.mark.parametrize("shapes", EDGES.values(), ids=EDGES)
def test_trees_at_the_edge_of_what_there_is(shapes: list[Tree], exact: tuple[Any, Any, Encoder]) -> None:
    assert_equal_states(exact, grown(exact[2], mixed_prompts(exact[2])[: len(shapes)], shapes))


def test_equal_siblings_are_two_all_the_same(exact: tuple[Any, Any, Encoder]) -> None:
    """Of one word, over and over: no token is told from another but by its place."""
    prompts = mixed_prompts(exact[2])
    there = grown(exact[2], prompts, [SIBLINGS] * len(prompts), words=1)
    assert len(set(there["own"])) == 2 and len(there["own"]) == 20
    assert_equal_states(exact, there)


@given(st.lists(trees(6), min_size=1, max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=12)
def test_any_trees(exact: tuple[Any, Any, Encoder], shapes: list[Tree], chance: Any) -> None:
    rows, ours, encoder = exact
    shapes = [shape for shape in shapes if sum(shape[0])] or [([1], [None])]
    prompts = chance.sample(mixed_prompts(encoder), len(shapes))
    there = grown(encoder, prompts, shapes)
    expected, states = of_rows(rows, encoder, there), of_trees(ours, encoder, there)
    for row, other in zip(expected, states, strict=True):
        assert torch.allclose(row, other, atol=1e-7)
    _, wanted = logprobs_and_gradients(rows, expected, there["own"])
    _, gradients = logprobs_and_gradients(ours, states, there["own"])
    assert_same_direction(wanted, gradients, 1e-6)


@pytest.mark.parametrize("kind", ["causal", "sliding", "pictures"])
def test_flex_attention_sees_what_the_paths_see(kind: str, checkpoint: str) -> None:
    """FlexAttention's own reference, not compiled, on the block mask that a GPU would get."""
    encoder = Encoder(checkpoint)
    prompts = mixed_prompts(encoder)
    there = grown(encoder, prompts, [TREE] * len(prompts))
    packed = pack_batch(encoder, there["prompts"], there["own"], None, there["stems"])
    inputs, tree = packed.rows.model_inputs(), packed.tree
    real = inputs["attention_mask"].bool()
    pictures = torch.where(inputs["mm_token_type_ids"] == 1, 0, -1)
    sees = {
        "causal": causal_mask_function,
        "sliding": sliding_window_causal_mask_function(6),
        "pictures": or_masks(and_masks(causal_mask_function), blockwise_overlay(pictures)),
    }[kind]
    rows, length = real.shape
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(rows, 4, length, 16, generator=generator)
    key, value = torch.randn(2, rows, 2, length, 16, generator=generator)
    layer = torch.nn.Module()
    layer.num_key_value_groups = 2  # type: ignore[assignment]
    ours, _ = tree_attention._attention(layer, query, key, value, path_mask(tree, sees, real))
    blocks = tree_block_mask(tree, sees, real, compiled=False)
    theirs = flex_attention(query, key, value, block_mask=blocks, enable_gqa=True).transpose(1, 2)
    assert torch.allclose(ours[real], theirs[real], atol=1e-5)
