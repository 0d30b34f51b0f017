"""What it saves to read a prompt once for all of its rollouts: seconds and memory, packed beside rows of their own.

    python benchmarks/packed.py                            # a group of 8, a picture of 256 tokens, answers of 64
    python benchmarks/packed.py --prompts 16 --image 84 --answer 40 --checkpoint rl/tiny_policy/grid_policy
    python benchmarks/packed.py ... --continuations 3      # with continuations that the policy learns from, too

`rl.learning.learner.PolicyLearner.step` and `rewards.process_model.mprm.MPRM.score` on made-up rollouts, both ways in
turn in one process, new prompts each time. Unless a checkpoint is named the model is a Qwen2.5-VL with random weights,
made here, whose language model is, as in those that people train, much larger than its vision tower.

Seconds are those of the processor, which other programs on the machine hardly change, in one thread; memory is the most
that a call holds beside what was there before it. Wants Linux, torch, transformers, trl, accelerate, peft and datasets.
Prints a table of medians; ratios are medians of each repetition's.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText

from rewards.models.encoding import Encoder
from rewards.process_model.config import MPRMConfig
from rewards.process_model.mprm import MPRM
from rewards.records import Experience, Prompt, Rollout, StepSpan
from rl.config import Config
from rl.config.learner import LearnerConfig
from rl.config.sections import EngineConfig
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.learning.learner import PolicyLearner

PATCH = 28
"""Side of the square that becomes one picture token, in pixels."""
STEPS = 4
"""Of each answer, for the reward model."""
HEADER = """\
| | rows, s | packed, s | times as fast | rows, MiB | packed, MiB | memory |
|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Cost:
    """Of one call: seconds of the processor, and bytes beside what was held before."""

    seconds: float
    memory: float


def main() -> None:
    """Build, measure, print."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = arguments.checkpoint or make_checkpoint(arguments, Path(folder))
        print(HEADER, flush=True)
        calls = learners(checkpoint, arguments)
        print(row("a policy step", measure(calls, arguments)), flush=True)
        calls = reward_models(checkpoint, arguments)
        print(row("the MPRM scores", measure(calls, arguments)), flush=True)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", help="a Qwen2.5-VL with the shipped policy's vocabulary")
    parser.add_argument("--hidden", type=int, default=256, help="of the language model that is made: its width")
    parser.add_argument("--layers", type=int, default=6, help="and its layers")
    parser.add_argument("--prompts", type=int, default=1, help="of one step")
    parser.add_argument("--samples", type=int, default=8, help="rollouts of each prompt")
    parser.add_argument(
        "--image", type=int, default=448, help=f"side of the square picture, in pixels; {PATCH} a token"
    )
    parser.add_argument("--answer", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--continuations", type=int, default=0, help="of each rollout, from places all along it")
    parser.add_argument("--repetitions", type=int, default=5)
    return parser.parse_args()


def make_checkpoint(arguments: argparse.Namespace, folder: Path) -> str:
    """The shipped policy with a larger language model."""
    config = AutoConfig.from_pretrained(SHIPPED_POLICY)
    text = config.text_config
    text.hidden_size, text.intermediate_size = arguments.hidden, 4 * arguments.hidden
    text.num_hidden_layers, text.layer_types = arguments.layers, ["full_attention"] * arguments.layers
    text.num_attention_heads, text.num_key_value_heads = arguments.hidden // 64, max(1, arguments.hidden // 128)
    text.rope_parameters = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]}
    config.vision_config.out_hidden_size = arguments.hidden
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return str(folder)


def learners(checkpoint: str, arguments: argparse.Namespace) -> list[Callable[[int], Any]]:
    """A policy step on rollouts that a number stands for: of rows, and packed."""
    calls: list[Callable[[int], Any]] = []
    for pack in (False, True):
        encoder = make_encoder(arguments)
        rows = arguments.prompts * arguments.samples * (1 + arguments.continuations)
        config = Config(
            engine=EngineConfig(max_completion_tokens=arguments.answer, max_model_len=arguments.answer + 1),
            learner=LearnerConfig(pack=pack, micro_batch=rows, num_cpus=1),
        )
        learner = PolicyLearner(checkpoint, encoder, config)
        assert learner.packs() == pack
        calls.append(lambda seed, learner=learner, encoder=encoder: learner.step(made_up(encoder, arguments, seed)))
    return calls


def reward_models(checkpoint: str, arguments: argparse.Namespace) -> list[Callable[[int], Any]]:
    """The scores of those rollouts' steps, of rows and packed."""
    calls: list[Callable[[int], Any]] = []
    for pack in (False, True):
        encoder = make_encoder(arguments)
        model = MPRM(checkpoint, encoder, settings=MPRMConfig(pack=pack, micro_batch_tokens=10**6))

        def score(seed: int, model: MPRM = model, encoder: Encoder = encoder) -> Any:
            experiences = [e for e in made_up(encoder, arguments, seed) if not e.prefix]
            return model.score([e.prompt for e in experiences], [as_rollout(e) for e in experiences])

        calls.append(score)
    return calls


