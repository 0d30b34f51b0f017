"""What new weights take on their way, against what is sent, and by numbers of Qwen2.5-VL-7B: its largest tensor, the
table of words, has 152,064 x 3,584 numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from rewards.models.backbone import load_model
from rl.errors import ConfigError
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.instruments.planning import transfer_memory
from rl.instruments.planning.launch_plan import for_full_gpu, plan_lines
from rl.instruments.planning.memory_estimate import GB, Memory
from rl.instruments.planning.model_shape import KNOWN_SHAPES, shape_of
from rl.instruments.planning.transfer_memory import receiving_bytes, sending_bytes
from rl.learning.weight_sender import WholeWeights
from tests.rl.instruments.test_memory_estimate import a_config

SEVEN = KNOWN_SHAPES["Qwen/Qwen2.5-VL-7B-Instruct"]
TABLE = 152_064 * 3_584
NCCL = {"weight_transfer": "nccl"}
IPC = {"weight_transfer": "ipc", "num_gpus": 0.5}
PARTS = {"ranks": 4, "sharding": "fsdp2"}
FLOAT32 = {"policy": {"checkpoint": "Qwen/Qwen2.5-VL-7B-Instruct", "dtype": "float32"}}


@pytest.mark.parametrize(
    ("sections", "sent", "received"),
    [
        ({}, 2 * TABLE, 2 * TABLE),
        ({"learner": PARTS}, (4 + 2) * TABLE, 2 * TABLE),
        (FLOAT32, 0, 4 * TABLE),
        ({"engine": NCCL, "learner": PARTS}, 4 * TABLE + 3 * (2**30 + 2 * TABLE), 2 * (2**30 + 2 * TABLE) + 2 * TABLE),
        ({"engine": NCCL} | FLOAT32, 2 * (2**30 + 4 * TABLE), 2 * (2**30 + 4 * TABLE) + 4 * TABLE),
        (
            {"engine": NCCL | {"num_gpus": 2, "tensor_parallel": 2}},
            3 * (2**30 + 2 * TABLE),
            2 * (2**30 + 2 * TABLE) + TABLE,
        ),
        ({"engine": IPC, "learner": {"num_gpus": 0.5}}, 2 * SEVEN.parameters, 2 * TABLE),
        ({"engine": IPC, "learner": {"num_gpus": 0.5}} | FLOAT32, 0, 4 * TABLE),
        ({"learner": {"lora_rank": 64}}, 0, 0),
    ],
)
def test_each_way_takes_what_it_holds_at_once(sections: dict[str, Any], sent: float, received: float) -> None:
    config = a_config(**sections)
    assert sending_bytes(config, SEVEN) == sent and receiving_bytes(config, SEVEN) == received


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_what_is_handed_over_is_held_as_counted(dtype: str) -> None:
    model = load_model(str(SHIPPED_POLICY))
    handed = WholeWeights(model, hold=True, dtype=getattr(torch, dtype))
    own = {weight.data_ptr() for weight in model.parameters()}
    copied = sum(weight.nbytes for _, weight in handed if weight.data_ptr() not in own)
    config = a_config(engine=IPC, learner={"num_gpus": 0.5}, policy={"dtype": dtype})
    assert copied == pytest.approx(sending_bytes(config, shape_of(model.config)), rel=0.1), "a tied one is held twice"


def test_chunks_are_vllms(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.distributed.weight_transfer import packed_tensor

    assert packed_tensor.DEFAULT_PACKED_BUFFER_SIZE_BYTES == transfer_memory.CHUNK
    assert packed_tensor.DEFAULT_PACKED_NUM_BUFFERS == 2
    model, small = load_model(str(SHIPPED_POLICY)), 300_000
    monkeypatch.setattr(transfer_memory, "CHUNK", small)
    weights, largest = iter(WholeWeights(model, dtype=torch.bfloat16)), 0
    while chunk := packed_tensor.pack_tensors(weights, lambda item: item[1], small):
        largest = max(largest, chunk.packed_tensor.nbytes)
    # Three times at once: as they are, in one, and the chunk before.
    counted = sending_bytes(a_config(engine=NCCL), shape_of(model.config)) / 3
    assert small < largest <= counted < 2 * largest


def test_engines_need_room_for_what_they_receive_beside_their_share() -> None:
    engine = NCCL | {"gpu_memory_utilization": 0.97}
    keys = {"learner": PARTS, "engine": engine}
    refused = r"^engine on GPU 4 of node 0 needs 8\d\.\d GB, and 80 GB are there: lower engine.gpu_memory_utilization$"
    with pytest.raises(ConfigError, match=refused):
        list(plan_lines(a_config(**keys), 80))
    for fits in ({"gpu_memory_utilization": 0.93}, {"weight_transfer": "object_store"}):
        assert list(plan_lines(a_config(**keys | {"engine": engine | fits}), 80))


def test_the_plan_shows_what_is_handed_over_on_one_gpu_and_counts_it_where_it_is_the_most() -> None:
    learner = {"num_gpus": 0.5, "freeze_vision": True, "optimizer": "adamw_8bit"}
    keys = {"learner": learner, "engine": IPC | {"gpu_memory_utilization": 0.3}}
    (row,) = [line.split() for line in plan_lines(a_config(**keys), 192) if "GPU 0: learner " in line]
    assert float(row[-3]) == pytest.approx(2 * SEVEN.parameters / GB, abs=0.1)
    one = Memory(weights=10 * GB, gradients=2 * GB, optimizer=5 * GB, activations=4 * GB, other=GB)
    assert one.total == replace(one, transfer=6 * GB).total == 22 * GB
    assert replace(one, transfer=7 * GB).total == 23 * GB


def test_of_a_copy_that_does_not_fit_the_way_is_named_that_makes_none() -> None:
    held = {"learner": Memory(weights=60 * GB, gradients=GB, transfer=30 * GB), "engine": Memory(weights=10 * GB)}
    config = a_config(engine=IPC, learner={"num_gpus": 0.5})
    said = for_full_gpu(config, "learner", held, 80 * GB, can_shrink=True)
    assert said.startswith("set engine.weight_transfer to object_store, raise learner.ranks")
    assert "object_store" not in for_full_gpu(a_config(), "learner", held, 80 * GB, can_shrink=True)
