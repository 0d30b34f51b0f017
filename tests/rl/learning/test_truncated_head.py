"""Log-probabilities among the tokens that a sampler draws from: against a slow and simple way, and as gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trl.trainer import utils as trl_utils

from rewards.models.truncation import Truncation
from rl.learning.truncated_head import POSITIONS_AT_ONCE, truncated_head, truncated_logprobs

TRUNCATIONS = [
    Truncation(),
    Truncation(top_p=0.8),
    Truncation(top_k=3),
    Truncation(min_p=0.2),
    Truncation(top_k=5, top_p=0.6, min_p=0.05),
]


def slowly_kept(probabilities: list[float], truncation: Truncation) -> set[int]:
    """Token by token, by the definitions; no two probabilities are equal."""
    order = sorted(range(len(probabilities)), key=lambda token: -probabilities[token])
    order = [token for token in order if probabilities[token] >= truncation.min_p * probabilities[order[0]]]
    order = order[: truncation.top_k or None]
    kept, mass = [], math.fsum(probabilities[token] for token in order)
    for token in order:
        if kept and math.fsum(probabilities[k] for k in kept) >= truncation.top_p * mass:
            break
        kept.append(token)
    return set(kept)


@given(
    st.lists(st.floats(-6, 6), min_size=1, max_size=40, unique_by=lambda logit: round(logit, 2)),
    st.integers(0, 45),
    st.floats(0.05, 1),
    st.floats(0, 0.9),
    st.data(),
)
def test_it_is_the_slow_way(logits: list[float], top_k: int, top_p: float, min_p: float, data: st.DataObject) -> None:
    truncation = Truncation(top_k, top_p, min_p)
    row = torch.tensor(logits, dtype=torch.float64)
    target = data.draw(st.integers(0, len(logits) - 1))
    weights = np.exp(np.array(logits))
    kept = slowly_kept(list(weights / weights.sum()), truncation)
    # Rounding may decide at the very edge; nowhere else.
    near = slowly_kept(list(weights / weights.sum()), Truncation(top_k, min(1.0, top_p + 1e-9), min_p * (1 - 1e-9)))
    far = slowly_kept(list(weights / weights.sum()), Truncation(top_k, top_p - 1e-9, min_p * (1 + 1e-9)))
    found = set(truncation.kept(row).nonzero().flatten().tolist())
    assert far <= found <= near if top_p < 1 else found <= near
    if found != kept:
        return
    logprobs, entropy = truncated_logprobs(row.unsqueeze(0), torch.tensor([target]), truncation)
    counted = sorted(kept | {target})
    whole = math.fsum(weights[token] for token in counted)
    assert logprobs.item() == pytest.approx(math.log(weights[target] / whole), abs=1e-9)
    shares = [weights[token] / whole for token in counted]
    assert entropy.item() == pytest.approx(-math.fsum(share * math.log(share) for share in shares), abs=1e-9)


def test_what_ties_with_the_last_token_stays() -> None:
    assert Truncation(top_k=2).kept(torch.tensor([2.0, 1.0, 1.0, 0.0])).tolist() == [True, True, True, False]
    assert Truncation(top_p=1e-9).kept(torch.tensor([2.0, 1.0])).tolist() == [True, False], "one is always left"
    assert Truncation(top_k=9, top_p=1.0).kept(torch.zeros(3)).all()


def a_pass(positions: int) -> tuple[torch.Tensor, ...]:
    """Through TRL's head: log-probabilities, entropies, and the gradient of a mix of both by states and weights."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(positions, 8, generator=generator, requires_grad=True)
    weight = torch.randn(30, 8, generator=generator, requires_grad=True)
    targets = torch.randint(0, 30, (positions,), generator=generator)
    temperature, chunk, softcap, scale = 0.7, 30, 4.0, 0.5
    logprobs, entropies, *_ = trl_utils._ChunkedLogProbFunction.apply(
        hidden, weight, None, targets, temperature, chunk, softcap, scale, ("entropy",)
    )
    mix = torch.randn(2, positions, generator=generator)
    (logprobs * mix[0] + entropies * mix[1]).sum().backward()
    assert hidden.grad is not None and weight.grad is not None
    return logprobs.detach(), entropies.detach(), hidden.grad, weight.grad


@pytest.mark.parametrize("positions", [1, POSITIONS_AT_ONCE, 2 * POSITIONS_AT_ONCE + 3])
def test_where_nothing_is_left_out_it_is_trls_own_head(positions: int) -> None:
    """Temperature, scale and soft cap among it; in pieces of so many positions."""
    theirs = a_pass(positions)
    with truncated_head(Truncation()):
        mine = a_pass(positions)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_no_position_is_no_error() -> None:
    with truncated_head(Truncation(top_k=2)):
        empty = trl_utils._ChunkedLogProbFunction.apply(
            torch.zeros(0, 8), torch.zeros(30, 8), None, torch.zeros(0, dtype=torch.long), 1.0, 30, None, 1.0, ()
        )
    assert empty[0].shape == empty[1].shape == (0,)


@pytest.mark.parametrize("truncation", TRUNCATIONS[1:])
def test_a_token_that_would_not_be_drawn_again_can_be_learned_from(truncation: Truncation) -> None:
    logits = torch.linspace(3, -3, 12, dtype=torch.float64).repeat(12, 1).requires_grad_()
    logprobs, entropies = truncated_logprobs(logits, torch.arange(12), truncation)
    assert not truncation.kept(logits).all() and logprobs.isfinite().all() and entropies.isfinite().all()
    (logprobs.sum() + entropies.sum()).backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad[-1, -1] > 0
    targets = torch.full((12,), 1)
    assert torch.autograd.gradcheck(lambda x: truncated_logprobs(x, targets, truncation), logits)
