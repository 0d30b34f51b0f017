"""The engine that a configuration names, in a Ray worker or without one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rewards.records import Completion, PromptError, SamplingRequest
from rl.config import Config
from rl.engines.engine import Engine, RenewableEngine
from rl.errors import ConfigError
from rl.files.importing import importing
from rl.files.named_checkpoint import policy_checkpoint
from rl.files.quiet import quiet_stderr


class SamplingError(RuntimeError):
    """The engine failed."""


class LocalEngine:
    """An `rl.engines.engine.Engine` as the configuration has it.

    Raises:
        SamplingError: It cannot be built.
    """

    def __init__(self, config: Config) -> None:
        try:
            with quiet_stderr():
                self._engine: Engine = build_engine(config, follows=False)
        except Exception as error:  # engines raise many kinds
            raise SamplingError(f"the engine cannot be built: {type(error).__name__}: {error}") from error

    @property
    def version(self) -> int:
        return self._engine.version

    def sample(self, requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        """See `rl.engines.engine.Engine.sample`.

        Raises:
            SamplingError: The engine failed.
            ConfigError: It does not take one of the prompts.
        """
        try:
            return self._engine.sample(requests)
        except PromptError as error:
            raise ConfigError(str(error)) from None
        except Exception as error:  # engines raise many kinds
            raise SamplingError(f"the engine failed: {type(error).__name__}: {error}") from error


def build_engine(config: Config, follows: bool = True) -> RenewableEngine:
    """An engine, in the process that calls this; ``follows`` says whether a learner will bring it new weights. One that
    follows nobody takes its share of what judges in its process have left of the GPU."""
    with importing():
        from rl.engines.hf_engine import HfEngine
        from rl.engines.vllm_engine import VllmEngine

    engine, checkpoint = config.engine, policy_checkpoint(config)
    route = config.weight_route if follows else "weights"
    threads = max(1, int(engine.num_cpus))
    if engine.kind == "hf":
        return HfEngine(
            checkpoint,
            temperature=engine.temperature,
            truncation=engine.truncation,
            system=config.task.system,
            max_completion_tokens=engine.max_completion_tokens,
            max_model_len=engine.max_model_len,
            images_per_prompt=engine.images_per_prompt,
            batch_size=engine.max_num_seqs,
            dtype=config.policy.dtype,
            threads=threads,
            trust_remote_code=config.policy.trust_remote_code,
        )
    return VllmEngine(
        checkpoint,
        temperature=engine.temperature,
        truncation=engine.truncation,
        system=config.task.system,
        max_completion_tokens=engine.max_completion_tokens,
        max_model_len=engine.max_model_len,
        images_per_prompt=engine.images_per_prompt,
        max_pixels=config.task.max_pixels,
        max_num_seqs=engine.max_num_seqs,
        dtype=config.policy.dtype,
        kv_cache_gib=engine.kv_cache_gib,
        gpu_memory_utilization=engine.gpu_memory_utilization * (1.0 if follows else free_share()),
        threads=threads,
        trust_remote_code=config.policy.trust_remote_code,
        tensor_parallel=engine.tensor_parallel,
        sleep=engine.sleep and follows,
        lora_rank=config.learner.lora_rank if route == "adapters" else 0,
        weight_transfer=route if route in ("nccl", "ipc") else None,
    )


def free_share() -> float:
    """How much of the GPU that this process computes on is free; 1 without one."""
    if not torch.cuda.is_available():
        return 1.0
    free, there = torch.cuda.mem_get_info()
    return free / there
