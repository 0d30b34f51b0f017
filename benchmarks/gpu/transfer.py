"""Weights from a learner to engines by vLLM's own ways, both sides for real: on a CPU all but the wire."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.connection import Connection, wait
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from transformers.core_model_loading import revert_weight_conversion

from benchmarks.gpu.stand_ins import wire
from rewards.models.backbone import load_model
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.learning.weight_sender import WeightSender, WholeWeights

CHUNK = 300_000


class Receiver:
    """In the place of an engine's model: Transformers' own, in bfloat16."""

    def __init__(self) -> None:
        self._model = load_model(SHIPPED_POLICY).bfloat16()
        named = self._model.named_parameters(remove_duplicate=False)
        # By the names of the checkpoint's files, as an engine has them; none of this family is cut or joined.
        self._weights = {
            written: weight
            for name, weight in named
            for written in revert_weight_conversion(self._model, {name: weight.detach()})
        }

    @torch.no_grad()
    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """See vLLM."""
        for name, weight in weights:
            self._weights[name].copy_(weight)

    def total(self) -> float:
        """Of all numbers, each counted by its place, so that none goes unseen."""
        return _total(self._weights)


def _total(weights: dict[str, torch.Tensor]) -> float:
    total = 0.0
    for weight in weights.values():
        numbers = weight.detach().to(torch.bfloat16).double().flatten().cpu()
        total += float((numbers * torch.arange(1, len(numbers) + 1)).sum())
    return total


def by_device(device: str) -> AbstractContextManager[Any]:
    """On a CPU the wire is replaced."""
    return nullcontext() if device == "cuda" else wire()


def make_sender(model: torch.nn.Module, backend: Any) -> WeightSender:
    """The learner's side, for one receiver."""
    with patch.object(torch.cuda, "is_available", lambda: True):
        return WeightSender(model, 0, backend, 1, torch.bfloat16)


def make_engine(kind: Any, model: Any, device: str) -> Any:
    """An engine's side, as its worker makes it."""
    ranks = SimpleNamespace(data_parallel_index=0, world_size=1, rank=0)
    config = SimpleNamespace(parallel_config=ranks, model_config=None)
    return kind(None, config, torch.device(device, 0) if device == "cuda" else torch.device("cpu"), model)


def ipc(device: str) -> dict[str, float]:
    """Handles to memory through a pipe, as Ray pickles them; three updates, and the learner's memory is free again."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_receive, args=(theirs, device), daemon=True)
    process.start()
    model, different = load_model(SHIPPED_POLICY), 0.0
    with by_device(device):
        sender = make_sender(model, "ipc")
        ours.send(dict(sender.handshake))
        sender.meet()
        before = _taken(device)
        for _ in range(3):
            with torch.no_grad():
                for weight in model.parameters():
                    weight.mul_(1.5)
            ours.send(pickle.dumps(sender.send()))
            # For as long as the check may take, or the engine lives.
            assert ours in wait([ours, process.sentinel]), "the engine is gone"
            different += abs(ours.recv() - _total(dict(model.named_parameters(remove_duplicate=False))))
            sender.release()
        torch.cuda.ipc_collect()
        kept = _taken(device) - before
    ours.send(None)
    process.join()
    assert process.exitcode is not None
    return {"different": different, "bytes kept": float(kept), "exit code": float(process.exitcode)}


def _receive(pipe: Connection, device: str) -> None:
    from vllm.distributed.weight_transfer.ipc_engine import IPCWeightTransferEngine

    with by_device(device):
        receiver = Receiver()
        engine = make_engine(IPCWeightTransferEngine, receiver, device)
        engine.init_transfer_engine(engine.parse_init_info(pipe.recv()))
        while (update := pipe.recv()) is not None:
            engine.update_weights(pickle.loads(update))
            if device == "cuda":
                torch.cuda.synchronize()
            pipe.send(receiver.total())


def _taken(device: str) -> int:
    return torch.cuda.memory_allocated() if device == "cuda" else 0


def streams(device: str) -> dict[str, float]:
    """The packed way of ``nccl`` on streams of its own, with a wire that copies within the device; weights change at
    once after they are sent."""
    from vllm.distributed.weight_transfer.packed_tensor import (
        packed_nccl_broadcast_consumer,
        packed_nccl_broadcast_producer,
    )

    model, receiver, different = load_model(SHIPPED_POLICY), Receiver(), 0.0
    source = WholeWeights(model, dtype=torch.bfloat16)
    for _ in range(3):
        with by_device(device):
            sent = _Kept()
            wanted = _total(dict(model.named_parameters(remove_duplicate=False)))
            pairs: Iterator[Any] = iter(source)
            packed_nccl_broadcast_producer(pairs, sent, 0, lambda pair: pair[1], CHUNK, 2)
            with torch.no_grad():
                for weight in model.parameters():
                    weight.add_(1)
            told = iter([(entry.name, (list(entry.shape), entry.dtype)) for entry in source.metadata()])
            packed_nccl_broadcast_consumer(told, _Again(sent), 0, receiver.load_weights, CHUNK, 2, device)
            if device == "cuda":
                torch.cuda.synchronize()
            different += abs(receiver.total() - wanted)
    return {"different": different, "chunks": float(len(sent.chunks))}


class _Kept:
    """A wire's one end: what is sent, copied in the order of the stream that sends."""

    def __init__(self) -> None:
        self.chunks: list[torch.Tensor] = []

    def broadcast(self, tensor: torch.Tensor, src: int) -> None:
        self.chunks.append(tensor.clone())


class _Again:
    """Its other end."""

    def __init__(self, sent: _Kept) -> None:
        self._chunks = iter(sent.chunks)

    def broadcast(self, tensor: torch.Tensor, src: int) -> None:
        tensor.copy_(next(self._chunks))
