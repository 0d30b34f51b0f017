"""The routes of new weights from learner to engines: through Ray on a CPU, and what of vLLM's own can be seen there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from rewards.models.encoding import Encoder
from rewards.records import SamplingRequest
from rl.config import Config
from rl.engines.vllm_engine import VllmEngine
from rl.errors import WorkerError
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.learning.learner import PolicyLearner
from rl.learning.weight_sender import Backend, WeightSender, WholeWeights
from rl.parts import start_engines, start_learner
from rl.workers.engine_pool import EnginePool
from rl.workers.ray_cluster import join_ray, leave_ray
from rl.workers.weight_transfer import WeightTransfer, weights_for_engines
from rl.workers.worker import Worker
from tests.fixtures.learner_config import learner_config
from tests.fixtures.policy_families import (
    PROMPTS,
    TOKENS,
    TOLERANCE,
    largest_difference,
    some_experiences,
    without_placeholders,
)
from tests.fixtures.runs import PATIENCE, warm_ray
from tests.fixtures.stuck_resident import Stuck
from tests.fixtures.tiny_families import write_tiny_checkpoint


def changed(config: Config, **sections: dict[str, Any]) -> Config:
    """With some fields of some sections as given, whether or not this machine could have it so."""
    update = {name: getattr(config, name).model_copy(update=fields) for name, fields in sections.items()}
    return config.model_copy(update=update)


@pytest.mark.parametrize(
    ("engine", "rank", "route"),
    [
        ({}, 0, "weights"),
        ({}, 4, "adapters"),
        ({"sync_adapters": False}, 4, "weights"),
        ({"kind": "hf"}, 4, "weights"),
        ({"weight_transfer": "nccl"}, 0, "nccl"),
        ({"weight_transfer": "nccl"}, 4, "adapters"),
        ({"weight_transfer": "ipc"}, 0, "ipc"),
        ({"num_gpus": 1}, 4, "weights"),
    ],
)
def test_adapters_travel_alone_where_they_can(engine: dict[str, Any], rank: int, route: str) -> None:
    assert changed(Config(), engine=engine, learner={"lora_rank": rank}).weight_route == route
    in_bfloat16 = changed(Config(), engine=engine, learner={"lora_rank": rank}, policy={"dtype": "bfloat16"})
    assert in_bfloat16.weight_route == ("adapters" if engine.get("num_gpus") else route)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_vllms_kernels_for_adapters_refuse_float32(dtype: torch.dtype) -> None:
    """Which is why whole weights travel in it: at the first pass an engine would die."""
    from vllm.lora.ops.triton_ops import lora_shrink_op

    shrink = lora_shrink_op._lora_shrink
    inputs, weights = torch.zeros(4, 16, dtype=dtype), [torch.zeros(1, 1, 8, 16, dtype=dtype)]
    places = [torch.zeros(size, dtype=torch.int32) for size in (4, 4, 2, 3, 2, 1, 1)]
    with pytest.raises(Exception) as refused:  # there is no GPU for the kernel itself
        shrink(inputs, weights, torch.zeros(1, 4, 8), *places, 1.0)
    by_dtype = "inputs.dtype in" in str(refused.traceback[-1].statement)
    assert by_dtype == (dtype == torch.float32)


def test_adapters_in_float32_are_refused_on_a_gpu_that_no_key_reserves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ValueError, match=r"policy.dtype is float32: .* engine.sync_adapters false"):
        VllmEngine(str(SHIPPED_POLICY), lora_rank=4)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """With room for the workers of all tests: those that hang stay to its end."""
    with warm_ray():
        join_ray(num_cpus=12)
        yield
        leave_ray()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 4])
def test_an_engine_in_two_processes_follows_the_learner(rank: int, cluster: None, tmp_path: Path) -> None:
    """Half of every weight in each, whole weights or adapters from Ray's object store."""
    folder = write_tiny_checkpoint("qwen2_5_vl", tmp_path / "policy")
    encoder = Encoder(folder)
    config = changed(
        Config(),
        policy={"checkpoint": folder},
        engine={"tensor_parallel": 2, "num_cpus": 2, "images_per_prompt": 2, "max_completion_tokens": TOKENS},
        learner={"lora_rank": rank, "learning_rate": 1e-2},
    )
    engines, learner = start_engines(config), start_learner(config)
    transfer = WeightTransfer(config, learner, engines)
    requests = [SamplingRequest(prompt, n=4, seed=i) for i, prompt in enumerate(PROMPTS)]
    for version in (1, 2):
        rows = without_placeholders(encoder, PROMPTS, engines.sample(requests).result())
        assert {sample.policy_version for _, sample in rows} == {version - 1}
        said = learner.call("logprobs", [prompt for prompt, _ in rows], [sample.token_ids for _, sample in rows])
        assert largest_difference(rows, said) < TOLERANCE
        learner.call("step", some_experiences(rows))
        sent = transfer.send(version)
        after = engines.sample(requests)
        assert [answer.result() for answer in sent] == [version]
        rows = without_placeholders(encoder, PROMPTS, after.result())
        assert {sample.policy_version for _, sample in rows} == {version}, "asked for behind the new weights"
        said = learner.call("logprobs", [prompt for prompt, _ in rows], [sample.token_ids for _, sample in rows])
        assert largest_difference(rows, said) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("at", ["meeting", "update"])
