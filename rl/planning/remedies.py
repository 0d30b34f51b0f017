"""What to change where a run does not fit its GPUs: only what can help."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rl.config import Config
from rl.planning.memory_estimate import Memory

LARGER = "take a larger GPU"


def for_small_share(config: Config, needed: float, there: float, fits: bool, shared: bool) -> str:
    """For an engine whose share of its GPU is too small for it.

    Args:
        config: The run.
        needed: Bytes that the engine wants at least.
        there: Bytes of the GPU.
        fits: Whether so much is left beside the others on the GPU.
        shared: Whether there are any.
    """
    if needed > there:
        return _either(["raise engine.tensor_parallel", LARGER])
    share = f"{math.ceil(100 * needed / there) / 100:.2f} or more"
    if fits:
        return _either([f"raise it to {share}", *(["engine.tensor_parallel"] if not shared else [])])
    own = f"set engine.num_gpus to {config.engine.tensor_parallel} for a GPU of its own"
    return _either([f"{own} and engine.gpu_memory_utilization to {share}", LARGER])


def for_full_gpu(config: Config, worst: str, held: Mapping[str, Memory], there: float, can_shrink: bool) -> str:
    """For workers that together, or one alone, want more than the GPU has.

    Args:
        config: The run.
        worst: The role that wants most.
        held: What each holds.
        there: Bytes of the GPU.
        can_shrink: Whether an engine of the smallest size would fit.
    """
    alone = held[worst].total <= there
    if worst == "engine":
        smaller = (
            "lower engine.gpu_memory_utilization"
            if config.engine.kind == "vllm"
            else "lower engine.max_num_seqs or engine.max_model_len"
        )
        options = [smaller] if can_shrink or config.engine.kind == "hf" else []
        options += ["give the others GPUs of their own"] if alone else []
    else:
        memory = held[worst]
        by_weights = memory.weights + memory.gradients + memory.optimizer > memory.activations
        options = _for_weights(config, worst) if by_weights else _for_activations(config, worst)
        options += [f"set {worst}.num_gpus to 1 for a GPU of its own"] if alone else []
    return _either([*options, LARGER] if len(held) > 1 or not options else options)


def _for_weights(config: Config, role: str) -> list[str]:
    if role == "outcome_model":
        return ["set outcome_model.checkpoint to a smaller model"]
    adapters = config.learner.lora_rank if role == "learner" else config.mprm.lora_rank
    return [f"raise {role}.ranks with {role}.sharding fsdp2", *([] if adapters else [f"set {role}.lora_rank"])]


def _for_activations(config: Config, role: str) -> list[str]:
    length = config.engine.max_model_len
    if role == "learner":
        smaller = ["lower learner.micro_batch"] if config.learner.micro_batch > 1 else []
        fewer = [] if config.learner.gradient_checkpointing else ["set learner.gradient_checkpointing"]
        return [*smaller, *fewer, "lower engine.max_model_len"]
    # A pass takes a row at least, and the outcome model's a pair.
    tokens, rows = (
        (config.mprm.micro_batch_tokens, 1) if role == "mprm" else (config.outcome_model.micro_batch_tokens, 2)
    )
    smaller = [f"lower {role}.micro_batch_tokens"] if tokens >= (rows + 1) * length else []
    return [*smaller, "lower engine.max_model_len"]


def _either(options: Sequence[str]) -> str:
    *first, last = options
    return f"{', '.join(first)}, or {last}" if first else last