def make_encoder(arguments: argparse.Namespace) -> Encoder:
    """The shipped policy's, for larger pictures."""
    encoder = Encoder(str(SHIPPED_POLICY))
    encoder.processor.image_processor.size = {"shortest_edge": PATCH**2, "longest_edge": max(arguments.image, 84) ** 2}
    return encoder


def made_up(encoder: Encoder, arguments: argparse.Namespace, seed: int) -> list[Experience]:
    """Random pictures, random answers to them, and what goes on from the answers' beginnings."""
    generator = np.random.default_rng(seed)
    forbidden = {*encoder.placeholders, encoder.pad_token, *encoder.end_tokens, *encoder.tokenizer.all_special_ids}
    vocabulary = [token for token in range(len(encoder.tokenizer)) if token not in forbidden]
    experiences = []
    for number in range(arguments.prompts):
        pixels = generator.integers(0, 256, (arguments.image, arguments.image, 3), dtype=np.uint8)
        prompt = Prompt(f"{seed}/{number}", "made up", "red * 4 + square * 7 = ?", (Image.fromarray(pixels),), "")
        for _ in range(arguments.samples):
            answer = tuple(generator.choice(vocabulary, arguments.answer).tolist())
            places = np.linspace(1, arguments.answer - 1, arguments.continuations).astype(int)
            for prefix in ((), *(answer[:place] for place in places)):
                length = arguments.answer - len(prefix)
                tokens = tuple(generator.choice(vocabulary, length).tolist()) if prefix else answer
                # As of a sampler that found all tokens equally likely.
                logprobs = (-float(np.log(len(vocabulary))),) * length
                advantages = np.full(length, generator.normal())
                experiences.append(Experience(prompt, tokens, logprobs, advantages, 0, prefix))
    return experiences


def as_rollout(experience: Experience) -> Rollout:
    """Of `STEPS` steps."""
    ends = np.linspace(0, len(experience.token_ids), STEPS + 1).astype(int).tolist()
    steps = tuple(StepSpan(start, end) for start, end in pairwise(ends))
    prompt = experience.prompt
    return Rollout(prompt.id, prompt.source, 0, experience.token_ids, (), "", steps, 1.0, "stop", 0)


def measure(calls: Sequence[Callable[[int], Any]], arguments: argparse.Namespace) -> list[list[Cost]]:
    """Of each repetition what the calls cost, after one to warm up."""
    found = []
    for seed in range(arguments.repetitions + 1):
        turns = [0, 1] if seed % 2 else [1, 0]
        costs = {place: cost(calls[place], seed) for place in turns}
        found.append([costs[0], costs[1]])
    return found[1:]


def cost(call: Callable[[int], Any], seed: int) -> Cost:
    """What one call takes."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now
    before, started = resident("VmRSS"), time.process_time()
    call(seed)
    return Cost(time.process_time() - started, resident("VmHWM") - before)


def resident(name: str) -> int:
    """Bytes of this process in memory, now or at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def row(name: str, found: Sequence[Sequence[Cost]]) -> str:
    """Of the table."""
    rows, packed = zip(*found, strict=True)
    seconds = [f"{statistics.median(one.seconds for one in costs):.3g}" for costs in (rows, packed)]
    memory = [f"{statistics.median(one.memory for one in costs) / 2**20:.0f}" for costs in (rows, packed)]
    faster = statistics.median(a.seconds / b.seconds for a, b in found)
    smaller = statistics.median(b.memory / a.memory for a, b in found)
    return f"| {' | '.join([name, *seconds, f'{faster:.1f}', *memory, f'{smaller:.2f}'])} |"


if __name__ == "__main__":
    main()
