"""Which keys to change where a worker has not enough memory; none that says nothing in the configuration at hand."""

from __future__ import annotations

from collections.abc import Sequence

from rl.config.sections import Sections

LARGER = "take a larger GPU"


def for_weights(config: Sections, role: str, saved_gb: float | None = None) -> list[str]:
    """Of a model that learns, for what its weights, gradients and optimizer take; ``saved_gb`` is what an optimizer of
    8 bits would take less, 0 for too little to name it, and None where nobody has counted."""
    if role == "outcome_model":
        return ["set outcome_model.checkpoint to a smaller model"]
    section = config.learner if role == "learner" else config.mprm
    keys = [f"raise {role}.ranks with {role}.sharding fsdp2"]
    counts = not section.lora_rank if saved_gb is None else saved_gb > 0
    if counts and section.optimizer == "adamw" and section.sharding != "deepspeed":
        keys.append(f"set {role}.optimizer to adamw_8bit" + (f" for {saved_gb:.1f} GB less" if saved_gb else ""))
    return [*keys, *([] if section.lora_rank else [f"set {role}.lora_rank"])]


def for_activations(config: Sections, role: str) -> list[str]:
    """Of a model that learns, for what a pass takes."""
    length = config.engine.max_model_len
    if role == "learner":
        tokens = config.learner.micro_batch_tokens
        more = tokens >= 2 * length if tokens else config.learner.micro_batch > 1
        smaller = [f"lower learner.micro_batch{'_tokens' if tokens else ''}"] if more else []
        steps = ("gradient_checkpointing", "activation_offload")  # the second one wants the first
        fewer = [f"set learner.{key}" for key in steps if not getattr(config.learner, key)][:1]
        return [*smaller, *fewer, "lower engine.max_model_len"]
    # A pass takes a row at least, and the outcome model's a pair.
    tokens, rows = (
        (config.mprm.micro_batch_tokens, 1) if role == "mprm" else (config.outcome_model.micro_batch_tokens, 2)
    )
    smaller = [f"lower {role}.micro_batch_tokens"] if tokens >= (rows + 1) * length else []
    return [*smaller, "lower engine.max_model_len"]


def for_engine(config: Sections) -> list[str]:
    """Of an engine, for what its cache takes."""
    if config.engine.kind == "hf":
        return ["lower engine.max_num_seqs", "lower engine.max_model_len"]
    return [
        "lower engine.gpu_memory_utilization",
        *([] if config.engine.num_gpus else ["on a CPU engine.kv_cache_gib"]),
    ]


def for_worker(config: Sections, name: str) -> str:
    """Of a worker that ran out of memory, by its name: what to change, in words."""
    role = "engine" if name.startswith("engine") else name.replace(" ", "_")
    if role == "engine":
        return either(for_engine(config))
    return either([*for_activations(config, role), *for_weights(config, role)])


def either(options: Sequence[str]) -> str:
    """Several things to do, of which one will do.

    >>> either(["lower a", "lower b", "set c"])
    'lower a, lower b, or set c'
    """
    *first, last = options
    return f"{', '.join(first)}, or {last}" if first else last
