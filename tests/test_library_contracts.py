"""What our code asks of the libraries below it is there, and takes what it is given.

Of what only GPUs run, nothing else would tell before one does. vLLM's Python is the same in its wheels for both.
"""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rl.engines.adapter_files import RANKS
from rl.engines.cpu_worker import TakesBackDraws
from rl.learning.trainer import PolicyTrainer
from rl.learning.weight_sender import WholeWeights, _Listener
from tests.fixtures.library_uses import Use, uses, wrong
from tests.fixtures.runs import ROOT

PACKAGES = ("accelerate", "peft", "ray", "torch", "transformers", "trl", "vllm")
ENGINE, SENDER = "rl/engines/vllm_engine.py", "rl/learning/weight_sender.py"
KINDS = {
    ENGINE: {
        "self._llm": "vllm.LLM",
        "self._llm.llm_engine": "vllm.v1.engine.llm_engine.LLMEngine",
        "self._llm.llm_engine.engine_core": "vllm.v1.engine.core_client.InprocClient",
        "self._adapters": "vllm.lora.request.LoRARequest",
        "output": "vllm.outputs.RequestOutput",
        "sample": "vllm.outputs.CompletionOutput",
        "entry[token]": "vllm.logprobs.Logprob",
    },
    SENDER: {
        "entry": "vllm.distributed.weight_transfer.ParamMeta",
        "self._engine": "vllm.distributed.weight_transfer.base.TrainerWeightTransferEngine",
    },
    "rl/learning/learner.py": {
        "self._accelerator": "accelerate.Accelerator",
        "self._trainer": "rl.learning.trainer.PolicyTrainer",
        "trainer": "rl.learning.trainer.PolicyTrainer",
    },
    "rl/learning/trainer.py": {
        "trainer": "rl.learning.trainer.PolicyTrainer",
        "trainer.accelerator": "accelerate.Accelerator",
        "trainer.args": "trl.GRPOConfig",
    },
    "rewards/process_model/mprm.py": {"self._accelerator": "accelerate.Accelerator"},
}
"""By file: expressions that are objects of a library's class."""
FILES = [file for folder in ("rl", "rewards", "selection") for file in sorted((ROOT / folder).rglob("*.py"))]
VARIABLE = re.compile(r"(RAY|VLLM)_[A-Z0-9_]+")


@pytest.fixture(scope="module")
def found() -> list[Use]:
    """Every use of a library."""
    return [use for file in FILES for use in uses(file, PACKAGES, KINDS.get(str(file.relative_to(ROOT))))]


@pytest.fixture(scope="module")
def further() -> dict[str, Any]:
    """What takes the fields of another class as further keywords."""
    from vllm.engine.arg_utils import EngineArgs

    return {"vllm.LLM": EngineArgs}


def test_everything_is_there_and_takes_what_it_is_given(found: list[Use], further: dict[str, Any]) -> None:
    assert [told for use in found if (told := wrong(use, further))] == []
    named = {use.name.split(".")[0] for use in found}
    assert named >= {*PACKAGES}, "of each something is used"
    for kinds in KINDS.values():
        for kind in kinds.values():
            assert any(use.name.startswith(f"{kind}.") for use in found), kind


SENTENCES = """
import torch
from vllm import LLM
from trl import trainer as there

class Engine:
    def __init__(self, torch_dtype):
        self._llm = LLM(model="m", no_such=1)
        self._llm.sleep(depth=1)
        self._llm.doze()
        torch.cuda.no_such_thing()
        torch.cuda.mem_get_info()
        there._nor_this = True

def other(torch):
    return torch.whatever
"""


def test_what_is_not_there_is_told_with_its_place(tmp_path: Path, further: dict[str, Any]) -> None:
    file = tmp_path / "some.py"
    file.write_text(SENTENCES)
    told = [wrong(use, further) for use in uses(file, PACKAGES, {"self._llm": "vllm.LLM"})]
    assert [sentence.removeprefix(f"{file}:") for sentence in told if sentence] == [
        "8: vllm.LLM takes no no_such",
        "9: vllm.LLM.sleep takes no depth",
        "10: there is no vllm.LLM.doze",
        "11: there is no torch.cuda.no_such_thing",
        "13: there is no trl.trainer._nor_this",
    ]


