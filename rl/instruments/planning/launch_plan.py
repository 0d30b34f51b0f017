"""Who runs where, what each GPU will hold, and whether it fits: what ``sieve train --dry-run`` shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from pathlib import Path

from rl.config import Config
from rl.config.memory_keys import LARGER, either, for_activations, for_engine, for_weights
from rl.errors import ConfigError
from rl.files.named_checkpoint import policy_checkpoint
from rl.instruments.planning.gpu_placement import Gpu, place
from rl.instruments.planning.memory_estimate import (
    GB,
    PROCESS_ON_CPU,
    Memory,
    cache_tokens,
    engine_memory,
    learner_memory,
    loaded_bytes,
    mprm_memory,
    outcome_model_memory,
)
from rl.instruments.planning.model_shape import ModelShape, find_shape
from rl.workers.ray_cluster import kinds_of_workers

REAL_PART = 0.05  # of what a worker holds: less is not worth another key


@dataclass(frozen=True)
class LaunchEstimate:
    """What each kind of worker holds: of one of its processes, on one GPU or in a CPU's memory.

    Attributes:
        memory: By role; roles of an unknown shape are not in it.
        unknown: Checkpoints whose shape is not known.
        gpu_bytes: Memory of a GPU.
        cache_tokens: Tokens that one engine's cache holds, where its shape is known.
        loading: By role, what each process holds in its machine's memory until its GPU has it, or its part of it.
    """

    memory: dict[str, Memory]
    unknown: tuple[str, ...]
    gpu_bytes: float
    cache_tokens: int | None
    loading: Mapping[str, float]


def estimate(config: Config, gpu_bytes: float) -> LaunchEstimate:
    """What each kind of worker will hold.

    Raises:
        ConfigError: A checkpoint's folder is not there, or the policy's attention heads do not divide by
            `engine.tensor_parallel`.
    """
    check_folders(config)
    names = checkpoints(config)
    shapes = {name: _shape(config, name) for name in (*names.values(), *config.mprm.beside)}
    memory: dict[str, Memory] = {}
    policy, tokens = shapes[names["policy"]], None
    critic = shapes[names["value"]] if "value" in names else policy
    if policy is not None:
        check_heads(config, policy)
        memory["engine"] = engine_memory(config, policy, gpu_bytes)
        tokens = cache_tokens(config, policy, memory["engine"])
        if critic is not None:
            memory["learner"] = learner_memory(config, policy, critic)
    beside = [shapes[folder] for folder in config.mprm.beside]
    if "mprm" in names and (mprm := shapes[names["mprm"]]) is not None and None not in beside:
        memory["mprm"] = mprm_memory(config, mprm, sum(shape.parameters for shape in beside if shape))
    if "outcome_model" in names and (outcome := shapes[names["outcome_model"]]) is not None:
        memory["outcome_model"] = outcome_model_memory(config, outcome)
    unknown = tuple(name for name, shape in shapes.items() if shape is None)
    return LaunchEstimate(memory, unknown, gpu_bytes, tokens, _loading(config, names, shapes))


def _loading(config: Config, names: Mapping[str, str], shapes: Mapping[str, ModelShape | None]) -> dict[str, float]:
    found = {}
    adapters = config.learner.lora_rank, config.mprm.lora_rank, 0
    for role, rank in zip(("learner", "mprm", "outcome_model"), adapters, strict=True):
        shape = shapes.get(names.get("policy" if role == "learner" else role, ""))
        if shape is not None:
            found[role] = loaded_bytes(config, shape, rank)
    return found


def check_fits(config: Config, estimated: LaunchEstimate, gpus: Sequence[Gpu]) -> None:
    """Whether everything fits its GPU.

    Raises:
        ConfigError: It does not; one line says who, where, how much, and which key to change.
    """
    for gpu in gpus:
        where, there, held = f"GPU {gpu.index} of node {gpu.node}", estimated.gpu_bytes, _held(gpu, estimated)
        smallest = dict(held)
        if "engine" in held:
            least = _least_cache(config, estimated)
            smallest["engine"] = replace(held["engine"], cache=least)
            if held["engine"].cache < least:
                fits = needed_on(config, smallest) <= there
                needed = replace(smallest["engine"], transfer=0.0).total
                budget = config.engine.gpu_memory_utilization * there
                raise ConfigError(
                    f"engine on {where} needs {needed / GB:.1f} GB for its weights and one sequence of "
                    f"engine.max_model_len, and engine.gpu_memory_utilization leaves it {budget / GB:.1f} of "
                    f"{there / GB:g} GB: {for_small_share(config, needed, there, fits, len(held) > 1)}"
                )
        needed = needed_on(config, held)
        if needed > there:
            worst = max(held, key=lambda role: held[role].total)
            others = [f"{role} {memory.total / GB:.1f}" for role, memory in held.items() if role != worst]
            beside = f" beside {' and '.join(others)}, in all {needed / GB:.1f} GB" if others else ""
            can_shrink = needed_on(config, smallest) <= there
            raise ConfigError(
                f"{worst} on {where} needs {held[worst].total / GB:.1f} GB{beside}, and {there / GB:g} GB are there: "
                f"{for_full_gpu(config, worst, held, there, can_shrink)}"
            )


def needed_on(config: Config, held: dict[str, Memory]) -> float:
    """Bytes that one GPU must have for those that share it. Of an engine that sleeps while the learner works, its
    process alone is there together with the learner's gradients and activations; awake, it takes new weights."""
    if not (config.engine.sleep and "engine" in held and "learner" in held):
        return sum(memory.total for memory in held.values())
    others = sum(memory.total for role, memory in held.items() if role not in ("engine", "learner"))
    engine, learner = held["engine"], held["learner"]
    return others + max(engine.total + learner.at_rest + learner.transfer, learner.total + engine.other)


