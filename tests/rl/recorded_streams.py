"""Streams as a run records them, of grid prompts and made-up answers to them, in a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from rewards.annotation.annotator import Annotation, Continuation
from rewards.models.encoding import Encoder
from rewards.records import Annotated, Prompt, Rollout, StepScores
from rl.annotating.labelling import make_configured_budget
from rl.config import Config
from rl.files.named_checkpoint import make_encoder
from rl.monitoring.recording import STREAM, Offer, Recording
from rl.reward_models.lessons import make_buffer, make_configured_selector
from rl.tasks.grid import GridTask
from rl.tasks.grid_steps import demonstrate
from rl.tasks.making import make_task, make_verifier
from selection.candidates import gather_candidates
from selection.selectors import apply_selector

SLIPS = {"count": 0.25, "multiply": 0.2, "add": 0.2, "modulo": 0.2, "compare": 0.3}
RIGHT_ON_TRACK, RIGHT_OFF_TRACK, CUT_OFF = 0.8, 0.05, 0.05


def record_stream(
    run: Path,
    config: Config,
    share: float = 0.5,
    score: Callable[[list[Rollout]], list[StepScores]] | None = None,
) -> Path:
    """Record ``config.steps`` policy steps of a policy that slips less and less; gives the run folder back.

    Every share of a step's rollouts is labelled by as many continuations as ``annotation`` asks for; a continuation of
    a step that is right so far mostly comes out right. ``evaluation.every`` says after which steps there is a held-out
    evaluation, ``evaluation.prompts`` and ``samples`` of how many answers. ``score`` stands for the MPRM; without one
    every step has the score 0.5.
    """
    score = score or _scores
    task, encoder = make_task(config), make_encoder(config)
    assert isinstance(task, GridTask)
    recording = Recording(run / STREAM, task, encoder.decode)
    generator = np.random.default_rng([config.seed, 7])
    buffer, selector = make_buffer(config), make_configured_selector(config)
    for step in range(config.steps + 1):
        if step:
            size = config.learner.prompts
            prompts, rollouts = _answers(task, encoder, "train", size, config.learner.samples, step, generator)
            labelled = np.sort(generator.permutation(len(rollouts))[: int(len(rollouts) * share)]).tolist()
            annotation = _annotate(task, encoder, config, prompts, rollouts, labelled, generator)
            entries = [
                Annotated(prompts[place], rollouts[place], counts)
                for place, counts in zip(labelled, annotation.counts(), strict=True)
            ]
            candidates = gather_candidates(entries, generator=np.random.default_rng(step))
            informative = apply_selector("selector", selector, candidates)
            buffer.offer(entries, informative)
            offer = Offer(labelled, entries, annotation.continuations(), informative, buffer.kept())
            recording.step(step, prompts, rollouts, score(rollouts), offer)
        if step % config.evaluation.every == 0:
            held_out = config.evaluation.prompts, config.evaluation.samples
            prompts, rollouts = _answers(task, encoder, "heldout", *held_out, step, generator)
            recording.heldout(step, prompts, rollouts, score(rollouts))
    return run


def _answers(
    task: GridTask, encoder: Encoder, split: str, size: int, samples: int, step: int, generator: np.random.Generator
) -> tuple[list[Prompt], list[Rollout]]:
    first = step * size if split == "train" else 0
    verify = make_verifier(Config())
    prompts, rollouts = [], []
    for group in range(size):
        where = "train" if split == "train" else "heldout"
        prompt, puzzle = task.prompt(where, first + group), task.puzzle(where, first + group)
        for _ in range(samples):
            slips = {name: rate / (1 + 0.1 * step) for name, rate in SLIPS.items()}
            text = demonstrate(puzzle, slips, generator)
            tokens = (*encoder.tokens(text), encoder.end_token)
            prompts.append(prompt)
            rollouts.append(
                Rollout(
                    prompt_id=prompt.id,
                    source=prompt.source,
                    group=first + group,
                    token_ids=tokens,
                    logprobs=(-0.1,) * len(tokens),
                    text=text,
                    steps=encoder.steps(tokens),
                    outcome=float(verify(text, prompt.answer)),
                    finish_reason="stop",
                    policy_version=max(step - 1, 0),
                )
            )
    return prompts, rollouts


def _annotate(
    task: GridTask,
    encoder: Encoder,
    config: Config,
    prompts: list[Prompt],
    rollouts: list[Rollout],
    labelled: list[int],
    generator: np.random.Generator,
) -> Annotation:
    chosen, owners = [rollouts[place] for place in labelled], [prompts[place] for place in labelled]
    budget, verifier = make_configured_budget(config), make_verifier(config)
    annotation = Annotation(chosen, owners, budget, encoder.decode, verifier, config.seed)
    truths = [
        task.step_truth(prompt, [encoder.decode(rollout.token_ids[s.start : s.end]) for s in rollout.steps])
        for prompt, rollout in zip(owners, chosen, strict=True)
    ]
    while requests := annotation.requests():
        drawn = []
        for request, (place, step) in zip(requests, annotation.places(), strict=True):
            rate = RIGHT_ON_TRACK if truths[place][step].so_far else RIGHT_OFF_TRACK
            rest = len(chosen[place].token_ids) - chosen[place].steps[step].end
            drawn.append(
                [
                    Continuation(
                        None if generator.random() < CUT_OFF else bool(generator.random() < rate),
                        max(1, rest + int(generator.integers(-3, 4))),
                        chosen[place].policy_version,
                    )
                    for _ in range(request.n)
                ]
            )
        annotation.count(drawn)
    return annotation


def _scores(rollouts: list[Rollout]) -> list[StepScores]:
    return [StepScores(np.full(len(rollout.steps), 0.5), 0) for rollout in rollouts]
