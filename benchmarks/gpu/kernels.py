"""Triton's kernels against PyTorch: on a GPU compiled, on a CPU by Triton's interpreter.

Each function gives the largest differences, by name; `TRITON_INTERPRET` has to be set before this module is imported.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from rewards.models.truncation import Truncation
from rl.learning.truncated_head import truncated_logprobs

ROWS, HIDDEN, VOCABULARY = 37, 64, 5000
TRUNCATIONS = (
    Truncation(),
    Truncation(top_k=20),
    Truncation(top_p=0.8),
    Truncation(min_p=0.1),
    Truncation(top_k=50, top_p=0.9, min_p=0.01),
)
SEEDS = (1, 2**31 - 1, 12345)


def on(device: str) -> None:
    """Let vLLM know Triton's interpreter, which it would take for no Triton, on a machine without a GPU."""
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        from vllm.platforms import current_platform

        assert current_platform.is_cpu()  # which it finds out by the same version, before it is another one
        plain = importlib.metadata.version
        with patch.object(importlib.metadata, "version", lambda name: "0" if name == "vllm" else plain(name)):
            import vllm.triton_utils
            import vllm.v1.sample.ops.topk_topp_sampler
            import vllm.v1.worker.gpu.buffer_utils

        assert vllm.triton_utils.HAS_TRITON
        vllm.v1.worker.gpu.buffer_utils.is_uva_available = lambda: False
        vllm.v1.sample.ops.topk_topp_sampler.HAS_TRITON = False  # the one kernel that is not for the interpreter


def normal(device: str, *shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    """The same numbers on every device."""
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).to(device)


def far(left: torch.Tensor, right: torch.Tensor) -> float:
    """The largest difference, as a share of the largest of ``right``."""
    return ((left.float() - right.float()).abs().max() / right.float().abs().max()).item()


class _Number(float):
    """A kernel's argument as a compiled kernel has it, with a number format; the interpreter gives it plain ones."""

    def to(self, dtype: Any) -> _Number:
        return self


def fused_head(device: str) -> dict[str, float]:
    """TRL's, which the learner takes its loss through: values and gradients."""
    from trl.kernels import ChunkedLogProbFunction, chunked_logprob

    from rl.learning import trainer  # noqa: F401  # keeps TRL from importing vLLM

    hidden, weight = normal(device, ROWS, HIDDEN), normal(device, VOCABULARY, HIDDEN, seed=1, scale=0.3)
    targets = torch.arange(ROWS, device=device) * 101 % VOCABULARY
    for tensor in (hidden, weight):
        tensor.requires_grad_()
    with patch.object(chunked_logprob, "_use_triton", lambda device: True):
        logprobs, entropy, *_ = ChunkedLogProbFunction.apply(
            hidden, weight, None, targets, 0.7, 2048, None, 1.0, ("entropy",)
        )
        fused = torch.autograd.grad((logprobs - 0.1 * entropy).sum(), (hidden, weight))
    plain_logprobs, plain_entropy = truncated_logprobs(hidden @ weight.T / 0.7, targets, Truncation())
    plain = torch.autograd.grad((plain_logprobs - 0.1 * plain_entropy).sum(), (hidden, weight))
    names = ("logprobs", "entropy", "gradient of hidden", "gradient of weight")
    pairs = zip((logprobs, entropy, *fused), (plain_logprobs, plain_entropy, *plain), strict=True)
    return {name: far(*pair) for name, pair in zip(names, pairs, strict=True)}


