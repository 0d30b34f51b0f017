"""Single parts of an experiment, made from its configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rewards.annotation.budgets import Budget, make_budget
from rewards.encoding import Encoder
from rewards.seeds import derive_seed
from rewards.steps import Markers
from rewards.verification.checked import CheckedVerifier
from rewards.verification.verifiers import VERIFIERS, Verifier, numeric
from rl.config import Config
from rl.config.users_parts import make_part, resolve, resolve_made
from rl.engines.engine import RenewableEngine
from rl.errors import ConfigError
from rl.learning.settings import LearnerSettings
from rl.named_checkpoint import refuse_absent, refuse_damaged
from rl.tasks.checked import checked_task
from rl.tasks.task import Task
from selection.buffer import BufferSettings, StreamingBuffer
from selection.prediction import predicted_balanced_information
from selection.selectors import SELECTORS, Selector, SelectorSettings, make_selector

if TYPE_CHECKING:
    from rl.learning.critic import CriticSettings
    from rl.learning.learner import PolicyLearner

SHIPPED_POLICY = Path(__file__).parent / "policy" / "grid_policy"


def policy_checkpoint(config: Config) -> str:
    """Where the policy starts from: the shipped one by its name, any other as it is given."""
    return str(SHIPPED_POLICY) if config.policy.checkpoint == "grid_policy" else config.policy.checkpoint


def make_task(config: Config) -> Task:
    """The task that the configuration names; one of the user's own raises nothing but `TaskError` and `PromptError`.

    Raises:
        ConfigError: There is no such task, its files are not as they should be, or one of the user's cannot be made.
    """
    builtin = {"grid": _grid_task, "files": _file_task}
    name = config.task.name
    make = resolve("task.name", name, builtin)
    if name not in builtin:
        make = partial(_own_task, make)
    return make_part("task.name", name, partial(make, config))


def _grid_task(config: Config) -> Task:
    from rl.tasks.grid import GridTask

    return GridTask(config.task.difficulty, config.task.seed)


def _file_task(config: Config) -> Task:
    from rl.tasks.files import FileTask

    task = config.task
    try:
        return FileTask(task.train_files, task.heldout_files, task.columns, task.instruction, task.image_root)
    except ValueError as error:  # it names the file
        raise ConfigError(str(error)) from None


def _own_task(make: Callable[[Config], Task], config: Config) -> Task:
    name, task = config.task.name, make(config)
    if not hasattr(task, "prompt") or not hasattr(task, "sources"):
        raise ConfigError(f"task.name: {name!r} makes a {type(task).__name__}; allowed is what rl.tasks.task describes")
    return checked_task(f"task.name {name}", task)


def make_verifier(config: Config) -> Verifier:
    """The verifier that the configuration names; one of the user's own raises nothing but `VerifierError`.

    Raises:
        ConfigError: There is none of that name.
    """
    task = config.task
    tolerant = partial(numeric, tolerance=task.tolerance, absolute_tolerance=task.absolute_tolerance)
    builtin = VERIFIERS | {"numeric": tolerant}
    verifier = resolve("task.verifier", task.verifier, builtin)
    return verifier if task.verifier in builtin else CheckedVerifier(f"task.verifier {task.verifier}", verifier)


def make_encoder(config: Config, checkpoint: str | None = None, key: str = "mprm.checkpoint") -> Encoder:
    """The processor of a checkpoint (the policy's, unless ``key`` names another), cutting steps as the task says.

    Raises:
        ConfigError: There is no such checkpoint, it is damaged, or has no processor.
    """
    key = key if checkpoint else "policy.checkpoint"
    if (named := checkpoint or config.policy.checkpoint) != "grid_policy":
        refuse_absent(f"{key}:", named)
        refuse_damaged(key, Path(named))
    try:
        return Encoder(
            checkpoint or policy_checkpoint(config),
            config.task.step_separator,
            config.task.answer_marker,
            config.policy.trust_remote_code,
            Markers(config.task.perception_marker, config.task.reasoning_marker),
        )
    except Exception as error:  # a broken checkpoint can fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{key}: {named!r} is no vision-language checkpoint with a processor: {reason}") from None


def make_judge_encoder(config: Config, checkpoint: str | None, key: str) -> Encoder:
    """The processor of a reward model that reads the policy's tokens; ``checkpoint`` None for the policy's own.

    Raises:
        ConfigError: There is none, or its vocabulary does not hold the policy's.
    """
    encoder = make_encoder(config, checkpoint, key)
    if checkpoint is not None:
        policy = make_encoder(config).tokenizer.get_vocab()
        if not policy.items() <= encoder.tokenizer.get_vocab().items():
            raise ConfigError(
                f"{key}: {checkpoint!r} has another vocabulary than policy.checkpoint, {config.policy.checkpoint!r}, "
                "whose tokens it is to read; allowed is one with the same"
            )
    return encoder


def make_buffer(config: Config) -> StreamingBuffer:
    """An empty streaming buffer."""
    selection = config.selection
    settings = BufferSettings(
        keep_ratio=selection.keep_ratio,
        capacity=selection.capacity,
        half_life=selection.half_life,
        max_all_negative=selection.max_all_negative,
        draw=selection.draw,
        fresh=selection.fresh,
    )
    return StreamingBuffer(settings, seed=derive_seed(config.seed, "buffer"))


def make_configured_selector(config: Config) -> Selector:
    """The selector that the configuration names; a class of the user's is made without arguments.

    Raises:
        ConfigError: There is no such selector, or the class makes none.
    """
    selection = config.selection
    settings = SelectorSettings(selection.alpha, selection.prior, selection.threshold, selection.visual_weight)
    builtin = {name: make_selector(name, settings) for name in SELECTORS}
    return resolve_made("selection.selector", selection.selector, builtin)


def make_configured_budget(config: Config) -> Budget:
    """What labelling the steps of a batch of rollouts may cost. A triage ranks them by their predicted BIS."""
    annotation = config.annotation
    return make_budget(
        annotation.budget,
        annotation.continuations,
        first_error=annotation.first_error,
        error=annotation.error,
        threshold=annotation.threshold,
        prior=annotation.prior,
        outcome_weight=annotation.outcome_weight,
        share_prefixes=annotation.share_prefixes,
        triage_policy=annotation.triage_policy,
        triage_ratio=annotation.triage_ratio,
        probe=annotation.probe,
        rank=partial(
            predicted_balanced_information, continuations=annotation.continuations, alpha=config.selection.alpha
        ),
    )


def build_engine(config: Config, follows: bool = True) -> RenewableEngine:
    """An engine, in the process that calls this; ``follows`` says whether a learner will bring it new weights."""
    from rl.engines.hf_engine import HfEngine
    from rl.engines.vllm_engine import VllmEngine

    engine, checkpoint = config.engine, policy_checkpoint(config)
    route = weight_route(config) if follows else "weights"
    threads = max(1, int(engine.num_cpus))
    if engine.kind == "hf":
        return HfEngine(
            checkpoint,
            temperature=engine.temperature,
            max_completion_tokens=engine.max_completion_tokens,
            batch_size=engine.max_num_seqs,
            dtype=config.policy.dtype,
            threads=threads,
            trust_remote_code=config.policy.trust_remote_code,
        )
    return VllmEngine(
        checkpoint,
        temperature=engine.temperature,
        max_completion_tokens=engine.max_completion_tokens,
        max_model_len=engine.max_model_len,
        images_per_prompt=engine.images_per_prompt,
        max_num_seqs=engine.max_num_seqs,
        dtype=config.policy.dtype,
        kv_cache_gib=engine.kv_cache_gib,
        gpu_memory_utilization=engine.gpu_memory_utilization,
        threads=threads,
        trust_remote_code=config.policy.trust_remote_code,
        tensor_parallel=engine.tensor_parallel,
        sleep=engine.sleep and follows,
        lora_rank=config.learner.lora_rank if route == "adapters" else 0,
        weight_transfer=route if route in ("nccl", "ipc") else None,
    )


def weight_route(config: Config) -> str:
    """How new weights come to the engines: whole ``weights`` or ``adapters`` alone through Ray's object store, or by
    vLLM's ``nccl`` or ``ipc``."""
    engine = config.engine
    if engine.kind == "vllm" and engine.sync_adapters and config.learner.lora_rank:
        return "adapters"
    return "weights" if engine.weight_transfer == "object_store" else engine.weight_transfer


def build_learner(config: Config) -> PolicyLearner:
    """The policy learner, in the process that calls this: one rank, where the environment speaks of several."""
    from rl.learning.learner import PolicyLearner

    return PolicyLearner(policy_checkpoint(config), make_encoder(config), learner_settings(config))


def learner_settings(config: Config) -> LearnerSettings:
    """The learner's settings, as the configuration has them."""
    learner = config.learner
    shared = {field.name for field in fields(LearnerSettings)} & set(type(learner).model_fields)
    return LearnerSettings(
        **{name: getattr(learner, name) for name in shared},
        temperature=config.engine.temperature,
        max_completion_tokens=config.engine.max_completion_tokens,
        dtype=config.policy.dtype,
        threads=max(1, int(learner.num_cpus)),
        trust_remote_code=config.policy.trust_remote_code,
        seed=config.seed,
        critic=critic_settings(config) if learner.algorithm == "ppo" else None,
    )


def critic_settings(config: Config) -> CriticSettings:
    """The settings of PPO's value model, as the configuration has them."""
    from rl.learning.critic import CriticSettings

    learner = config.learner
    return CriticSettings(
        **config.value.model_dump(),
        max_grad_norm=learner.max_grad_norm,
        gradient_checkpointing=learner.gradient_checkpointing,
        sharding=learner.sharding,  # type: ignore[arg-type]
        trust_remote_code=config.policy.trust_remote_code,
        seed=config.seed,
    )
