"""What stands in on a CPU for what GPUs alone have, so that all else of vLLM's weight transfer is run there: NCCL's
broadcasts go through a TCP store, streams are none, and a handle to a GPU's memory is the name of a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

THE_GPU = SimpleNamespace(uuid="GPU-0")


@contextmanager
def wire() -> Iterator[list[int]]:
    """Inside, both sides of vLLM's ``nccl`` and ``ipc`` run here; gives the bytes of each broadcast from this process.

    Processes that are forked inside have it, too.
    """
    from vllm.distributed.device_communicators import pynccl
    from vllm.distributed.weight_transfer import ipc_engine, packed_tensor

    sent: list[int] = []
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        replaced: list[tuple[Any, str, Any]] = [
            (pynccl, "PyNcclCommunicator", lambda group, device: _Store(group, sent)),
            (packed_tensor, "_get_streams", lambda device, number: tuple(_Stream() for _ in range(number))),
            (torch.cuda, "stream", lambda stream: nullcontext()),
            (torch.cuda, "current_stream", lambda *device: _Stream()),
            (torch.cuda, "get_device_properties", lambda device: THE_GPU),
            (torch.cuda, "ipc_collect", lambda: None),
            (torch.accelerator, "current_device_index", lambda: 0),
            (torch.accelerator, "synchronize", lambda *device: None),
            (ipc_engine, "reduce_tensor", lambda tensor: _lend(tensor, Path(folder))),
            (ipc_engine, "rebuild_cuda_tensor", _borrow),
        ]
        for module, name, stand_in in replaced:
            stack.enter_context(patch.object(module, name, stand_in))
        yield sent


class _Stream:
    """Nothing runs beside anything else."""

    def synchronize(self) -> None: ...

    def wait_stream(self, stream: Any) -> None: ...


class _Store:
    """What vLLM asks of NCCL, through the store by which its group meets."""

    def __init__(self, group: Any, sent: list[int]) -> None:
        self._group, self._sent = group, sent
        self.rank, self.world_size = group.rank, group.world_size

    def broadcast(self, tensor: torch.Tensor, src: int, stream: Any = None) -> None:
        if self.rank == src:
            self._sent.append(tensor.nbytes)
            self._group.broadcast_obj(tensor.clone(), src)
            return
        came = self._group.broadcast_obj(None, src)
        if (came.shape, came.dtype) != (tensor.shape, tensor.dtype):  # NCCL would hang, or write past its end
            raise ValueError(f"{came.dtype} {list(came.shape)} came, for {tensor.dtype} {list(tensor.shape)}")
        tensor.copy_(came)


def _lend(tensor: torch.Tensor, folder: Path) -> tuple[None, tuple[Any, ...]]:
    """As `torch.multiprocessing.reductions.reduce_tensor`: the seventh says on which device it is, the eighth where."""
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(tensor.detach().reshape(-1).view(torch.uint8).numpy().tobytes())
    return None, (type(tensor), tensor.size(), tensor.stride(), 0, None, tensor.dtype, 0, file.name)


def _borrow(*handle: Any) -> torch.Tensor:
    _, size, stride, offset, _, dtype, _, name = handle
    numbers = torch.from_file(name, shared=False, size=size.numel(), dtype=dtype)
    return numbers.as_strided(size, stride, offset)
