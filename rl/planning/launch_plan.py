"""Who runs where, what each GPU will hold, and whether it fits: what ``sieve train --dry-run`` shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby

from rl.config import Config, ConfigError
from rl.experiment import policy_checkpoint
from rl.planning.gpu_placement import Gpu, kinds_of_workers, place
from rl.planning.memory_estimate import (
    GB,
    PROCESS_ON_CPU,
    Memory,
    cache_tokens,
    engine_memory,
    learner_memory,
    mprm_memory,
    outcome_model_memory,
)
from rl.planning.model_shape import ModelShape, find_shape

REMEDIES = {
    "weights": {
        "learner": "raise learner.ranks with learner.sharding fsdp2, or set learner.lora_rank",
        "mprm": "raise mprm.ranks with mprm.sharding fsdp2, or set mprm.lora_rank",
        "outcome_model": "set outcome_model.checkpoint to a smaller model",
    },
    "activations": {
        "learner": "lower learner.micro_batch, set learner.gradient_checkpointing, or lower engine.max_model_len",
        "mprm": "lower mprm.micro_batch_tokens or engine.max_model_len",
        "outcome_model": "lower outcome_model.micro_batch_tokens or engine.max_model_len",
    },
}


@dataclass(frozen=True)
class Estimate:
    """What each kind of worker holds: of one of its processes, on one GPU or in a CPU's memory.

    Attributes:
        memory: By role; roles of an unknown shape are not in it.
        unknown: Checkpoints whose shape is not known.
        gpu_bytes: Memory of a GPU.
        cache_tokens: Tokens that one engine's cache holds, where its shape is known.
    """

    memory: dict[str, Memory]
    unknown: tuple[str, ...]
    gpu_bytes: float
    cache_tokens: int | None


def estimate(config: Config, gpu_bytes: float) -> Estimate:
    """What each kind of worker will hold."""
    shapes = {role: (name, _shape(config, name)) for role, name in _checkpoints(config).items()}
    memory: dict[str, Memory] = {}
    policy = shapes["policy"][1]
    if policy is not None:
        critic = shapes.get("value", (None, None))[1]
        memory["learner"] = learner_memory(config, policy, critic)
        memory["engine"] = engine_memory(config, policy, gpu_bytes)
    if (mprm := shapes["mprm"][1]) is not None:
        beside = [_shape(config, folder) for folder in config.mprm.beside]
        memory["mprm"] = mprm_memory(config, mprm, sum(shape.parameters for shape in beside if shape))
    if "outcome_model" in shapes and (outcome := shapes["outcome_model"][1]) is not None:
        memory["outcome_model"] = outcome_model_memory(config, outcome)
    tokens = cache_tokens(config, policy, memory["engine"]) if policy else None
    unknown = dict.fromkeys(name for name, shape in shapes.values() if shape is None)
    return Estimate(memory, tuple(unknown), gpu_bytes, tokens)


def check_fits(config: Config, estimated: Estimate, gpus: Sequence[Gpu]) -> None:
    """Whether everything fits its GPU.

    Raises:
        ConfigError: It does not; one line says who, where, how much, and which key to change.
    """
    for gpu in gpus:
        where, there = f"GPU {gpu.index} of node {gpu.node}", estimated.gpu_bytes
        held = _held(gpu, estimated)
        if "engine" in held and held["engine"].cache < (least := _least_cache(config, estimated)):
            engine = held["engine"]
            needed = engine.total - engine.cache + least
            budget = config.engine.gpu_memory_utilization * there
            raise ConfigError(
                f"engine on {where} needs {needed / GB:.1f} GB for its weights and one sequence of "
                f"engine.max_model_len, and engine.gpu_memory_utilization leaves it {budget / GB:.1f} of "
                f"{there / GB:g} GB: raise it, or engine.tensor_parallel"
            )
        needed = needed_on(config, held)
        if needed > there:
            worst = max(held, key=lambda role: held[role].total)
            others = [f"{role} {memory.total / GB:.1f}" for role, memory in held.items() if role != worst]
            beside = f" beside {' and '.join(others)}, in all {needed / GB:.1f} GB" if others else ""
            raise ConfigError(
                f"{worst} on {where} needs {held[worst].total / GB:.1f} GB{beside}, and {there / GB:g} GB are there: "
                f"{_remedy(worst, held[worst])}"
            )


def needed_on(config: Config, held: dict[str, Memory]) -> float:
    """Bytes that one GPU must have for those that share it. An engine that sleeps while the learner works is never
    there together with the learner's gradients and activations."""
    if not (config.engine.sleep and "engine" in held and "learner" in held):
        return sum(memory.total for memory in held.values())
    others = sum(memory.total for role, memory in held.items() if role not in ("engine", "learner"))
    return others + max(held["engine"].total + held["learner"].at_rest, held["learner"].total)


