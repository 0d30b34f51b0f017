"""The body of ``sieve eval policy``: test-time strategies of a policy, evaluated into a file that survives a kill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from rewards.files.whole_file import content_of
from rewards.records import Prompt
from rewards.verification.answers import vote_reader
from rl.config import Config
from rl.engines.engine import DEPLOYMENT
from rl.engines.making import LocalEngine
from rl.errors import ConfigError
from rl.evaluating.guided_search import Judge, Sampler
from rl.evaluating.policy_steps import PolicySteps, measure_steps
from rl.evaluating.strategies import Plan, PolicyEvaluator, PromptRecord
from rl.evaluating.strategy_report import StrategyReport, make_report
from rl.files.chunked_file import ChunkedFile
from rl.files.named_checkpoint import checkpoint_digest, make_encoder, policy_checkpoint
from rl.monitoring.console import Console
from rl.monitoring.terminal import progress_bar
from rl.reward_models.mprm import build_mprm
from rl.reward_models.outcome import open_configured_model
from rl.tasks.making import make_task, make_verifier, unreadable_references
from rl.tasks.task import KnowsSteps, Split, Task

JudgeKind = Literal["mprm", "outcome"]

CHUNK = 32
"""Prompts that are sampled and judged together. An engine's rounding depends on who is sampled together: the chunks are
part of what decides the samples, and the file grows by whole ones."""

MPRM_KEYS = ("head", "input_format", "likelihood", "verdicts", "step_marker")
"""What makes an MPRM of a plain checkpoint."""


@dataclass(frozen=True)
class JudgeOrder:
    """A judge by its name in the report: what it is, and the checkpoint that it is opened from."""

    name: str
    kind: JudgeKind
    checkpoint: str


@dataclass(frozen=True)
class EvaluationOrder:
    """What to evaluate, and where to: the first ``prompts`` of a split of the task; of the first ``steps`` of these
    also what the policy's steps say, of a task that knows which are right."""

    plan: Plan
    judges: tuple[JudgeOrder, ...]
    prompts: int
    output: Path
    split: Split = "heldout"
    steps: int = 0


@dataclass(frozen=True)
class ChunkNote:
    """How many prompts a chunk of the file has, and the seconds that each kind of work on them took."""

    prompts: int
    seconds: dict[str, float]


@dataclass(frozen=True)
class Evaluated:
    """A report, what decided it (see `identity`), and what the policy's steps say, where that was asked."""

    report: StrategyReport
    made_with: dict[str, Any]
    steps: PolicySteps | None = None


def evaluate_policy(config: Config, order: EvaluationOrder, console: Console) -> Evaluated:
    """Write the records to ``order.output``, or what is missing of them, and report on all of them.

    Raises:
        ConfigError: The configuration, a checkpoint or the file is wrong, or the task has fewer prompts.
        RuntimeError: The engine or a judge failed.
        OSError: The output could not be written.
    """
    encoder = make_encoder(config)
    task = make_task(config, encoder)
    verifier = make_verifier(config)
    knowing = _knowing(config, task) if order.steps else None
    made_with = identity(config, order)
    file = ChunkedFile(order.output, made_with, ChunkNote)
    try:
        chunks = [range(first, min(first + CHUNK, order.prompts)) for first in range(0, order.prompts, CHUNK)]
        done = file.keep_planned(order.prompts, [len(chunk) for chunk in chunks])
        if done:
            console.say(f"{order.output} has {chunks[done - 1].stop:,} of {order.prompts:,} prompts already")
        engine = cache(partial(LocalEngine, config))  # which finished records do not need
        sampler = Sampler(
            lambda requests: engine().sample(requests), encoder, verifier, config.engine.max_completion_tokens
        )
        if done < len(chunks):
            _check_different(task, order)
            if line := unreadable_references(config, task):
                console.say(line)
            with console.waiting(f"starting the {config.engine.kind} engine, and the judges"):
                judges = {judge.name: open_judge(config, judge) for judge in order.judges}
                engine()
            evaluator = PolicyEvaluator(
                order.plan,
                sampler,
                vote_reader(config.task.verifier, verifier, config.task.answer_marker),
                judges,
            )
            _evaluate_chunks(evaluator, task, order, file, chunks, done)
        seconds: Counter[str] = Counter()
        for note in file.notes:
            seconds.update(note.seconds)
        report = make_report(order.plan, [judge.name for judge in order.judges], _records(order), seconds)
        return Evaluated(report, made_with, _steps(config, order, knowing, sampler, console) if knowing else None)
    finally:
        file.close()


