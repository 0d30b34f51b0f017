"""The parts of one experiment, and their start."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rewards.annotation.budgets import Budget
from rewards.annotation.judge import Judge
from rewards.credit import CREDIT_RULES, CreditRule
from rewards.encoding import Encoder
from rewards.process_model.guard import HeldBack
from rewards.seeds import derive_seed
from rewards.verification.verifiers import Verifier
from rl.answer_rewards import AnswerRewards
from rl.config import Config
from rl.experiment import (
    build_engine,
    build_learner,
    make_buffer,
    make_configured_budget,
    make_configured_selector,
    make_encoder,
    make_task,
    make_verifier,
)
from rl.extension import resolve
from rl.judging import make_judge
from rl.mprm_worker import check_mprm, start_mprm
from rl.outcome_worker import check_outcome_model, start_outcome_model
from rl.staleness import StalenessGate
from rl.tasks.task import Task
from rl.worker_group import WorkerGroup
from rl.workers import EnginePool, Worker, start_ray
from selection.buffer import StreamingBuffer
from selection.selectors import NEED_COMPLEXITY, Selector


@dataclass(frozen=True)
class Parts:
    """What the loop works with: plain objects here, and workers elsewhere.

    ``looks_at_images`` says whether the selector wants to know the entropy of the images' features.
    """

    task: Task
    encoder: Encoder
    verifier: Verifier
    answers: AnswerRewards
    credit: CreditRule
    budget: Budget
    selector: Selector
    looks_at_images: bool
    held_back: HeldBack
    buffer: StreamingBuffer
    gate: StalenessGate
    engines: EnginePool
    judge: Judge | None
    learner: Worker
    mprm: Worker | WorkerGroup


def make_parts(config: Config, folder: Path) -> Parts:
    """Start Ray and the workers, and make everything else beside them; ``folder`` is the run's.

    Raises:
        ConfigError: A name in the configuration stands for nothing, or the machines are too small for the placement.
    """
    task = make_task(config)
    verifier = make_verifier(config)
    credit = resolve("learner.credit", config.learner.credit, CREDIT_RULES)
    check_mprm(config)
    check_outcome_model(config)
    selector = make_configured_selector(config)
    encoder = make_encoder(config)
    judge = make_judge(config, encoder.decode, folder)
    start_ray(config)
    engine, learner = config.engine, config.learner
    engines = [
        Worker(f"engine {i}", partial(build_engine, config), engine.num_cpus, engine.num_gpus, config.deadline)
        for i in range(engine.count)
    ]
    return Parts(
        task=task,
        engines=EnginePool(engines),
        judge=judge,
        learner=Worker("learner", partial(build_learner, config), learner.num_cpus, learner.num_gpus, config.deadline),
        mprm=start_mprm(config),
        encoder=encoder,
        verifier=verifier,
        answers=AnswerRewards(config, start_outcome_model(config)),
        credit=credit,
        budget=make_configured_budget(config),
        selector=selector,
        looks_at_images=config.selection.selector in NEED_COMPLEXITY or getattr(selector, "looks_at_images", False),
        held_back=HeldBack(config.mprm.guard_share, config.mprm.guard_capacity, derive_seed(config.seed, "guard")),
        buffer=make_buffer(config),
        gate=StalenessGate(config.max_staleness),
    )