def plan_lines(config: Config, gpu_gb: float, gpus_per_node: int = 8) -> Iterator[str]:
    """The placement and the estimate as text, checked.

    Raises:
        ConfigError: It cannot be placed, or does not fit.
    """
    gpus, estimated = place(config, gpus_per_node), estimate(config, gpu_gb * GB)
    yield "placement:"
    for kind in kinds_of_workers(config):
        yield f"  {kind.role}: {kind.number} x ({kind.num_cpus:g} CPU, {kind.num_gpus:g} GPU)"
    yield from _memory_lines(config, estimated, gpus)
    check_fits(config, estimated, gpus)


def _memory_lines(config: Config, estimated: Estimate, gpus: Sequence[Gpu]) -> Iterator[str]:
    for name in estimated.unknown:
        yield f"memory: unknown shape of {name}: its workers are not in the estimate"
    if not estimated.memory:
        return
    parts = [field.name for field in fields(Memory)]
    yield ""
    yield f"{'memory, GB, at most':<34}" + "".join(f"{part:>12}" for part in (*parts, "total"))
    for label, alike in _alike(gpus):
        held = _held(alike[0], estimated)
        for role, memory in held.items():
            yield _row(f"  {label}: {role}", memory, parts)
        if held:
            needed = needed_on(config, held)
            yield f"  {label}: {needed / GB:.1f} of {estimated.gpu_bytes / GB:g} GB"
    on_cpu = [kind for kind in kinds_of_workers(config) if not kind.num_gpus and kind.role in estimated.memory]
    for kind in on_cpu:
        times = f" x {kind.number}" if kind.number > 1 else ""
        yield _row(f"  CPU: {kind.role}{times}", estimated.memory[kind.role], parts)
    if on_cpu:
        total = sum(kind.number * estimated.memory[kind.role].total for kind in on_cpu) + PROCESS_ON_CPU
        yield f"  CPU: {total / GB:.1f} GB with the controller"
    if estimated.cache_tokens is not None:
        sequences = estimated.cache_tokens / config.engine.max_model_len
        yield (
            f"cache of one engine: {max(0, estimated.cache_tokens):,} tokens, or {max(0.0, sequences):,.1f} sequences "
            f"of engine.max_model_len, {config.engine.max_model_len:,}; engine.max_num_seqs is "
            f"{config.engine.max_num_seqs:,}"
        )


def _row(label: str, memory: Memory, parts: Sequence[str]) -> str:
    values = [*(getattr(memory, part) for part in parts), memory.total]
    return f"{label:<34}" + "".join(f"{value / GB:12.1f}" for value in values)


def _alike(gpus: Sequence[Gpu]) -> Iterator[tuple[str, list[Gpu]]]:
    """Neighbours that hold the same kinds of workers, and a name for them."""
    for _, group in groupby(gpus, key=lambda gpu: (gpu.node, [role for role, _ in gpu.workers])):
        alike = list(group)
        first, last = alike[0], alike[-1]
        numbers = f"GPU {first.index}" if first is last else f"GPUs {first.index} to {last.index}"
        yield f"node {first.node}, {numbers}", alike


def _held(gpu: Gpu, estimated: Estimate) -> dict[str, Memory]:
    """What the workers on a GPU hold there, by role; several of one role together."""
    held: dict[str, Memory] = {}
    for role, _ in gpu.workers:
        if role in estimated.memory:
            held[role] = held.get(role, Memory()) + estimated.memory[role]
    return held


def _least_cache(config: Config, estimated: Estimate) -> float:
    """Bytes of cache for one sequence of full length: with less an engine does not start."""
    engine, tokens = estimated.memory["engine"], estimated.cache_tokens
    return engine.cache * config.engine.max_model_len / tokens if tokens and tokens > 0 else 0.0


def _remedy(role: str, memory: Memory) -> str:
    if role == "engine":
        return "lower engine.gpu_memory_utilization, or give the others GPUs of their own"
    held = memory.weights + memory.gradients + memory.optimizer
    return REMEDIES["weights" if held > memory.activations else "activations"][role]


def _checkpoints(config: Config) -> dict[str, str]:
    policy = policy_checkpoint(config)
    checkpoints = {"policy": policy, "mprm": config.mprm.checkpoint or policy}
    if config.learner.algorithm == "ppo" and config.value.backbone == "own":
        checkpoints["value"] = config.value.checkpoint or policy
    if config.outcome_model.is_used:
        checkpoints["outcome_model"] = config.outcome_model.checkpoint or policy
    return checkpoints


def _shape(config: Config, checkpoint: str) -> ModelShape | None:
    return find_shape(checkpoint, config.policy.trust_remote_code)