def test_an_engine_that_fails_in_an_nccl_update_is_heard_wherever_others_wait_for_it(at: str, cluster: None) -> None:
    """The learner, which waits for it, would else be lost at its deadline, an hour later."""
    config = changed(Config(), engine={"weight_transfer": "nccl", "count": 2})
    learner, *others = (
        Worker(name, partial(Stuck, at, name == "engine 1"), 0.5, 0, PATIENCE)
        for name in ("learner", "engine 0", "engine 1")
    )
    engines = EnginePool(others)
    told = f"KeyError: '{at}'$"
    if at == "meeting":
        with pytest.raises(WorkerError, match=f"^engine 1.join_transfer: {told}"):
            WeightTransfer(config, learner, engines)
        return
    transfer = WeightTransfer(config, learner, engines)
    requests = [SamplingRequest(prompt) for prompt in PROMPTS[:2]]
    waits = [*transfer.send(1), learner.start("offer_weights", "nccl", 2), engines.sample(requests)]
    for answer in waits:
        with pytest.raises(WorkerError, match=f"^engine 1.receive_weights: {told}"):
            answer.result()


def test_what_vllm_is_told_of_the_weights_is_what_comes() -> None:
    from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferUpdateInfo

    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1, bias=False).bfloat16(), torch.nn.ReLU())
    module[2].tied = module[0].weight
    weights = WholeWeights(module)
    told = NCCLWeightTransferUpdateInfo(**weights.description())
    came = list(weights)
    assert told.names == [name for name, _ in came] == ["0.weight", "0.bias", "1.weight", "2.tied"]
    assert told.shapes == [list(tensor.shape) for _, tensor in came]
    assert told.dtype_names == ["float32", "float32", "bfloat16", "float32"]
    assert not weights.held
    cast = WholeWeights(module, dtype=torch.bfloat16)
    assert {str(tensor.dtype) for _, tensor in cast} == {"torch.bfloat16"}, "as the engines compute"
    assert set(cast.description()["dtype_names"]) == {"bfloat16"}
    held = WholeWeights(module, hold=True)
    assert [tensor.data_ptr() for _, tensor in held] == [tensor.data_ptr() for tensor in held.held]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["nccl", "ipc"])
def test_weights_travel_in_the_format_that_engines_compute_in(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What learns is float32, twice as much."""
    learner = PolicyLearner(str(SHIPPED_POLICY), Encoder(str(SHIPPED_POLICY)), learner_config("bfloat16"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    _, update = learner.offer_weights(backend, 1)
    assert set(update["dtype_names"]) == {"bfloat16"} and len(update["names"]) > 60


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one, it is hidden."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("backend", ["nccl", "ipc"])
def test_without_a_gpu_vllms_own_transfer_is_refused_by_both_sides(backend: Backend, no_gpu: None) -> None:
    with pytest.raises(ValueError, match=f"engine.weight_transfer is '{backend}': .*allowed is object_store"):
        WeightSender(torch.nn.Linear(1, 1), 0, backend, receivers=1)
    with pytest.raises(ValueError, match=f"engine.weight_transfer is '{backend}': .*allowed is object_store"):
        VllmEngine(str(SHIPPED_POLICY), weight_transfer=backend)


def test_without_a_gpu_there_is_no_sleep(no_gpu: None) -> None:
    with pytest.raises(ValueError, match=r"engine.sleep is true: .*allowed is false"):
        VllmEngine(str(SHIPPED_POLICY), sleep=True)


@pytest.mark.parametrize(
    ("kind", "rank", "wanted"),
    [("vllm", 0, "checkpoint_weights"), ("vllm", 4, "adapters"), ("hf", 0, "weights"), ("hf", 4, "weights")],
)
def test_each_engine_gets_the_names_that_it_knows(kind: str, rank: int, wanted: str) -> None:
    assert weights_for_engines(changed(Config(), engine={"kind": kind}, learner={"lora_rank": rank})) == wanted
