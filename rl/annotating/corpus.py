"""The body of ``sieve annotate``: rollouts of the policy, labelled and written as VisualPRM400K records."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rewards.annotation.annotator import Annotation
from rewards.annotation.budgets import Budget
from rewards.annotation.visualprm import format_record, make_record
from rewards.files.whole_file import replacing
from rewards.models.encoding import Encoder
from rewards.records import Annotated, Prompt, Rollout, SamplingRequest
from rewards.seeds import derive_seed
from rewards.verification.verifiers import Verifier
from rl.annotating.labelling import make_configured_budget
from rl.config import Config
from rl.engines.engine import DEPLOYMENT, Engine
from rl.engines.making import LocalEngine
from rl.errors import ConfigError
from rl.files.chunked_file import ChunkedFile
from rl.files.named_checkpoint import make_encoder
from rl.monitoring.console import Console
from rl.rollouts.making import make_rollouts
from rl.tasks.making import make_task, make_verifier, unreadable_references
from rl.tasks.task import Split, Task


@dataclass(frozen=True)
class AnnotationOrder:
    """What to annotate, and where to: prompts ``first <= index < first + prompts`` of a split of the task."""

    output: Path
    prompts: int
    split: Split = "train"
    first: int = 0


@dataclass(frozen=True)
class CorpusTally:
    """What was done; tallies add up.

    Attributes:
        prompts: Prompts answered.
        rollouts: Rollouts written.
        left_out: Rollouts that were not: none of their steps has a label, or no model could read them back.
        mixed: Written rollouts with both right and wrong steps.
        steps: Steps of the written rollouts.
        missing: Those of them without a label.
        continuations, tokens: What the labels took.
        truncated: Continuations that were cut off, and so left out.
        fixed_continuations, fixed_tokens: What ``fixed`` would have taken.
        seconds: Sampling, labelling and writing.
    """

    prompts: int = 0
    rollouts: int = 0
    left_out: int = 0
    mixed: int = 0
    steps: int = 0
    missing: int = 0
    continuations: int = 0
    tokens: int = 0
    truncated: int = 0
    fixed_continuations: int = 0
    fixed_tokens: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: CorpusTally) -> CorpusTally:
        return CorpusTally(*map(sum, zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


@dataclass(frozen=True)
class Annotator:
    """What a chunk of prompts needs to become labelled rollouts."""

    config: Config
    engine: Engine
    encoder: Encoder
    verifier: Verifier
    budget: Budget

    def rollouts(self, prompts: Sequence[Prompt], first: int) -> list[Rollout]:
        """Answers to the prompts; each one's group is its index, counted from ``first``, which also decides its seed:
        where a finite task begins again, its prompts are answered afresh."""
        seeds = [derive_seed(self.config.seed, "annotate", index, p.id) for index, p in enumerate(prompts, first)]
        requests = [
            SamplingRequest(prompt, n=self.config.learner.samples, seed=seed)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return make_rollouts(prompts, self.engine.sample(requests), self.encoder, self.verifier, first)

    def label(self, rollouts: Sequence[Rollout], prompts: Sequence[Prompt]) -> Annotation:
        """The finished annotation of some rollouts, given the prompt of each."""
        seed = derive_seed(self.config.seed, "continuations")
        annotation = Annotation(rollouts, prompts, self.budget, self.encoder.decode, self.verifier, seed)
        while requests := annotation.requests():
            annotation.receive(self.engine.sample(requests))
        return annotation


def annotate(config: Config, order: AnnotationOrder, console: Console) -> CorpusTally:
    """Write ``order.output``, or what is missing of it; see `rl.files.chunked_file` for what survives a kill.

    Prompts go through in chunks of ``learner.prompts``. The chunks are part of what decides the samples: an engine's
    rounding depends on who is sampled together, and a triage chooses among a chunk's rollouts. So a chunk is written as
    a whole, and the last one of a shorter corpus is sampled anew when the corpus is to grow.

    Raises:
        ConfigError: The configuration, the order or the file is wrong.
        SamplingError: The engine failed.
        UnreadableRolloutsError: The policy wrote nothing that could be read back.
        OSError: The output could not be written.
    """
    encoder = make_encoder(config)
    task = make_task(config, encoder)
    verifier = make_verifier(config)
    if config.annotation.budget == "triage" and config.annotation.triage_by == "mprm":
        raise ConfigError("annotation.triage_by: 'mprm' is not allowed without a reward model; allowed here is counts")
    file = ChunkedFile(order.output, identity(config, order), CorpusTally)
    try:
        chunks = list(_chunks(order, config.learner.prompts))
        done = file.keep_planned(order.prompts, [end - first for first, end in chunks])
        total = sum(file.notes, CorpusTally())
        if done:
            console.say(f"{order.output} has {total.prompts:,} of {order.prompts:,} prompts already")
        if done < len(chunks):
            if line := unreadable_references(config, task):
                console.say(line)
            with console.waiting(f"starting the {config.engine.kind} engine"):
                engine = LocalEngine(config)
            annotator = Annotator(config, engine, encoder, verifier, make_configured_budget(config))
            with console.progress("prompts", order.prompts, total.prompts, lines=False) as advance:
                for first, end in chunks[done:]:
                    tally = _annotate_chunk(annotator, task, order, file, range(first, end))
                    total += tally
                    console.say(_progress(total, tally, order))
                    advance(tally.prompts)
        return total
    finally:
        file.close()


def identity(config: Config, order: AnnotationOrder) -> dict[str, Any]:
    """What decides the content of the output, by key: another value, and the file is another one."""
    values = config.model_dump(mode="json")
    parts = {
        "task": values["task"],
        "policy": values["policy"],
        "engine": {key: value for key, value in values["engine"].items() if key not in DEPLOYMENT},
        "learner": {key: values["learner"][key] for key in ("prompts", "samples")},
        "annotation": {key: value for key, value in values["annotation"].items() if key not in ("share", "delay")},
    }
    if config.annotation.budget == "triage":
        parts["selection"] = {"alpha": config.selection.alpha}
    flat = {f"{section}.{key}": value for section, keys in parts.items() for key, value in keys.items()}
    return flat | {"seed": config.seed, "--split": order.split, "--first": order.first}


def _chunks(order: AnnotationOrder, size: int) -> Iterator[tuple[int, int]]:
    end = order.first + order.prompts
    return ((first, min(first + size, end)) for first in range(order.first, end, size))


def _annotate_chunk(
    annotator: Annotator, task: Task, order: AnnotationOrder, file: ChunkedFile[CorpusTally], indices: range
) -> CorpusTally:
    began = time.perf_counter()
    try:
        prompts = [task.prompt(order.split, index) for index in indices]
    except ValueError as error:
        raise ConfigError(str(error)) from None
    rollouts = annotator.rollouts(prompts, indices.start)
    asked = [prompts[rollout.group - indices.start] for rollout in rollouts]
    annotation = annotator.label(rollouts, asked)
    entries = [Annotated(*entry) for entry in zip(asked, rollouts, annotation.counts(), strict=True)]
    # A score of 0.0 on every step would read as a wrong answer: without any label there is no record.
    labelled = [entry for entry in entries if entry.counts.sampled.any()]
    images = {index: _save_images(order.output, index, prompts[index - indices.start]) for index in indices}
    continuations, decode = annotator.budget.continuations, annotator.encoder.decode
    lines = [
        format_record(make_record(entry, images[entry.rollout.group], continuations, decode)) for entry in labelled
    ]
    cost = annotation.cost(time.perf_counter() - began)
    answers = len(indices) * annotator.config.learner.samples
    tally = CorpusTally(
        prompts=len(indices),
        rollouts=len(labelled),
        left_out=answers - len(labelled),
        mixed=sum(map(_is_mixed, labelled)),
        steps=sum(len(entry.rollout.steps) for entry in labelled),
        missing=sum(int((entry.counts.sampled == 0).sum()) for entry in labelled),
        continuations=cost.continuations,
        tokens=cost.tokens,
        truncated=cost.truncated,
        fixed_continuations=cost.fixed_continuations,
        fixed_tokens=cost.fixed_tokens,
        seconds=cost.seconds,
    )
    file.append("".join(lines).encode(), tally)
    return tally


def _is_mixed(entry: Annotated) -> bool:
    right = (entry.counts.correct > 0)[entry.counts.sampled > 0]
    return bool(right.any() and not np.all(right))


def _save_images(output: Path, index: int, prompt: Prompt) -> list[str]:
    """Save a prompt's images beside the output; gives their paths, relative to its folder."""
    folder = output.with_name(f"{output.stem}_images")
    paths = []
    for place, image in enumerate(prompt.images):
        folder.mkdir(exist_ok=True)
        name = f"{index:06d}.png" if len(prompt.images) == 1 else f"{index:06d}-{place}.png"
        with replacing(folder / name) as partial:  # a link that stands there would be written through
            image.save(partial, format="PNG")
        paths.append(f"{folder.name}/{name}")
    return paths


def _progress(total: CorpusTally, tally: CorpusTally, order: AnnotationOrder) -> str:
    return (
        f"prompts {total.prompts:,}/{order.prompts:,}  rollouts {total.rollouts:,}  steps {total.steps:,}  "
        f"continuations {total.continuations:,}  mixed {total.mixed / max(total.rollouts, 1):.2f}  "
        f"s/prompt {tally.seconds / tally.prompts:.2f}"
    )
