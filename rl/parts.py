"""The parts of one experiment, and their start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers.utils.logging import disable_progress_bar

from rewards.models.encoding import Encoder
from rewards.verification.verifiers import Verifier
from rl.annotating.judging import make_judge
from rl.annotating.labelling import Labeller, make_configured_budget
from rl.config import Config
from rl.engines.making import build_engine
from rl.files.named_checkpoint import make_encoder
from rl.learning.making import build_learner
from rl.monitoring.recording import STREAM, Recording
from rl.reward_models.chat_templates import check_chat_templates
from rl.reward_models.credit import CreditAssignment, make_credit
from rl.reward_models.hacking_watch import HackingWatch
from rl.reward_models.lessons import Lessons
from rl.reward_models.mprm import AbsentMPRM, check_mprm, start_mprm
from rl.reward_models.outcome import AnswerRewards, check_outcome_model, start_outcome_model
from rl.reward_models.served import ServedMPRM, make_served
from rl.rollouts.making import make_group
from rl.rollouts.stream import RolloutStream
from rl.tasks.making import make_added_rewards, make_task, make_verifier
from rl.tasks.task import HasPasses, Task
from rl.workers.engine_pool import EnginePool
from rl.workers.group import WorkerGroup, start
from rl.workers.inline import InlineWorker
from rl.workers.ray_cluster import as_started, environment_of, kind_of, share_gpus, start_ray
from rl.workers.weight_transfer import WeightTransfer
from rl.workers.worker import Worker
from selection.prompts import ByDifficulty, InOrder


@dataclass(frozen=True)
class Parts:
    """What the loop works with: plain objects here, and workers elsewhere."""

    task: Task
    encoder: Encoder
    verifier: Verifier
    answers: AnswerRewards
    credit: CreditAssignment
    watch: HackingWatch
    engines: EnginePool
    stream: RolloutStream
    labeller: Labeller
    lessons: Lessons
    learner: Worker | WorkerGroup | InlineWorker
    transfer: WeightTransfer
    mprm: Worker | WorkerGroup | InlineWorker | AbsentMPRM | ServedMPRM
    recording: Recording | None

    def close(self) -> None:
        """Let ranks take leave of each other: one that ends early can take the others down."""
        for part in (self.learner, self.mprm):
            if isinstance(part, WorkerGroup):
                part.close()


def make_parts(config: Config, folder: Path) -> Parts:
    """Start Ray, if the run has it, and the workers, and make everything else beside them; ``folder`` is the run's.

    Raises:
        ConfigError: A name in the configuration stands for nothing, or the machines are too small for the placement.
    """
    encoder = make_encoder(config)
    task = make_task(config, encoder)
    verifier = make_verifier(config)
    check_mprm(config)
    check_outcome_model(config)
    check_chat_templates(config, encoder, task)
    lessons = Lessons(config)
    credit = make_credit(config, encoder.separators, encoder.placeholders)
    judge, served = make_judge(config, encoder.decode, folder), make_served(config, encoder.decode, folder)
    if config.workers == "ray":
        start_ray(config)
    else:
        disable_progress_bar()  # of models that are loaded and saved, which nobody sees in workers elsewhere
    started = start_workers(config)
    engines, policy, mprm = started["engine"], started["learner"], served or started.get("mprm", AbsentMPRM())
    budget, looks = make_configured_budget(config), lessons.looks_at_images
    chooses = choose_prompts(config, task)
    return Parts(
        task=task,
        engines=engines,
        stream=make_stream(config, engines, task, encoder, verifier, chooses),
        labeller=Labeller(config, budget, judge, encoder.decode, verifier, engines, mprm, looks, chooses.continued),
        lessons=lessons,
        learner=policy,
        mprm=mprm,
        encoder=encoder,
        verifier=verifier,
        answers=AnswerRewards(config, started.get("outcome_model")),
        credit=credit,
        watch=HackingWatch(config.watch, encoder.decode),
        recording=Recording(folder / STREAM, task, encoder.decode) if config.record else None,
        # Last: it waits until learner and engines are there.
        transfer=WeightTransfer(config, policy, engines),
    )


def start_workers(config: Config) -> dict[str, Any]:
    """Start everyone whom the run has, by role.

    Raises:
        WorkerError: An engine that shares its GPU does not start.
    """
    starts: dict[str, Callable[[Config], Any]] = {
        "engine": start_engines,
        "learner": start_learner,
        "mprm": start_mprm,
        "outcome_model": start_outcome_model,
    }
    return {kind.role: starts[kind.role](config) for kind in as_started(config)}


def start_engines(config: Config) -> EnginePool:
    """Start the engines, here or where Ray places them; those that share a GPU one after another."""
    kind, build = kind_of(config, "engine"), partial(build_engine, config)
    if config.workers == "inline":
        return EnginePool([InlineWorker("engine 0", build)])
    reserved = kind.num_cpus, kind.num_gpus, config.deadline, environment_of(config, kind)
    engines = []
    for number in range(kind.number):
        engines.append(Worker(f"engine {number}", build, *reserved))
        if share_gpus(config):
            engines[-1].built().result()
    return EnginePool(engines)


def start_learner(config: Config) -> Worker | WorkerGroup | InlineWorker:
    """Start the learner; see `rl.workers.group.start`."""
    return start("learner", partial(build_learner, config), config)


def choose_prompts(config: Config, task: Task) -> InOrder:
    """Whoever says which training prompts are asked."""
    prompt = partial(task.prompt, "train")
    if config.selection.prompts == "uniform":
        return InOrder(prompt)
    return ByDifficulty(config.selection, prompt, config.learner.samples, config.annotation.continuations, config.seed)


def make_stream(
    config: Config, engines: EnginePool, task: Task, encoder: Encoder, verifier: Verifier, chooses: InOrder
) -> RolloutStream:
    """The stream of finished groups, from its beginning."""
    prompt = partial(task.prompt, "train")
    records = partial(make_group, encoder=encoder, verifier=verifier, rewards=make_added_rewards(config))
    passes = task.passes if isinstance(task, HasPasses) else None
    return RolloutStream(config, engines, prompt, records, passes, chooses)
