"""What vLLM is told on a machine with GPUs, seen on one without: all up to vLLM itself."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from rl.config import Config
from rl.engines.making import build_engine
from rl.engines.vllm_engine import VllmEngine

GB = 10**9


class ToldError(Exception):
    """In the place of an engine: its arguments."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(arguments)
        self.arguments = arguments


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 80 GB, of which another model has taken a quarter."""

    def tell(**arguments: Any) -> None:
        raise ToldError(**arguments)

    monkeypatch.setattr("vllm.LLM", tell)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (60 * GB, 80 * GB))


def told(follows: bool, max_pixels: int | None = None, **engine: Any) -> dict[str, Any]:
    """The arguments of `vllm.LLM`."""
    with pytest.raises(ToldError) as stopped:
        build_engine(Config.model_validate({"engine": engine, "task": {"max_pixels": max_pixels}}), follows)
    return stopped.value.arguments


def test_an_engine_beside_a_judge_takes_its_share_of_what_is_left(gpu: None) -> None:
    """vLLM would refuse 0.9 of a GPU of which a quarter is taken."""
    assert told(follows=False, gpu_memory_utilization=0.9)["gpu_memory_utilization"] == pytest.approx(0.9 * 0.75)
    assert told(follows=True, gpu_memory_utilization=0.9)["gpu_memory_utilization"] == 0.9, "as planned, in a run"


def test_processes_of_an_engine_are_no_forks_of_one_that_has_asked_for_gpus(
    gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.utils.system_utils import get_mp_context

    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "fork")  # vLLM's own choice
    assert told(follows=False, tensor_parallel=2)["tensor_parallel_size"] == 2
    assert get_mp_context().get_start_method() == "spawn"


def test_a_vllm_for_gpus_is_refused_where_none_is_to_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without any, or in a worker from which they are hidden: it would die without saying why."""
    from vllm import platforms

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(platforms, "_current_platform", platforms.interface.UnspecifiedPlatform())
    with pytest.raises(ValueError, match=r"^engine.kind is 'vllm': .* sees none; allowed is engine.num_gpus above 0"):
        build_engine(Config())


@pytest.mark.parametrize(("rank", "level"), [(0, 2), (8, 1)])
def test_an_engine_that_sleeps_drops_what_will_be_sent_anyway(
    rank: int, level: int, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where adapters travel alone, nobody sends what they adapt."""
    llm = MagicMock()
    monkeypatch.setattr("vllm.LLM", llm)
    sections = {"policy": {"dtype": "bfloat16"}, "mprm": {"lora_rank": 8}, "max_staleness": 0}
    engine = {"engine": {"sleep": True, "num_gpus": 0.5}, "learner": {"num_gpus": 0.5, "lora_rank": rank}}
    build_engine(Config.model_validate(sections | engine)).sleep()
    llm.return_value.sleep.assert_called_once_with(level=level)


@pytest.mark.parametrize("is_reset", [True, False])
def test_an_engine_that_keeps_old_keys_does_not_go_on_with_new_weights(is_reset: bool) -> None:
    """With asynchronous scheduling, which GPUs have, a batch may still be under way."""
    engine = object.__new__(VllmEngine)
    engine._llm, engine._adapters, engine.version = MagicMock(), None, 0
    engine._llm.reset_prefix_cache.return_value = is_reset
    if is_reset:
        assert engine.load_weights({}, 1) == engine.version == 1
        return
    with pytest.raises(RuntimeError, match="keys of the old weights"):
        engine.load_weights({}, 1)
    assert engine.version == 0


def test_vllm_makes_room_for_the_pictures_that_can_come_and_no_larger_ones(gpu: None) -> None:
    """Of Qwen2.5-VL it would look at one of 16,384 tokens, which takes gigabytes of its cache."""
    from vllm.config.multimodal import MultiModalConfig

    limits = told(follows=True, images_per_prompt=2, max_pixels=1_000_000)["limit_mm_per_prompt"]
    understood = MultiModalConfig(limit_per_prompt=limits)
    assert understood.get_limit_per_prompt("image") == 2
    shown = understood.limit_per_prompt["image"]
    assert (shown.width, shown.height) == (1000, 1000)
    assert told(follows=True)["limit_mm_per_prompt"] == {"image": 1}
