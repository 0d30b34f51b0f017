"""Both of vLLM's own ways from GPU to GPU, on both sides, but for the wire: into an engine that computes with it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.gpu.stand_ins import wire
from rl.learning.weight_sender import Backend
from tests.fixtures.policy_families import PROMPTS, TOLERANCE, Policy, largest_difference, scored, some_experiences
from tests.fixtures.tiny_families import write_tiny_checkpoint

pytestmark = pytest.mark.slow

CHUNK = 10_000
"""Bytes that travel together: less than one matrix of most layers, so that what vLLM fuses comes in several."""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The bytes of each broadcast; vLLM's processes are forks of this one, and have its wire."""
    from vllm.distributed.weight_transfer import WeightTransferEngineFactory
    from vllm.distributed.weight_transfer.ipc_engine import IPCWeightTransferEngine
    from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferEngine
    from vllm.v1.executor import multiproc_executor

    monkeypatch.setattr(multiproc_executor, "get_mp_context", lambda: multiprocessing.get_context("fork"))
    for name, engine in (("nccl", NCCLWeightTransferEngine), ("ipc", IPCWeightTransferEngine)):
        # By another name, since there is no GPU.
        monkeypatch.setitem(WeightTransferEngineFactory._registry, f"{name}_here", lambda engine=engine: engine)
    with wire() as found:
        yield found


def together(*calls: Callable[[], Any]) -> list[Any]:
    """At the same time, as learner and engines are called; whoever fails is heard."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [answer.result(timeout=120) for answer in [pool.submit(call) for call in calls]]


@pytest.mark.parametrize(
    ("backend", "family", "tensor_parallel"), [("nccl", "qwen2_5_vl", 2), ("ipc", "gemma3", 1)], ids=["nccl", "ipc"]
)
def test_an_engine_computes_with_what_the_learner_sends(
    backend: Backend,
    family: str,
    tensor_parallel: int,
    sent: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its layers are fused of several weights, and cut in two; its output layer is its embedding."""
    checkpoint = write_tiny_checkpoint(family, tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    settings = {"weight_transfer": f"{backend}_here", "tensor_parallel": tensor_parallel}
    with Policy.of(family, checkpoint, **settings) as policy:
        learner = policy.learner()
        with monkeypatch.context() as gpu:
            gpu.setattr(torch.cuda, "is_available", lambda: True)
            handshake, update = learner.offer_weights(backend, tensor_parallel)
        if backend == "nccl":
            handshake["packed_buffer_size_bytes"] = CHUNK
        together(learner.meet_engines, lambda: policy.engine.join_transfer(handshake, first_rank=1))
        for version in (1, 2):
            learner.step(some_experiences(policy.sampled(PROMPTS, seed=version)))
            if backend == "nccl":
                _, took = together(learner.send_weights, lambda: policy.engine.receive_weights(update, version))  # noqa: B023
            else:
                took = policy.engine.receive_weights(learner.send_weights(), version)
                assert learner._sender._weights.held, "what an engine may still be reading stays"
                learner.release_weights()
            assert took == version
            rows = policy.sampled(PROMPTS, seed=10 + version)
            assert {sample.policy_version for _, sample in rows} == {version}
            assert largest_difference(rows, scored(learner, rows)) < TOLERANCE
    assert backend == "ipc" or len(sent) > len(update["names"]) / 4