def asked_of_workers() -> Iterator[tuple[str, set[str]]]:
    """Methods of vLLM's workers that are named in words, and their keywords."""
    for node in ast.walk(ast.parse((ROOT / ENGINE).read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "collective_rpc":
            given = next((keyword.value for keyword in node.keywords if keyword.arg == "kwargs"), ast.Dict([], []))
            assert isinstance(given, ast.Dict) and isinstance(node.args[0], ast.Constant)
            yield node.args[0].value, {ast.literal_eval(key) for key in given.keys if key}


def test_workers_of_gpus_do_what_an_engine_asks_of_them_with_either_model_runner() -> None:
    """CPUs have the first one, and GPUs the second."""
    from vllm.v1.worker.gpu.model_runner import GPUModelRunner as Second
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner as First
    from vllm.v1.worker.gpu_worker import Worker

    asked = dict(asked_of_workers())
    assert asked.pop("take_back_draws") == set(), "of CPUs, by our own extension"
    assert asked == {"reload_weights": {"weights_iterator"}}
    for method, keywords in asked.items():
        assert callable(getattr(Worker, method)) and callable(getattr(Second, method))
        assert keywords <= inspect.signature(getattr(First, method)).parameters.keys()
    source = inspect.getsource(Worker)
    through = ("reload_weights", "reset_mm_cache", "reset_encoder_cache", "reset_lora_state", "add_lora", "remove_lora")
    for method in through:
        assert f"self.model_runner.{method}(" in source, method
        assert all(callable(getattr(runner, method)) for runner in (First, Second)), method
    updates = ("init_weight_transfer_engine", "start_weight_update", "update_weights", "finish_weight_update")
    assert all(callable(getattr(Worker, method)) for method in (*updates, "sleep", "wake_up"))


def test_what_a_worker_of_a_cpu_is_extended_by_stands_on_what_is_there() -> None:
    from vllm.v1.worker.gpu_input_batch import CachedRequestState, InputBatch
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner
    from vllm.v1.worker.worker_base import WorkerWrapperBase

    assert "worker_extension_cls" in inspect.getsource(WorkerWrapperBase) and callable(TakesBackDraws.take_back_draws)
    runner, bookkeeping = inspect.getsource(GPUModelRunner), inspect.getsource(GPUModelRunner._bookkeeping_sync)
    assert "self._bookkeeping_sync(\n" in runner, "by its name, and with positional arguments"
    assert "gen.set_offset(gen.get_offset() - 4)" in bookkeeping, "what generators of a CPU cannot"
    for name in ("self.discard_request_mask.np[:num_reqs]", "self.input_batch.generators.get("):
        assert name in bookkeeping
    assert "self.requests: dict[str, CachedRequestState]" in runner and "req_ids" in dir(InputBatch)
    assert "output_token_ids" in CachedRequestState.__dataclass_fields__


def test_handshake_and_update_are_what_both_sides_of_a_transfer_read() -> None:
    """Their keys are fields of these classes, from which vLLM makes objects."""
    from vllm.distributed.weight_transfer import ipc_engine, nccl_engine
    from vllm.distributed.weight_transfer.base import VLLMWeightSyncClient

    address = {"master_address": "127.0.0.1", "master_port": 1, "world_size": 3, "packed": True}
    assert nccl_engine.NCCLTrainerInitInfo(**address, rank=1).is_sender is False
    assert nccl_engine.NCCLWeightTransferInitInfo(**address, rank_offset=1).packed
    assert ipc_engine.IPCTrainerInitInfo(packed=False, rank=0).is_sender
    assert ipc_engine.IPCWeightTransferInitInfo(packed=False).packed is False
    assert isinstance(_Listener(), VLLMWeightSyncClient)
    for engine in (nccl_engine.NCCLTrainerWeightTransferEngine, ipc_engine.IPCTrainerWeightTransferEngine):
        asked = set(re.findall(r"\bsource\.(\w+)", inspect.getsource(engine)))
        assert asked <= {*dir(WholeWeights)}, "of a source of weights more is wanted than ours has"


def test_what_is_overridden_of_trls_trainer_is_still_called_by_it() -> None:
    """Else it would go unheard."""
    from trl import GRPOTrainer

    ours = {name for name, value in vars(PolicyTrainer).items() if inspect.isfunction(value)}
    own = {"learned_entropy", "logprobs_and_entropies"}
    source = inspect.getsource(GRPOTrainer)
    assert ours > own
    for name in ours - own:
        assert f"self.{name}(" in source, name
    for name in ("use_vllm", "beta", "top_entropy_quantile", "current_gradient_accumulation_steps", "accelerator"):
        assert f"self.{name}" in source, name


def test_adapters_have_ranks_that_vllm_has_kernels_for() -> None:
    from vllm.config import lora

    assert {*RANKS} == {*typing.get_args(lora.MaxLoRARanks)}


def variables() -> dict[str, str]:
    """Variables of the environment that are spoken of as such, with the place."""
    spoken = {}
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and VARIABLE.fullmatch(node.value):
                spoken[node.value] = f"{file}:{node.lineno}"
    return spoken


def test_variables_of_the_environment_are_read_by_those_they_are_meant_for() -> None:
    import ray
    import vllm.envs

    place = Path(ray.__file__).parent
    written = [*(place / "_private").rglob("*.py"), *(place / "_common").rglob("*.py"), place / "_raylet.so"]
    read = b"".join(file.read_bytes() for file in written)
    spoken = variables()
    assert len(spoken) > 8
    for name, where in spoken.items():
        known = name in vllm.envs.environment_variables if name.startswith("VLLM_") else name.encode() in read
        assert known, f"{where}: nobody reads {name}"