def _knowing(config: Config, task: Task) -> KnowsSteps:
    if not isinstance(task, KnowsSteps):
        raise ConfigError(f"--steps: task.name {config.task.name!r} does not know which steps are right")
    return task


def _steps(config: Config, order: EvaluationOrder, task: KnowsSteps, sampler: Sampler, console: Console) -> PolicySteps:
    continuations = config.annotation.continuations
    with console.waiting(f"continuing the steps of {order.steps:,} answers {continuations} times each"):
        prompts = [_prompt(task, order.split, index) for index in range(order.steps)]
        return measure_steps(sampler, task, prompts, continuations, config.seed)


def identity(config: Config, order: EvaluationOrder) -> dict[str, Any]:
    """What decides the content of the output, by key: another value, and the file is another one."""
    values, plan = config.model_dump(mode="json"), order.plan
    parts = {
        "task": values["task"],
        "policy": values["policy"],
        "engine": {key: value for key, value in values["engine"].items() if key not in DEPLOYMENT},
    }
    flat: dict[str, Any] = {f"{section}.{key}": value for section, keys in parts.items() for key, value in keys.items()}
    flat["the policy's digest"] = checkpoint_digest(policy_checkpoint(config))
    for judge in order.judges:
        flat[f"judge {judge.name}"] = f"{judge.kind} {judge.checkpoint}"
        flat[f"the digest of judge {judge.name}"] = checkpoint_digest(judge.checkpoint)
        if judge.kind == "mprm":
            flat |= {f"mprm.{key}": values["mprm"][key] for key in MPRM_KEYS}
    return flat | {
        "seed": config.seed,
        "--split": order.split,
        "samples of a prompt": plan.pool,
        "greedy": "greedy" in plan.strategies,
        "step scores": plan.scores_steps,
        "one_shot": "one_shot" in plan.strategies,
        "guided_greedy": list(plan.n) if "guided_greedy" in plan.strategies else [],
    }


def open_judge(config: Config, order: JudgeOrder) -> Judge:
    """A reward model's ``score``, in the process that calls this: of its checkpoint alone, whatever the configuration
    puts beside the run's own.

    Raises:
        ConfigError: The checkpoint is none of such a model.
    """
    try:
        if order.kind == "outcome":
            outcome = config.outcome_model.model_copy(update={"checkpoint": order.checkpoint})
            return open_configured_model(config.model_copy(update={"outcome_model": outcome})).score
        alone = {"checkpoint": order.checkpoint, "ranks": 1, "beside": (), "combine": "mean"}
        mprm = config.mprm.model_copy(update=alone)
        return build_mprm(config.model_copy(update={"mprm": mprm})).score
    except ConfigError:
        raise
    except Exception as error:  # a broken checkpoint can fail in any way
        raise ConfigError(f"{order.checkpoint} cannot be opened as a judge: {' '.join(str(error).split())}") from None


def _evaluate_chunks(
    evaluator: PolicyEvaluator,
    task: Task,
    order: EvaluationOrder,
    file: ChunkedFile[ChunkNote],
    chunks: Sequence[range],
    done: int,
) -> None:
    with progress_bar("prompts", order.prompts, chunks[done].start) as advance:
        for indices in chunks[done:]:
            prompts = [_prompt(task, order.split, index) for index in indices]
            records, seconds = evaluator.evaluate(prompts)
            lines = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
            file.append(lines, ChunkNote(len(prompts), seconds))
            advance(len(indices))


def _check_different(task: Task, order: EvaluationOrder) -> None:
    """Refuse a finite task that begins again: an answer given twice, with the same seeds, would count as two."""
    first = _prompt(task, order.split, 0).id
    for index in range(1, order.prompts):
        if _prompt(task, order.split, index).id == first:
            raise ConfigError(f"--prompts {order.prompts}: {order.split} has only {index} different prompts")


def _prompt(task: Task, split: Split, index: int) -> Prompt:
    try:
        return task.prompt(split, index)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _records(order: EvaluationOrder) -> list[PromptRecord]:
    lines = content_of(order.output).splitlines()
    try:
        return [msgspec.json.decode(line, type=PromptRecord) for line in lines]
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{order.output} holds something else than records: {error}; name another file") from None
