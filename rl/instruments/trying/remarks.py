"""What a trial says of a configuration: warnings in words, and what a whole policy step would take."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from math import inf, isnan
from typing import get_args

from rewards.records import Prompt
from rewards.verification.references import unreadable_line
from rewards.verification.verdict import Answer, verdict_of
from rewards.verification.verifiers import VERIFIERS, Verifier
from rl.config import Config
from rl.instruments.trying.trial import Trial
from rl.monitoring.warnings import (
    cut_answers,
    dropped_answers,
    no_entropy,
    no_mixed_group,
    no_right_answer,
    no_room,
    no_stated_answer,
    no_steps,
    one_kind_of_labels,
    other_model,
    refused_reference,
    skipped_update,
    unseen_pictures,
)
from rl.tasks.files import FileTask
from rl.tasks.task import Split, Task

MOST_REFERENCES = 1000
FORMS = ("Answer: {}", r"\boxed{{{}}}", "<answer>{}</answer>")
"""How an answer may state a reference."""


def find_warnings(config: Config, trial: Trial, task: Task, verifier: Verifier) -> list[str]:
    """In the order in which things went."""
    found = chain(_of_prompts(config, trial, task, verifier), _of_answers(config, trial), _of_learning(config, trial))
    return [*filter(None, found), *filter(None, [trial.failure])]


def _of_prompts(config: Config, trial: Trial, task: Task, verifier: Verifier) -> Iterator[str | None]:
    name = config.task.verifier
    blind = next((p for p in trial.prompts if p.prompt.images and not sum(p.picture_tokens)), None)
    if blind is not None:
        yield unseen_pictures(len(blind.prompt.images), 0, config.policy.checkpoint)
    longest = max((rendered.tokens for rendered in trial.prompts), default=0)
    if config.engine.kind == "vllm":
        yield no_room(longest, config.engine.max_model_len, config.engine.max_completion_tokens)
    yield unreadable_line(name, islice(_references(task, trial), MOST_REFERENCES))
    for rendered in trial.prompts[:1] if trial.answers else []:  # else it is the verifier that may have failed
        yield refused_reference(_accepts(verifier, rendered.prompt), name, rendered.prompt.answer)


def _references(task: Task, trial: Trial) -> Iterator[tuple[str, str]]:
    """Of all rows of files, else of the prompts that were tried: where each stands, and its text."""
    if isinstance(task, FileTask):
        return chain.from_iterable(task.references(split) for split in get_args(Split))
    return ((rendered.prompt.id, rendered.prompt.answer) for rendered in trial.prompts)


def _accepts(verifier: Verifier, prompt: Prompt) -> bool:
    """Whether it calls the reference itself right, stated in any of `FORMS`."""
    return any(verdict_of(verifier, Answer(form.format(prompt.answer), prompt)).correct for form in FORMS)


def _of_answers(config: Config, trial: Trial) -> Iterator[str | None]:
    answers = list(trial.all_answers())
    if not answers:
        return
    rollouts, number = [answer.rollout for answer in answers], len(answers)
    right = sum(rollout.outcome > 0 for rollout in rollouts)
    yield dropped_answers(trial.dropped, number + trial.dropped)
    cut = [rollout for rollout in rollouts if rollout.finish_reason == "length"]
    yield cut_answers(len(cut), number, config.engine.max_completion_tokens)
    lengths = [len(rollout.steps) for rollout in rollouts]
    yield no_steps(sum(n > 1 for n in lengths), lengths.count(0), number, config.task.steps)
    whole = [answer for answer in answers if answer.rollout.finish_reason != "length"]
    if config.task.verifier in VERIFIERS:
        yield no_stated_answer(sum(answer.stated is None for answer in whole), len(whole), config.task.verifier)
    yield no_right_answer(right, f"{number:,} answers")
    mixed = sum(len({answer.rollout.outcome for answer in group}) > 1 for group in trial.answers)
    yield no_mixed_group(mixed, len(trial.answers), right, number, f"{number:,} answers")


def _of_learning(config: Config, trial: Trial) -> Iterator[str | None]:
    dtype = config.policy.dtype
    if not isnan(trial.difference):
        yield other_model(trial.difference, dtype, "at the start")
    boundaries = [boundary for answer in trial.all_answers() for boundary in answer.boundaries]
    labelled = sum(boundary.sampled > 0 for boundary in boundaries)
    yield one_kind_of_labels(sum(boundary.correct > 0 for boundary in boundaries), labelled)
    yield skipped_update(trial.learned.get("skipped", 0))
    yield no_entropy(trial.learned.get("entropy", inf), "these answers")
    if not isnan(trial.difference_after):
        yield other_model(trial.difference_after, dtype, "after new weights")


def difference_lines(trial: Trial) -> list[str]:
    """How far engine and learner are apart, before and after new weights."""
    told = {"of these answers": trial.difference, "of others, after new weights": trial.difference_after}
    return [
        f"engine minus learner, log-probabilities {what}: {value:.1e} nats at most"
        for what, value in told.items()
        if not isnan(value)
    ]


def step_lines(config: Config, trial: Trial) -> list[str]:
    """What a policy step of the experiment takes, by what the trial took, stage after stage on this machine; larger
    batches take less.

    Args:
        config: The experiment, as it is and not as it was tried.
        trial: What was seen.
    """
    tried, whole = sum(map(len, trial.answers)), config.learner.prompts * config.learner.samples
    if not tried or not trial.learned:
        return []
    labelled = config.annotation.share * whole
    stages = {
        "answers": trial.seconds("answers") * whole / tried,
        "step scores": trial.seconds("step scores") * whole / tried,
        "labels": trial.seconds("continuations") * labelled / max(trial.labelled, 1),
        "policy": trial.seconds("policy step") * whole / tried,
        "new weights": trial.seconds("new weights"),
    }
    parts = ", ".join(f"{name} {seconds:,.1f} s" for name, seconds in stages.items() if seconds)
    most = max((rendered.tokens for rendered in trial.prompts), default=0)
    return [
        f"a policy step of {config.learner.prompts:,} prompts with {config.learner.samples:,} answers each: about "
        f"{sum(stages.values()):,.1f} s here, stage after stage ({parts})",
        f"prompts have up to {most:,} tokens, answers {_mean_tokens(trial):,.0f} on average; "
        f"{max(stage.memory for stage in trial.stages):.1f} GiB at most, all in one process",
    ]


def _mean_tokens(trial: Trial) -> float:
    lengths = [len(answer.rollout.token_ids) for answer in trial.all_answers()]
    return sum(lengths) / len(lengths)
