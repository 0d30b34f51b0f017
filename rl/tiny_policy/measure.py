"""What a policy can do on the grid task: sampled, checked step by step, and printed as a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import ProcessorMixin

from rewards.models.encoding import Encoder
from rewards.records import Prompt, SamplingRequest
from rewards.seeds import derive_seed
from rl.engines.hf_engine import HfEngine
from rl.tasks.grid import GridTask
from rl.tasks.grid_steps import ANSWER, written_answer
from rl.tasks.task import StepTruth

GROUP = 8
_BATCH = 256
_MAX_TOKENS = 64


def chat_text(processor: ProcessorMixin, question: str, pictures: int = 1) -> str:
    """The model's input for so many pictures and a question, up to where the answer starts."""
    content = [{"type": "image"}] * pictures + [{"type": "text", "text": question}]
    return str(processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True))


def write_answers(
    checkpoint: str | Path, prompts: Sequence[Prompt], n: int = 1, seed: int = 0, temperature: float = 1.0
) -> list[str]:
    """``n`` answers of a saved policy to each prompt, those to one prompt together; greedy ones at temperature 0."""
    threads = torch.get_num_threads()
    engine = HfEngine(str(checkpoint), max_completion_tokens=_MAX_TOKENS, batch_size=_BATCH, threads=threads)
    encoder = Encoder(str(checkpoint))
    requests = [SamplingRequest(p, n=n, seed=derive_seed(seed, p.id), temperature=temperature) for p in prompts]
    return [encoder.decode(sample.token_ids) for samples in engine.sample(requests) for sample in samples]


@dataclass(frozen=True)
class Marked:
    """A sampled answer with its verdicts."""

    source: str
    right: bool
    steps: list[StepTruth]

    @property
    def mixed(self) -> bool:
        return len({step.own for step in self.steps}) == 2

    @property
    def lucky(self) -> bool:
        return self.right and not all(step.own for step in self.steps)


@dataclass(frozen=True)
class Measurement:
    """Shares in [0, 1], over groups of `GROUP` answers a prompt at temperature 1, greedy ones, and blind ones."""

    sampled: list[Marked]  # the answers to one prompt stand together
    greedy: list[Marked]
    blind: list[Marked]  # greedy, each question beside another one's picture of the same source

    @property
    def accuracy(self) -> float:
        return _share(marked.right for marked in self.sampled)

    def table(self) -> str:
        groups = np.array([marked.right for marked in self.sampled]).reshape(-1, GROUP).mean(1)
        lines = [f"{len(self.sampled)} answers to {len(groups)} held-out prompts at temperature 1", ""]
        lines.append("source    accuracy  greedy  wrong image  mixed  lucky  groups all right  all wrong")
        by_group = [marked.source for marked in self.sampled[::GROUP]]
        for source in (*GridTask.sources, "all"):
            some, best, blind = (
                [m for m in answers if source in (m.source, "all")]
                for answers in (self.sampled, self.greedy, self.blind)
            )
            here = groups[[source in (name, "all") for name in by_group]]
            lines.append(
                f"{source:8s}  {_share(m.right for m in some):8.3f}  {_share(m.right for m in best):6.3f}"
                f"  {_share(m.right for m in blind):11.3f}  {_share(m.mixed for m in some):5.3f}"
                f"  {_share(m.lucky for m in some):5.3f}  {_share(here == 1):16.3f}  {_share(here == 0):9.3f}"
            )
        return "\n".join([*lines, "", *self._steps()])

    def _steps(self) -> list[str]:
        kinds: dict[str, list[StepTruth]] = defaultdict(list)
        for marked in self.sampled:
            for step in marked.steps:
                kinds[step.kind].append(step)
        lines = ["step                 written  right on its own  right so far"]
        for kind, steps in sorted(kinds.items()):
            own, so_far = _share(step.own for step in steps), _share(step.so_far for step in steps)
            lines.append(f"{kind:20s} {len(steps):7d}  {own:16.3f}  {so_far:12.3f}")
        return lines


def measure(checkpoint: str | Path, task: GridTask, prompts: int = 1024, seed: int = 0) -> Measurement:
    """Sample and check answers of a saved policy to the first held-out prompts."""
    heldout = [task.prompt("heldout", index) for index in range(prompts)]
    turn = len(task.sources)
    # Another picture makes another prompt: what is computed of a prompt's images is remembered by its id.
    blind = [
        Prompt(f"{p.id}/blind", p.source, p.question, heldout[(index + turn) % prompts].images, p.answer)
        for index, p in enumerate(heldout)
    ]
    every = [prompt for prompt in heldout for _ in range(GROUP)]
    return Measurement(
        mark(task, every, write_answers(checkpoint, heldout, GROUP, seed)),
        mark(task, heldout, write_answers(checkpoint, heldout, temperature=0)),
        mark(task, heldout, write_answers(checkpoint, blind, temperature=0)),
    )


def mark(task: GridTask, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[Marked]:
    """The verdicts on one answer to each prompt."""
    marked = []
    for prompt, answer in zip(prompts, answers, strict=True):
        steps = answer.partition(f"{ANSWER}")[0].splitlines()
        marked.append(Marked(prompt.source, written_answer(answer) == prompt.answer, task.step_truth(prompt, steps)))
    return marked


def _share(verdicts: Iterable[bool]) -> float:
    return float(np.mean(list(verdicts)))