def plan_lines(config: Config, gpu_gb: float, gpus_per_node: int = 8) -> Iterator[str]:
    """The placement and the estimate as text, checked.

    Raises:
        ConfigError: It cannot be placed, or does not fit.
    """
    gpus, estimated = place(config, gpus_per_node), estimate(config, gpu_gb * GB)
    check_fits(config, estimated, gpus)
    yield "placement:"
    for kind in kinds_of_workers(config):
        yield f"  {kind.role}: {kind.number} x ({kind.num_cpus:g} CPU, {kind.num_gpus:g} GPU)"
    if estimated.memory:
        yield from _memory_lines(config, estimated, gpus)
    if estimated.unknown:
        yield f"fit not checked: unknown shape of {', '.join(estimated.unknown)}"


def _memory_lines(config: Config, estimated: LaunchEstimate, gpus: Sequence[Gpu]) -> Iterator[str]:
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
    for node, there in groupby(gpus, key=lambda gpu: gpu.node):
        roles = [role for gpu in there for role, _ in gpu.workers if role in estimated.loading]
        if roles:
            total = sum(estimated.loading[role] for role in roles)
            models = f"{len(roles)} models are" if len(roles) > 1 else "a model is"
            yield f"  node {node}: {total / GB:.1f} GB of the machine's own memory while {models} loaded"
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


def _held(gpu: Gpu, estimated: LaunchEstimate) -> dict[str, Memory]:
    """What the workers on a GPU hold there, by role; several of one role together."""
    held: dict[str, Memory] = {}
    for role, _ in gpu.workers:
        if role in estimated.memory:
            held[role] = held.get(role, Memory()) + estimated.memory[role]
    return held


def _least_cache(config: Config, estimated: LaunchEstimate) -> float:
    """Bytes of cache for one sequence of full length: with less an engine does not start."""
    engine, tokens = estimated.memory["engine"], estimated.cache_tokens
    return engine.cache * config.engine.max_model_len / tokens if tokens else 0.0


