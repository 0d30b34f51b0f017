"""What vLLM decides for an engine where there is an H100, seen on a machine without; a new version may do otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.fixtures import pretended_gpu
from tests.fixtures.runs import environment

pytestmark = pytest.mark.slow

ALWAYS = {
    "second model runner": True,
    "asynchronous scheduling": True,
    "executor": "UniProcExecutor",
    "graphs": "FULL_AND_PIECEWISE",
    "compiles": 3,
    "log-probabilities": "processed_logprobs",
    "prefix cache": True,
    "sleeps": False,
    "transfer": None,
    "adapters": None,
}
DECIDED = {
    "float32": {},
    "bfloat16": {},
    "nccl": {"transfer": "nccl"},
    "ipc and sleep": {"transfer": "ipc", "sleeps": True},
    "adapters": {"adapters": [64, "bfloat16"]},
    "two GPUs": {"transfer": "nccl", "executor": "MultiprocExecutor"},
}
"""What is otherwise than `ALWAYS`."""


@pytest.fixture(scope="module")
def decided() -> dict[str, Any]:
    """By case."""
    # Not with its imports behind it: vLLM has found out where it is by then.
    command = [sys.executable, pretended_gpu.__file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", DECIDED)
def test_an_engine_on_a_gpu_is_as_it_was_read_through(case: str, decided: dict[str, Any]) -> None:
    assert decided[case] == ALWAYS | DECIDED[case]
    assert DECIDED.keys() == pretended_gpu.CASES.keys()


def test_attention_in_float32_is_one_that_rounds_its_factors(decided: dict[str, Any]) -> None:
    """Triton's, with TF32: no agreement to 1e-3 with the learner is to be had there."""
    assert decided["attention in float32"] == ["TRITON_ATTN", "TritonAttentionBackend"]
    assert decided["attention in bfloat16"] == ["FLASH_ATTN", "FlashAttentionBackend"]
