"""How many labelled rollouts a reward model needs to tell right reasoning steps from wrong ones on the beliefs task,
before the first policy step:

    sieve annotate configs/beliefs.yaml engine.kind=hf workers=inline annotation.budget=fixed learner.samples=2 \\
        --prompts 4000 -o runs/warm.jsonl
    python benchmarks/warm_reward_model.py runs/warm.jsonl --rollouts 2000 8000

It learns as `mprm.warm_start` has it, from the first so many rollouts, in passes until it has taken about `--updates`
optimizer steps: from their Monte-Carlo labels, and then, to tell what labels cost from what the network cannot do, from
the truth in their place. The area under the ROC curve is that of reasoning steps of 500 held-out answers against
whether all is right so far, within kinds weighted by their errors, with its standard error over answers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rewards.measuring.discrimination import step_discrimination
from rewards.models.encoding import Encoder
from rewards.process_model.mprm import MPRM
from rewards.records import Annotated, Prompt, Rollout, SamplingRequest
from rl.config import Config, load_config
from rl.engines.hf_engine import HfEngine
from rl.files.named_checkpoint import make_encoder, policy_checkpoint
from rl.reward_models.mprm import build_mprm
from rl.reward_models.warm_start import batches, falling_rates, find_records
from rl.rollouts.making import make_rollouts
from rl.tasks.beliefs import BeliefsTask
from rl.tasks.making import make_verifier
from rl.tasks.task import StepTruth, truths_of

CONFIG = Path(__file__).parents[1] / "configs" / "beliefs.yaml"
HELD_OUT = 500
SAMPLES = 2
"""Rollouts of a prompt in the corpus."""


@dataclass(frozen=True)
class Answers:
    """Held-out answers, and what is true of their steps.

    Attributes:
        truths: Of the steps of all answers (S,).
        answer: The number of each step's answer (S,).
    """

    prompts: list[Prompt]
    rollouts: list[Rollout]
    truths: list[StepTruth]
    answer: np.ndarray

    def area(self, model: MPRM) -> str:
        """Of reasoning steps, with its standard error."""
        scores = np.concatenate([found.scores for found in model.score(self.prompts, self.rollouts)])
        reasons = [place for place, truth in enumerate(self.truths) if not truth.kind.endswith(":count")]
        truths = [self.truths[place] for place in reasons]
        right, kinds = [truth.so_far for truth in truths], [truth.kind for truth in truths]
        found = step_discrimination(scores[reasons], right, kinds, self.answer[reasons])
        return f"{found.weighted:.3f} ± {found.standard_error:.3f}"


def held_out(config: Config, encoder: Encoder) -> Answers:
    """One answer to each of the first held-out prompts."""
    task, engine = BeliefsTask(), HfEngine(policy_checkpoint(config))
    asked = [task.prompt("heldout", index) for index in range(HELD_OUT)]
    samples = engine.sample([SamplingRequest(prompt, n=1, seed=index) for index, prompt in enumerate(asked)])
    rollouts = make_rollouts(asked, samples, encoder, make_verifier(config))
    prompts = [asked[rollout.group] for rollout in rollouts]
    truths = [
        truths_of(task, prompt, rollout, encoder.decode) for prompt, rollout in zip(prompts, rollouts, strict=True)
    ]
    answer = np.repeat(np.arange(len(truths)), [len(steps) for steps in truths])
    return Answers(prompts, rollouts, [truth for steps in truths for truth in steps], answer)


def with_true_labels(entry: Annotated, encoder: Encoder) -> Annotated:
    """A record of the corpus, whose line says which prompt it is of, with the truth in place of its labels."""
    task, line = BeliefsTask(), int(entry.prompt.id.rpartition(" ")[2])
    asked = replace(entry.prompt, id=f"{task.name}/train/{(line - 1) // SAMPLES}")
    right = np.array([truth.so_far for truth in truths_of(task, asked, entry.rollout, encoder.decode)])
    return replace(entry, counts=replace(entry.counts, correct=right * entry.counts.sampled))


def learned(config: Config, encoder: Encoder, truth: bool) -> MPRM:
    """A reward model after its warm start."""
    corpus, model = find_records(config), build_mprm(config)
    assert corpus is not None
    for lesson, rate in zip(batches(config, corpus, encoder), falling_rates(config, len(corpus)), strict=False):
        model.train([with_true_labels(entry, encoder) for entry in lesson] if truth else lesson, rate)
    return model


def rows(corpus: Path, rollouts: list[int], updates: int, rate: float) -> Iterator[str]:
    """Of the table in Markdown, each as soon as it is there."""
    config = load_config(CONFIG, ["engine.kind=hf", "workers=inline", f"mprm.warm_start_learning_rate={rate}"])
    encoder = make_encoder(config)
    answers = held_out(config, encoder)
    yield "| rollouts | passes | from Monte-Carlo labels | from the truth |\n|---|---|---|---|"
    yield f"| 0 | | {answers.area(build_mprm(config))} | |"
    for number in rollouts:
        passes = max(1, round(updates * config.mprm.batch_size / number))
        with TemporaryDirectory() as folder, corpus.open(encoding="utf-8") as lines:
            part = Path(folder) / "first.jsonl"
            part.write_text("".join(islice(lines, number)), encoding="utf-8")
            read = {"warm_start": (str(part),), "warm_start_images": str(corpus.parent), "warm_start_epochs": passes}
            warm = config.model_copy(update={"mprm": config.mprm.model_copy(update=read)})
            areas = [answers.area(learned(warm, encoder, truth)) for truth in (False, True)]
        yield f"| {number:,} | {passes} | {areas[0]} | {areas[1]} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rollouts", type=int, nargs="+", default=[2000, 8000])
    parser.add_argument("--updates", type=int, default=750)
    parser.add_argument("--rate", type=float, default=1e-3, help="where the learning rate begins")
    options = parser.parse_args()
    for line in rows(options.corpus, options.rollouts, options.updates, options.rate):
        print(line, flush=True)
