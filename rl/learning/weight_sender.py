"""The learner's side of vLLM's own weight transfer between GPUs: by NCCL, or by handles to shared memory (CUDA IPC).

The engines' side is `rl.engines.vllm_engine.VllmEngine.receive_weights`. `rl.workers.weight_transfer.WeightTransfer`
calls both sides, so that an engine takes new weights in its turn, between two other calls to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from transformers.core_model_loading import revert_weight_conversion

Backend = Literal["nccl", "ipc"]


class WeightSender:
    """Sends the weights of a model. Every rank of the learner has one, and all of them are called together.

    Args:
        module: The model, under its Hugging Face names; its weights may be in parts (FSDP2).
        rank: Which of the learner's ranks this is; the first one sends what all of them gather.
        backend: How.
        receivers: GPUs of all engines together.
        dtype: Number format that the engines compute in, and weights travel in; None for their own.

    Attributes:
        handshake: What the engines must know to meet the learner.
        update: Names, number formats and shapes of the weights to come.

    Raises:
        ValueError: There is no GPU here.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        rank: int,
        backend: Backend,
        receivers: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not torch.cuda.is_available():
            raise ValueError(f"engine.weight_transfer is {backend!r}: the learner has no GPU; allowed is object_store")
        from vllm.utils.network_utils import get_ip, get_open_port

        address = {"master_address": get_ip(), "master_port": get_open_port(), "world_size": 1 + receivers}
        self.handshake: dict[str, Any] = {"packed": True, **address} if backend == "nccl" else {"packed": False}
        self._rank, self._backend = rank, backend
        self._weights = WholeWeights(module, backend == "ipc", dtype)
        self.update = self._weights.description()
        self._client = _Listener()
        self._engine: Any = None

    def meet(self) -> None:
        """Open the connection; with ``nccl`` the engines must do so at the same time."""
        from vllm.distributed.weight_transfer import WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        info = {"nccl": NCCLTrainerInitInfo, "ipc": IPCTrainerInitInfo}[self._backend]
        self._engine = WeightTransferTrainerFactory.trainer_init(
            info(**self.handshake, rank=self._rank), client=self._client, source=self._weights
        )

    @torch.no_grad()
    def send(self) -> dict[str, Any]:
        """Send the weights as they are now.

        With ``nccl`` the engines must receive at the same time. With ``ipc`` they receive what this returns, and until
        `release` the weights must stay.
        """
        self._engine.send_weights()
        return self._client.update

    def release(self) -> None:
        """The engines have what was sent."""
        self._weights.held.clear()


class WholeWeights:
    """The weights one after another, each gathered from all ranks: what vLLM calls a ``WeightSource``.

    A weight that stands for two, as the embedding of words often does for the output layer, comes under both names:
    vLLM's own source of a module's weights leaves out the second, and an engine then keeps what it has there.

    Args:
        module: The model.
        hold: Whether those that were given stay in memory.
        dtype: Number format of all that are no whole numbers; None for their own.

    Attributes:
        held: Those that stay in memory until they are taken out here, if ``hold`` says so.
    """

    def __init__(self, module: torch.nn.Module, hold: bool = False, dtype: torch.dtype | None = None) -> None:
        self._module, self._dtype = module, dtype
        self._parameters = dict(module.named_parameters(remove_duplicate=False))
        self._hold = hold
        self.held: list[torch.Tensor] = []

    def metadata(self) -> list[Any]:
        """Name, number format and shape of each, without gathering it."""
        from vllm.distributed.weight_transfer import ParamMeta

        return [
            ParamMeta(written, value.dtype, tuple(value.shape))
            for name, weight in self._parameters.items()
            for written, value in self._as_written(name, torch.empty(weight.shape, dtype=weight.dtype, device="meta"))
        ]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        from vllm.distributed.weight_transfer.base import materialize_full_tensor

        for name, weight in self._parameters.items():
            for written, whole in self._as_written(name, materialize_full_tensor(weight).detach()):
                if self._hold:
                    self.held.append(whole)
                yield written, whole

    def _as_written(self, name: str, weight: torch.Tensor) -> Iterable[tuple[str, torch.Tensor]]:
        """By the names of the checkpoint's files, which an engine looks for."""
        if self._dtype and weight.is_floating_point():
            weight = weight.to(self._dtype)
        found = revert_weight_conversion(self._module, {name: weight})
        return [(written, value.contiguous()) for written, value in found.items()]

    def description(self) -> dict[str, Any]:
        """`metadata` as vLLM's engines are told of it."""
        entries = self.metadata()
        return {
            "names": [entry.name for entry in entries],
            "dtype_names": [str(entry.dtype).removeprefix("torch.") for entry in entries],
            "shapes": [list(entry.shape) for entry in entries],
        }


class _Listener:
    """Where vLLM's sender would call the engines itself; they are called in their turn, with what it would say."""

    def __init__(self) -> None:
        self.update: dict[str, Any] = {}

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None: ...

    def start_weight_update(self) -> None: ...

    def update_weights(self, update_info: Any) -> None:
        self.update = update_info

    def finish_weight_update(self, weight_version: str | None = None) -> None: ...