def _shape(config: Config, checkpoint: str) -> ModelShape | None:
    return find_shape(checkpoint, config.policy.trust_remote_code)


def checkpoints(config: Config) -> dict[str, str]:
    """Of the policy, and of each model of its own, by the section that names it."""
    policy = policy_checkpoint(config)
    found = {"policy": policy}
    if config.places_mprm:
        found["mprm"] = config.mprm.checkpoint or policy
    if config.learner.algorithm == "ppo" and config.value.backbone == "own":
        found["value"] = config.value.checkpoint or policy
    if config.outcome_model.is_used:
        found["outcome_model"] = config.outcome_model.checkpoint or policy
    return found


def check_folders(config: Config) -> None:
    """Whether the checkpoints that can only be folders are there.

    Raises:
        ConfigError: One is not.
    """
    named = [(f"{section}.checkpoint", name) for section, name in checkpoints(config).items()]
    for key, name in [*named, *(("mprm.beside", name) for name in config.mprm.beside)]:
        is_path = name.startswith(("/", ".", "~")) or name.count("/") > 1
        if is_path and not Path(name).exists():
            why = " (~ is not expanded)" if name.startswith("~") else ""
            raise ConfigError(f"{key} is {name!r}: there is no such folder{why}; allowed is one, or a hub name")


def check_heads(config: Config, shape: ModelShape) -> None:
    """Whether an engine's GPUs can divide the policy's attention heads among them.

    Raises:
        ConfigError: They cannot.
    """
    heads, keys, gpus = shape.language.heads, shape.language.key_value_heads, config.engine.tensor_parallel
    allowed = [n for n in range(1, heads + 1) if heads % n == 0 and (keys % n == 0 or n % keys == 0)]
    if gpus not in allowed:
        raise ConfigError(
            f"engine.tensor_parallel is {gpus}: allowed is {', '.join(map(str, allowed[:-1]))} or {allowed[-1]}, by "
            f"the {heads} attention heads and {keys} key-value heads of {policy_checkpoint(config)}"
        )


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
        return either(["raise engine.tensor_parallel", LARGER])
    share = f"{math.ceil(100 * needed / there) / 100:.2f} or more"
    if fits:
        return either([f"raise it to {share}", *(["engine.tensor_parallel"] if not shared else [])])
    own = f"set engine.num_gpus to {config.engine.tensor_parallel} for a GPU of its own"
    return either([f"{own} and engine.gpu_memory_utilization to {share}", LARGER])


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
        options = for_engine(config) if can_shrink or config.engine.kind == "hf" else []
        options += ["give the others GPUs of their own"] if alone else []
    else:
        memory = held[worst]
        by_weights = memory.weights + memory.gradients + memory.optimizer > memory.activations
        if by_weights:
            options = for_weights(config, worst, saved_by_8_bits(config, worst, memory, there) / GB)
        else:
            options = for_activations(config, worst)
        if memory.transfer > memory.gradients + memory.activations and config.weight_route in ("nccl", "ipc"):
            options = ["set engine.weight_transfer to object_store", *options]
        if by_weights and needed_on(config, dict(held)) - there < memory.activations:
            options += for_activations(config, worst)
        options += [f"set {worst}.num_gpus to 1 for a GPU of its own"] if alone else []
    return either([*options, LARGER] if len(held) > 1 or not options else options)


def saved_by_8_bits(config: Config, role: str, memory: Memory, there: float) -> float:
    """Bytes that an optimizer of 8 bits would take less, of what the workers of a role hold on a GPU of ``there``; 0
    where that is no real part of it."""
    if role == "outcome_model":
        return 0.0
    section = getattr(config, role).model_copy(update={"optimizer": "adamw_8bit"})
    changed = config.model_copy(update={role: section})
    now, then = (estimate(each, there).memory[role].optimizer for each in (config, changed))
    saved = memory.optimizer * (1 - then / now)
    return saved if saved > REAL_PART * memory.total else 0.0
