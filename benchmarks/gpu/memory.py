"""Memory: what sleeps and what `--dry-run` says, beside what is there."""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.learner import TINY, make_checkpoint, make_experiences
from rewards.models.encoding import Encoder
from rl.config import load_config
from rl.instruments.planning.memory_estimate import learner_memory
from rl.instruments.planning.model_shape import KNOWN_SHAPES, ModelShape
from rl.learning.learner import PolicyLearner

ROOT = Path(__file__).parents[2]
GB = 10**9
SLEEPING = 2**30


def sleep(device: str) -> dict[str, float]:
    """What vLLM's sleep is made of: weights go to the host and come back, the cache is given up, and a second process
    can have the memory meanwhile."""
    if device == "cpu":
        from tests.fixtures.library_uses import value_of

        wanted = ("get_instance", "sleep", "wake_up", "use_memory_pool")
        return {
            "names": float(sum(callable(value_of(f"vllm.device_allocator.cumem.CuMemAllocator.{n}")) for n in wanted))
        }
    from vllm.device_allocator.cumem import CuMemAllocator

    allocator = CuMemAllocator.get_instance()
    with allocator.use_memory_pool("weights"):
        weights = torch.arange(SLEEPING // 4, dtype=torch.int32, device=device)
    with allocator.use_memory_pool("kv_cache"):
        cache = torch.zeros(2 * SLEEPING, dtype=torch.uint8, device=device)
    free = torch.cuda.mem_get_info()[0]
    allocator.sleep(offload_tags=("weights",))
    given_back = torch.cuda.mem_get_info()[0] - free
    context = multiprocessing.get_context("spawn")
    other = context.Process(target=_take, args=(2 * SLEEPING,))
    other.start()
    other.join(60)
    allocator.wake_up()
    cache.fill_(1)
    changed = int((weights != torch.arange(SLEEPING // 4, dtype=torch.int32, device=device)).sum())
    return {
        "difference of weights": float(changed),
        "not given back, GB": (3 * SLEEPING - given_back) / GB,
        "the other's exit code": float(-1 if other.exitcode is None else other.exitcode),
    }


def _take(size: int) -> None:
    torch.zeros(size, dtype=torch.uint8, device="cuda").fill_(1)
    torch.cuda.synchronize()


def learner(device: str) -> dict[str, float]:
    """The learner of the file for one GPU, on Qwen2.5-VL-3B with random weights and its longest rows; on a CPU the
    shipped policy."""
    config = load_config(ROOT / "configs" / "qwen2_5_vl_3b_1gpu.yaml", ["deadline=600"])
    shape = KNOWN_SHAPES["Qwen/Qwen2.5-VL-3B-Instruct"]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = make_checkpoint(shape, Path(folder)) if device == "cuda" else str(TINY)
        return _measured(config, checkpoint, shape, device)


def _measured(config: Any, checkpoint: str, shape: ModelShape, device: str) -> dict[str, float]:
    length = config.engine.max_model_len if device == "cuda" else 160
    answer = config.engine.max_completion_tokens if device == "cuda" else 32
    side = int((length - answer - 64) ** 0.5) * 28
    encoder = Encoder(str(TINY))
    encoder.processor.image_processor.size = {"shortest_edge": 28**2, "longest_edge": side**2}
    made = PolicyLearner(checkpoint, encoder, config)
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    sizes = argparse.Namespace(prompts=2, samples=2, question=16, image=side, answer=answer)
    metrics = made.step(make_experiences(encoder, sizes, 0))
    found = {"loss": metrics["loss"], "tokens": metrics["tokens"]}
    if device == "cuda":
        planned = learner_memory(config, shape)
        taken = torch.cuda.max_memory_allocated()
        found |= {"planned, GB": (planned.total - planned.other) / GB, "taken, GB": taken / GB}
        found |= {"over the plan": taken / (planned.total - planned.other) - 1}
        free, total = torch.cuda.mem_get_info()
        found["all of the process, GB"] = (total - free) / GB
    return found
