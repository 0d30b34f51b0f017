"""AdamW in 8 bits, beside PyTorch's in 32: how far off a number is, and where the steps lead."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rewards.models import adamw
from rewards.models.adamw import AdamW8bit, compress, expand, make_adamw, values
from rewards.models.optimizer_files import Snapshot, load_optimizer, save_optimizer


def a_model(seed: int = 0) -> torch.nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.Tanh(), torch.nn.Linear(128, 64))


def learn(model: torch.nn.Sequential, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    """What it takes to be like another model; the losses."""
    inputs = torch.randn(256, 64, generator=torch.Generator().manual_seed(1))
    wanted, losses = a_model(seed=2)(inputs).detach(), []
    for _ in range(steps):
        loss = (model(inputs) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("signed", [True, False])
def test_a_byte_is_the_nearest_of_256_numbers(signed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(32, 96, generator=generator) * 10 ** (-8 * torch.rand(32, 96, generator=generator))
    numbers = numbers if signed else numbers.abs()
    codes, scales = compress(numbers, 32, signed)
    assert codes.dtype == torch.uint8 and codes.shape == (32, 96) and scales.shape == (32, 3)
    assert torch.equal(scales, numbers.abs().view(32, 3, 32).amax(-1))
    shares, known = (numbers.view(32, 3, 32) / scales[..., None]).flatten(), values(signed)
    nearest = (shares[:, None] - known[0 if signed else 1 :]).abs().amin(1)
    off = (expand(codes, scales, signed).view(32, 3, 32) / scales[..., None]).flatten() - shares
    assert torch.allclose(off.abs(), nearest, atol=1e-7)
    assert not expand(*compress(torch.zeros(2, 64), 32, signed), signed).any()


def test_what_is_divided_by_never_becomes_0() -> None:
    numbers = torch.full((1, 32), 1e-12)
    numbers[0, 0] = 1.0
    assert (expand(*compress(numbers, 32, False), signed=False) > 0).all()
    assert expand(*compress(numbers, 32, True), signed=True).count_nonzero() == 1


def test_the_values_are_as_published() -> None:
    """As many in each power of ten as arXiv 2110.02861, figure 2, has bits left for the fraction, and 0 and 1."""
    for signed, most in ((True, 64), (False, 128)):
        known = values(signed)
        assert len(known) == len(known.unique()) == 256 and known[-1] == 1 and (known == 0).sum() == 1
        in_decade = [int(((known > 10.0**-n) & (known < 10.0 ** (1 - n))).sum()) for n in range(1, 8)]
        assert in_decade == [most >> n for n in range(7)]


def test_it_leads_where_adamw_leads() -> None:
    start, arrived, losses = flat(a_model()), [], []
    for kind in ("adamw", "adamw_8bit"):
        model = a_model()
        losses.append(learn(model, make_adamw(kind, [{"params": model.parameters()}], 1e-3, 0.01), 50))
        arrived.append(flat(model))
    apart = (arrived[0] - arrived[1]).norm() / (arrived[0] - start).norm()
    assert 1e-3 < apart < 0.15
    assert losses[0][-1] < 0.1 * losses[0][0] and losses[1] == pytest.approx(losses[0], rel=0.1)


def test_tensors_that_are_not_cut_into_blocks_move_as_adamw_moves_them() -> None:
    moved = []
    for kind in (torch.optim.AdamW, AdamW8bit):
        shapes = (4096,), (8, 8), (512, 13), (2, 3, 8)
        weights = [torch.nn.Parameter(torch.linspace(-1, 1, torch.Size(shape).numel()).view(shape)) for shape in shapes]
        optimizer = kind(weights, lr=1e-2, weight_decay=0.1)
        for _ in range(20):
            sum(weight.pow(4).sum() for weight in weights).backward()
            optimizer.step()
            optimizer.zero_grad()
        moved.append(weights)
    for left, right in zip(*moved, strict=True):
        assert torch.allclose(left, right, atol=1e-6, rtol=0)


def test_rows_that_move_one_after_another_move_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    models = a_model(), a_model()
    learn(models[0], AdamW8bit(models[0].parameters()), 3)
    monkeypatch.setattr(adamw, "AT_ONCE", 300)
    learn(models[1], AdamW8bit(models[1].parameters()), 3)
    assert torch.equal(flat(models[0]), flat(models[1]))


def test_what_was_saved_goes_on_to_the_last_bit(tmp_path: Path) -> None:
    model, restored = a_model(), a_model(seed=1)
    optimizer, other = (AdamW8bit(each.parameters()) for each in (model, restored))
    learn(model, optimizer, 3)
    save_optimizer(optimizer, model, tmp_path, {"a": 1})
    restored.load_state_dict(model.state_dict())
    assert load_optimizer(other, restored, tmp_path) == {"a": 1}
    assert {tensor.dtype for state in other.state.values() for tensor in state.values()} == {torch.uint8, torch.float32}
    assert learn(model, optimizer, 3) == learn(restored, other, 3) and torch.equal(flat(model), flat(restored))
    with pytest.raises(ValueError, match=r"is of another kind of optimizer: it has .*'exp_avg_scale'"):
        load_optimizer(torch.optim.AdamW(model.parameters()), model, tmp_path)


def test_an_update_is_taken_back_to_the_last_bit() -> None:
    """On a CPU, too, where what is copied might be the very tensor."""
    model, other = a_model(), a_model()
    optimizer, apart = (AdamW8bit(each.parameters()) for each in (model, other))
    learn(model, optimizer, 3)
    learn(other, apart, 3)
    before = Snapshot.take(model, optimizer)
    learn(model, optimizer, 3)
    before.put_back(optimizer)
    assert learn(model, optimizer, 2) == learn(other, apart, 2)