def sampler(device: str) -> dict[str, float]:
    """Of vLLM's second model runner: its log-probabilities are those that the learner takes, and a seed says all."""
    on(device)
    from vllm import SamplingParams
    from vllm.v1.worker.gpu.sample.logprob import compute_topk_scores
    from vllm.v1.worker.gpu.sample.sampler import Sampler
    from vllm.v1.worker.gpu.sample.states import SamplingStates

    rows = [(truncation, seed) for truncation in TRUNCATIONS for seed in SEEDS]
    logits = normal(device, len(rows), VOCABULARY, scale=2.0)
    temperature = 0.7
    states = SamplingStates(len(rows), VOCABULARY)
    made: Any = object.__new__(Sampler)
    made.sampling_states, made.logits_processors = states, []
    made.needs_logits_processing = np.array(
        [
            states.add_request(
                place, SamplingParams(temperature=temperature, seed=seed, logprobs=0, **vars(truncation))
            )
            for place, (truncation, seed) in enumerate(rows)
        ]
    )
    made.thinking_budget_state = SimpleNamespace(apply=lambda *_: None)
    made.use_flashinfer = made.use_xpu_sampler = made.use_fp64_gumbel = False
    made.logprobs_mode = "processed_logprobs"
    states.apply_staged_writes()

    def sample(places: list[int], position: int) -> tuple[torch.Tensor, torch.Tensor]:
        index = torch.tensor(places, dtype=torch.int32, device=device)
        at = torch.full((len(places),), position, dtype=torch.int64, device=device)
        mapped = np.array(places)
        tokens, processed = made.sample(
            logits[places].clone(), index, index, mapped, at, at, at, mapped, return_logprobs=True
        )
        return tokens, compute_topk_scores(processed, 0, tokens).logprobs.squeeze(-1)

    everything = list(range(len(rows)))
    tokens, logprobs = sample(everything, 5)
    wanted = torch.cat(
        [
            truncated_logprobs(logits[[place]] / temperature, tokens[[place]], truncation)[0]
            for place, (truncation, _) in enumerate(rows)
        ]
    )
    again, _ = sample(everything[::-1], 5)
    later, _ = sample(everything, 6)
    return {
        "logprobs": far(logprobs, wanted),
        "not drawn again by their seeds": float((again.flip(0) != tokens).sum()),
        "drawn again at the next position": float((later == tokens).float().mean()),
        "left out, but drawn": float((logprobs < -50).sum()),
    }


def adapters(device: str) -> dict[str, float]:
    """vLLM's LoRA: down to the rank, with rows of no adapter among them."""
    on(device)
    from vllm.lora.ops.triton_ops import lora_shrink_op

    rank = 16
    dtype = torch.bfloat16 if device == "cuda" else torch.float16  # whose products the interpreter knows
    inputs, weight = normal(device, ROWS, HIDDEN).to(dtype), normal(device, 1, 1, rank, HIDDEN, seed=1).to(dtype)
    mapping = torch.tensor([0 if row % 3 else -1 for row in range(ROWS)], dtype=torch.int32, device=device)
    without, with_adapter = int((mapping < 0).sum()), int((mapping == 0).sum())
    found = torch.empty(1, ROWS, rank, dtype=torch.float32, device=device)
    numbers = [[-1, 0], [without, with_adapter], [0, without, ROWS]]
    ids, counts, starts = (torch.tensor(row, dtype=torch.int32, device=device) for row in numbers)
    lora_shrink_op._lora_shrink(
        inputs,
        [weight],
        found,
        mapping,
        mapping.argsort(stable=True).int(),
        counts,
        starts,
        ids,
        torch.tensor([False]),
        torch.tensor([2], dtype=torch.int32),
        0.5,
    )
    wanted = 0.5 * inputs.float() @ weight[0, 0].float().T
    wanted[mapping < 0] = 0
    return {"shrunk": far(found[0], wanted)}


def liger(device: str) -> dict[str, float]:
    """Liger's norm and feed-forward activation: values and gradients."""
    from liger_kernel.ops import rms_norm, swiglu

    numbers: list[float] = [1e-6, 0.0]
    if device == "cpu":
        # The interpreter knows none of CUDA's own functions, its own only while it runs, and numbers as plain ones.
        language = importlib.import_module("triton.language")
        rms_norm.rsqrt = lambda value: language.rsqrt(value)
        swiglu.float = _Number
        numbers = [_Number(value) for value in numbers]

    def norm(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return states * torch.rsqrt(states.square().mean(-1, keepdim=True) + 1e-6) * weight

    states, gate = normal(device, ROWS, HIDDEN), normal(device, ROWS, HIDDEN, seed=1)
    weight = 1 + normal(device, HIDDEN, seed=2, scale=0.1)
    pairs: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[torch.Tensor, ...]]] = {
        "norm": (
            lambda states, weight: rms_norm.LigerRMSNormFunction.apply(states, weight, *numbers, "llama", False),
            norm,
            (states, weight),
        ),
        "feed-forward": (
            swiglu.LigerSiLUMulFunction.apply,
            lambda left, right: torch.nn.functional.silu(left) * right,
            (states, gate),
        ),
    }
    found = {}
    for name, (fused, plain, given) in pairs.items():
        fused_given, plain_given = ([t.clone().requires_grad_() for t in given] for _ in range(2))
        outputs = fused(*fused_given), plain(*plain_given)
        weights = normal(device, *outputs[1].shape, seed=3)
        gradients = [
            torch.autograd.grad((output * weights).sum(), inputs)
            for output, inputs in zip(outputs, (fused_given, plain_given), strict=True)
        ]
        found[name] = far(*outputs)
        found[f"gradient of {name}"] = max(far(*pair) for pair in zip(*gradients, strict=True))
    return found
