"""What it costs to score every step of a rollout: one forward pass for all of them, against one for each prefix.

    python benchmarks/scoring.py                                      # the shipped policy's rollouts, all input formats
    python benchmarks/scoring.py --steps 12 --words 30                # longer ones, made up
    python benchmarks/scoring.py --checkpoint DIR --format chat       # another checkpoint
    python benchmarks/scoring.py --checkpoint RUN/checkpoints/step-40/mprm  # a saved MPRM, as it was

Both ways score the same rollouts with the same model, batching and packing; they take turns.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from rewards.models.encoding import Encoder
from rewards.models.runtime import Runtime
from rewards.process_model.config import Head, InputFormat, MPRMConfig
from rewards.process_model.mprm import MPRM, MPRM_FILE, open_mprm
from rewards.records import Annotated, Prompt, Rollout, SamplingRequest, StepCounts
from rewards.verification.verifiers import exact
from rl.engines.hf_engine import HfEngine
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.rollouts.making import make_rollouts
from rl.tasks.grid import GridTask

SAMPLES = 8
HEADER = """\
| format | steps | tokens | one pass, s | each prefix, s | times as fast | a step | rollouts/s | scores | differ by |
|---|---|---|---|---|---|---|---|---|---|"""
COLUMNS = """\
- steps, tokens: of a rollout, mean; without the prompt. a step: "times as fast" divided by the steps; the goal is 0.5.
- rollouts/s: in one pass.
- scores: their range; differ by: the largest difference between the two ways; the goal is 1e-4."""


@dataclass(frozen=True)
class Measured:
    """Seconds of one repetition after another, and the scores of all steps (S,)."""

    seconds: list[float]
    scores: np.ndarray


def main() -> None:
    """Sample or make up, measure each format, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkpoint", default=str(SHIPPED_POLICY), help="any vision-language checkpoint, or an MPRM's"
    )
    parser.add_argument("--rollouts", type=int, default=256, help=f"how many, {SAMPLES} of each prompt")
    parser.add_argument("--format", choices=get_args(InputFormat), nargs="+", help="all, unless given")
    parser.add_argument("--head", choices=get_args(Head), help="token, unless given")
    parser.add_argument("--steps", type=int, help="make up rollouts of as many steps, instead of sampling them")
    parser.add_argument("--words", type=int, default=30, help="of each made-up step")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    saved = (Path(arguments.checkpoint) / MPRM_FILE).is_file()
    if saved and (arguments.format or arguments.head):
        parser.error(f"--format and --head: {arguments.checkpoint} is a saved MPRM, which has its own")

    torch.set_num_threads(arguments.threads)
    count = max(1, arguments.rollouts // SAMPLES)
    prompts = [prompt for prompt in grid_prompts(count) for _ in range(SAMPLES)]
    texts = made_up(len(prompts), arguments.steps, arguments.words) if arguments.steps else sampled(count)
    for place, settings in enumerate(all_settings(arguments, saved)):
        mprm = open_mprm(
            arguments.checkpoint, Encoder(arguments.checkpoint), settings, Runtime(threads=arguments.threads)
        )
        if place == 0:
            print(conditions(arguments, mprm.settings.head, len(texts)), HEADER, sep="\n", flush=True)
        rollouts = [as_rollout(mprm.encoder, prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
        if not mprm.version:
            shake(mprm, prompts, rollouts)
        print(row(mprm, rollouts, *measure(mprm, prompts, rollouts, arguments.repetitions)), flush=True)
    print(COLUMNS)


def all_settings(arguments: argparse.Namespace, saved: bool) -> list[MPRMConfig]:
    """Of each MPRM to measure; a saved one is what it was."""
    if saved:
        return [MPRMConfig(learning_rate=3e-3)]
    return [
        MPRMConfig(
            learning_rate=3e-3,
            head=arguments.head or "token",
            input_format=input_format,
            likelihood=input_format == "rollout" and not arguments.steps,
        )
        for input_format in arguments.format or get_args(InputFormat)
    ]


def grid_prompts(count: int) -> list[Prompt]:
    task = GridTask()
    return [task.prompt("train", index) for index in range(count)]


def sampled(count: int) -> list[str]:
    """Answers of the shipped policy to as many prompts, `SAMPLES` to each."""
    prompts = grid_prompts(count)
    encoder = Encoder(str(SHIPPED_POLICY))
    requests = [SamplingRequest(prompt, n=SAMPLES, seed=index) for index, prompt in enumerate(prompts)]
    completions = HfEngine(str(SHIPPED_POLICY)).sample(requests)
    return [rollout.text for rollout in make_rollouts(prompts, completions, encoder, exact)]


def made_up(count: int, steps: int, words: int) -> list[str]:
    """Texts of numbered steps, each a line of random numbers: one token a word in the shipped policy's vocabulary."""
    generator = np.random.default_rng(0)
    numbers = generator.integers(0, 200, (count, steps, words - 2))
    lines = [[f"{1 + k % 9}: " + " ".join(map(str, line)) for k, line in enumerate(text)] for text in numbers]
    return ["\n".join([*text, "Answer: 1"]) for text in lines]


def as_rollout(encoder: Encoder, prompt: Prompt, text: str) -> Rollout:
    """A text as if a policy of this checkpoint had written it."""
    tokens = (*encoder.tokens(text), encoder.end_token)
    nothing = (0.0,) * len(tokens)
    return Rollout(prompt.id, prompt.source, 0, tokens, nothing, text, encoder.steps(tokens), 1.0, "stop", 0)


def shake(mprm: MPRM, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> None:
    """One update on random labels: a new head says the same of everything, and equal scores would prove nothing."""
    generator = np.random.default_rng(0)
    lessons = []
    for prompt, rollout in zip(prompts, rollouts, strict=True):
        correct = generator.integers(0, 2, len(rollout.steps))
        lessons.append(Annotated(prompt, rollout, StepCounts(correct, np.ones_like(correct), 0)))
    mprm.train(lessons)


def measure(
    mprm: MPRM, prompts: Sequence[Prompt], rollouts: Sequence[Rollout], repetitions: int
) -> tuple[Measured, Measured]:
    """In one pass, and each prefix on its own. The first repetition of each is not counted."""
    each = [(prompt, cut) for p, r in zip(prompts, rollouts, strict=True) for prompt, cut in prefixes(p, r)]
    work = (list(prompts), list(rollouts)), ([prompt for prompt, _ in each], [cut for _, cut in each])
    seconds: tuple[list[float], list[float]] = ([], [])
    scores = [np.zeros(0), np.zeros(0)]
    for _ in range(repetitions + 1):
        for way, (chosen, texts) in enumerate(work):
            start = time.perf_counter()
            entries = mprm.score(chosen, texts)
            seconds[way].append(time.perf_counter() - start)
            scores[way] = np.concatenate([entry.scores if way == 0 else entry.scores[-1:] for entry in entries])
    return Measured(seconds[0][1:], scores[0]), Measured(seconds[1][1:], scores[1])


def prefixes(prompt: Prompt, rollout: Rollout) -> list[tuple[Prompt, Rollout]]:
    """A rollout cut off after each of its steps."""
    return [
        (prompt, replace(rollout, token_ids=rollout.token_ids[: span.end], steps=rollout.steps[:count]))
        for count, span in enumerate(rollout.steps, 1)
    ]


def row(mprm: MPRM, rollouts: Sequence[Rollout], whole: Measured, each: Measured) -> str:
    """One format's line of the table."""
    seconds, others = float(np.median(whole.seconds)), float(np.median(each.seconds))
    steps = float(np.mean([len(rollout.steps) for rollout in rollouts]))
    tokens = float(np.mean([len(rollout.token_ids) for rollout in rollouts]))
    cells = (
        f"`{mprm.settings.input_format}`",
        f"{steps:.1f}",
        f"{tokens:.0f}",
        f"{seconds:.2f}",
        f"{others:.2f}",
        f"{others / seconds:.1f}",
        f"{others / seconds / steps:.2f}",
        f"{len(rollouts) / seconds:.0f}",
        f"{whole.scores.min():.2f} to {whole.scores.max():.2f}",
        f"{np.abs(whole.scores - each.scores).max():.0e}",
    )
    return "| " + " | ".join(cells) + " |"


def conditions(arguments: argparse.Namespace, head: str, rollouts: int) -> str:
    """What is measured, and on which machine."""
    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{processor()}, {arguments.threads} thread(s)"
    )
    kind = "made-up rollouts" if arguments.steps else "rollouts of the shipped policy"
    return (
        f"{rollouts} {kind}, head `{head}`, median of {arguments.repetitions}; "
        f"{device} of {os.cpu_count()} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}\n"
    )


def processor() -> str:
    """The processor's name, where the system tells it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


if __name__ == "__main__":
    main()
