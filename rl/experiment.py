"""The parts of one experiment, made from its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rewards.budgets import Budget, make_budget
from rewards.credit import CREDIT_RULES, CreditRule
from rewards.encoding import Encoder
from rewards.labels import LABEL_RULES
from rewards.mprm import MPRM
from rewards.seeds import derive_seed
from rewards.verifiers import VERIFIERS, Verifier
from rl.config import Config, ConfigError
from rl.engines.engine import Engine
from rl.extension import resolve
from rl.staleness import StalenessGate
from rl.tasks.task import Task
from rl.workers import EnginePool, Worker, start_ray
from selection.buffer import BufferSettings, StreamingBuffer
from selection.prediction import predicted_balanced_information
from selection.selectors import NEED_COMPLEXITY, SELECTORS, Selector, SelectorSettings, make_selector

SHIPPED_POLICY = Path(__file__).parent / "policy" / "grid_policy"


@dataclass(frozen=True)
class Parts:
    """What the loop works with: plain objects here, and three kinds of workers elsewhere.

    ``looks_at_images`` says whether the selector wants to know the entropy of the images' features.
    """

    task: Task
    encoder: Encoder
    verifier: Verifier
    credit: CreditRule
    budget: Budget
    selector: Selector
    looks_at_images: bool
    buffer: StreamingBuffer
    gate: StalenessGate
    engines: EnginePool
    learner: Worker
    mprm: Worker


def policy_checkpoint(config: Config) -> str:
    """Where the policy starts from: the shipped one by its name, any other as it is given."""
    return str(SHIPPED_POLICY) if config.policy.checkpoint == "grid_policy" else config.policy.checkpoint


def make_task(config: Config) -> Task:
    """The task that the configuration names.

    Raises:
        ConfigError: There is no such task, or its files are not as they should be.
    """
    from rl.tasks.files import FileTask
    from rl.tasks.grid import GridTask

    task = config.task
    try:
        if task.name == "grid":
            return GridTask(task.difficulty, task.seed)
        if task.name == "files":
            return FileTask(task.train_files, task.heldout_files, task.columns, task.instruction)
        return resolve("task.name", task.name, {})(config)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def make_encoder(config: Config, checkpoint: str | None = None) -> Encoder:
    """The processor of a checkpoint (the policy's, unless another is named), cutting steps as the task says.

    Raises:
        ConfigError: There is no such checkpoint, or no processor in it.
    """
    try:
        return Encoder(
            checkpoint or policy_checkpoint(config),
            config.task.step_separator,
            config.task.answer_marker,
            config.policy.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        key = "mprm.checkpoint" if checkpoint else "policy.checkpoint"
        named = checkpoint or config.policy.checkpoint
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{key}: {named!r} is no vision-language checkpoint with a processor: {reason}") from None


def make_parts(config: Config) -> Parts:
    """Start Ray and the workers, and make everything else beside them.

    Raises:
        ConfigError: A name in the configuration stands for nothing, or the machines are too small for the placement.
    """
    task = make_task(config)
    verifier = resolve("task.verifier", config.task.verifier, VERIFIERS)
    credit = resolve("learner.credit", config.learner.credit, CREDIT_RULES)
    resolve("mprm.label", config.mprm.label, LABEL_RULES)
    selector = make_configured_selector(config)
    encoder = make_encoder(config)
    start_ray(config)
    engine, learner, mprm = config.engine, config.learner, config.mprm
    engines = [
        Worker(f"engine {i}", partial(build_engine, config), engine.num_cpus, engine.num_gpus, config.deadline)
        for i in range(engine.count)
    ]
    return Parts(
        task=task,
        engines=EnginePool(engines),
        learner=Worker("learner", partial(build_learner, config), learner.num_cpus, learner.num_gpus, config.deadline),
        mprm=Worker("mprm", partial(build_mprm, config), mprm.num_cpus, mprm.num_gpus, config.deadline),
        encoder=encoder,
        verifier=verifier,
        credit=credit,
        budget=make_configured_budget(config),
        selector=selector,
        looks_at_images=config.selection.selector in NEED_COMPLEXITY or getattr(selector, "looks_at_images", False),
        buffer=make_buffer(config),
        gate=StalenessGate(config.max_staleness),
    )


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
        ConfigError: There is no such selector.
    """
    selection = config.selection
    settings = SelectorSettings(selection.alpha, selection.prior, selection.threshold, selection.visual_weight)
    builtin = {name: make_selector(name, settings) for name in SELECTORS}
    selector = resolve("selection.selector", selection.selector, builtin)
    return selector() if isinstance(selector, type) else selector


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


def build_engine(config: Config) -> Engine:
    """An engine, in the process that calls this."""
    from rl.engines.hf_engine import HfEngine
    from rl.engines.vllm_engine import VllmEngine

    engine, checkpoint = config.engine, policy_checkpoint(config)
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
    )


def build_learner(config: Config) -> object:
    """The policy learner, in the process that calls this."""
    from rl.learner import PolicyLearner

    learner = config.learner
    return PolicyLearner(
        policy_checkpoint(config),
        make_encoder(config),
        loss=learner.loss,
        learning_rate=learner.learning_rate,
        weight_decay=learner.weight_decay,
        max_grad_norm=learner.max_grad_norm,
        clip=learner.clip,
        temperature=config.engine.temperature,
        max_completion_tokens=config.engine.max_completion_tokens,
        micro_batch=learner.micro_batch,
        dtype=config.policy.dtype,
        threads=max(1, int(learner.num_cpus)),
        trust_remote_code=config.policy.trust_remote_code,
        seed=config.seed,
    )


def build_mprm(config: Config) -> MPRM:
    """The process reward model, in the process that calls this."""
    checkpoint = config.mprm.checkpoint or policy_checkpoint(config)
    return MPRM(
        checkpoint,
        make_encoder(config, checkpoint),
        label_rule=resolve("mprm.label", config.mprm.label, LABEL_RULES),
        likelihood=config.mprm.likelihood,
        learning_rate=config.mprm.learning_rate,
        weight_decay=config.mprm.weight_decay,
        batch_size=config.mprm.batch_size,
        dtype=config.policy.dtype,
        threads=max(1, int(config.mprm.num_cpus)),
        trust_remote_code=config.policy.trust_remote_code,
    )
