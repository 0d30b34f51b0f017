"""The learner alone, without Ray or vLLM: tokens a second, FLOPs utilisation and peak memory for a model's shape.

    python benchmarks/learner.py                                            # the tiny policy, on CPU or GPU
    python benchmarks/learner.py --shape 3b --gradient-checkpointing        # random weights; wants a GPU
    python benchmarks/learner.py --shape 7b --lora-rank 32 --dtype bfloat16 --image 672 --answer 512

`rl.learning.learner.PolicyLearner.step` on made-up rollouts, new prompts each time. Wants torch, transformers, trl,
accelerate, peft and datasets. Prints a table, then one line of JSON; medians over steps.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText

import rl
from rewards.models.backbone import device
from rewards.models.encoding import Encoder
from rewards.records import Experience, Prompt
from rl.config import Config
from rl.config.learner import LearnerConfig
from rl.config.sections import EngineConfig, PolicyConfig
from rl.instruments.planning.model_shape import KNOWN_SHAPES, ModelShape
from rl.learning.learner import PolicyLearner

TINY = Path(rl.__file__).parent / "tiny_policy" / "grid_policy"
SHAPES = {"tiny": None, "3b": "Qwen/Qwen2.5-VL-3B-Instruct", "7b": "Qwen/Qwen2.5-VL-7B-Instruct"}
PATCH = 28
"""Side of the square that becomes one image token, in pixels."""


def main() -> None:
    """Build, measure, print."""
    arguments = parse_arguments()
    peak = arguments.peak_tflops or matmul_tflops(arguments.dtype, arguments.threads)
    answer = arguments.answer
    config = Config(
        policy=PolicyConfig(dtype=arguments.dtype),
        engine=EngineConfig(max_completion_tokens=answer, max_model_len=answer + 1),
        learner=LearnerConfig(
            loss=arguments.loss,
            micro_batch=arguments.micro_batch,
            lora_rank=arguments.lora_rank,
            freeze_vision=arguments.freeze_vision,
            gradient_checkpointing=arguments.gradient_checkpointing,
            liger=arguments.liger,
            num_cpus=arguments.threads,
            peak_tflops=peak,
        ),
    )
    encoder = Encoder(str(TINY))
    encoder.processor.image_processor.size = {"shortest_edge": PATCH**2, "longest_edge": max(arguments.image, 84) ** 2}
    with tempfile.TemporaryDirectory() as folder:
        name = SHAPES[arguments.shape]
        checkpoint = make_checkpoint(KNOWN_SHAPES[name], Path(folder)) if name else str(TINY)
        learner = PolicyLearner(checkpoint, encoder, config)
        described = describe(arguments, checkpoint)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    result = described | measure(learner, encoder, arguments) | {"peak_tflops": peak}
    result["tflops"] = result["flops_utilisation"] * peak
    print_table(result)
    print(json.dumps(result))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=tuple(SHAPES), default="tiny")
    parser.add_argument("--prompts", type=int, default=4, help="prompts of one step")
    parser.add_argument("--samples", type=int, default=8, help="rollouts of each prompt")
    parser.add_argument("--question", type=int, default=16, help="words of a question, each one token")
    parser.add_argument("--image", type=int, default=84, help=f"side of the square image, in pixels; {PATCH} a token")
    parser.add_argument("--answer", type=int, default=40, help="tokens of the longest answer; the shortest has half")
    parser.add_argument("--loss", default="dapo")
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--lora-rank", type=int, default=0, help="0 for all weights")
    parser.add_argument("--freeze-vision", action="store_true")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--liger", action="store_true")
    parser.add_argument("--dtype", default="bfloat16" if torch.cuda.is_available() else "float32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="on a CPU")
    parser.add_argument("--steps", type=int, default=5, help="steps to measure")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before")
    parser.add_argument(
        "--peak-tflops", type=float, help="what the device can do; without it, what a large matrix product reaches"
    )
    return parser.parse_args()


def make_checkpoint(shape: ModelShape, folder: Path) -> str:
    """A Qwen2.5-VL of this shape with random weights, made where the learner will run, and saved in bfloat16."""
    with torch.device(device()):
        model = AutoModelForImageTextToText.from_config(make_config(shape), dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return str(folder)


def make_config(shape: ModelShape) -> Any:
    """A Qwen2.5-VL of this shape, with the tiny policy's special tokens."""
    config = AutoConfig.from_pretrained(TINY)
    language, vision, text, tower = shape.language, shape.vision, config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size = language.hidden, language.intermediate
    text.num_hidden_layers, text.layer_types = language.layers, ["full_attention"] * language.layers
    text.num_attention_heads, text.num_key_value_heads = language.heads, language.key_value_heads
    text.rope_parameters = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    text.vocab_size, text.max_position_embeddings = shape.vocabulary, 32768
    # In this family the smaller models have one matrix for embeddings and head.
    config.tie_word_embeddings = text.tie_word_embeddings = language.hidden < 3000
    tower.hidden_size, tower.intermediate_size, tower.depth = vision.hidden, vision.intermediate, vision.layers
    tower.num_heads, tower.out_hidden_size = vision.heads, language.hidden
    tower.fullatt_block_indexes = [7, 15, 23, 31]
    return config


def measure(learner: PolicyLearner, encoder: Encoder, arguments: argparse.Namespace) -> dict[str, float]:
    """Take the steps; rates of the whole step, the encoding of its prompts included."""
    found = []
    for step in range(arguments.warm_up + arguments.steps):
        experiences = make_experiences(encoder, arguments, step)
        answers = sum(len(experience.token_ids) for experience in experiences)
        started = time.perf_counter()
        metrics = learner.step(experiences)
        seconds = time.perf_counter() - started
        if step >= arguments.warm_up:
            rates = {"seconds": seconds, "tokens_per_second": metrics["tokens"] / seconds}
            rates |= {"answer_tokens_per_second": answers / seconds, "tokens": metrics["tokens"]}
            found.append(rates | {"flops_utilisation": metrics["flops_utilisation"]})
    medians = {name: statistics.median(one[name] for one in found) for name in found[0]}
    return medians | {"peak_memory_gib": peak_memory_gib()}


def make_experiences(encoder: Encoder, arguments: argparse.Namespace, step: int) -> list[Experience]:
    """Random pictures, and random answers of different lengths to them."""
    generator = np.random.default_rng(step)
    words = [word for word in ("red", "blue", "square", "circle") if len(encoder.tokens(word)) == 1]
    forbidden = {*encoder.placeholders, encoder.pad_token, encoder.end_token, *encoder.tokenizer.all_special_ids}
    vocabulary = np.array([token for token in range(len(encoder.tokenizer)) if token not in forbidden])
    side = arguments.image // PATCH * PATCH
    experiences = []
    for number in range(arguments.prompts):
        pixels = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
        question = " ".join(generator.choice(words, arguments.question))
        prompt = Prompt(f"{step}/{number}", "made up", question, (Image.fromarray(pixels),), "")
        for _ in range(arguments.samples):
            length = int(generator.integers(arguments.answer // 2, arguments.answer + 1))
            tokens = tuple(generator.choice(vocabulary, length).tolist())
            advantages = np.full(length, generator.normal())
            # As of a sampler that found all tokens equally likely.
            logprobs = (-float(np.log(len(vocabulary))),) * length
            experiences.append(Experience(prompt, tokens, logprobs, advantages, step))
    return experiences


def describe(arguments: argparse.Namespace, checkpoint: str) -> dict[str, Any]:
    """What is measured."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(checkpoint))
    chosen = (
        "shape",
        "dtype",
        "micro_batch",
        "lora_rank",
        "freeze_vision",
        "gradient_checkpointing",
        "image",
        "answer",
    )
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {arguments.threads} threads",
        **{name: getattr(arguments, name) for name in chosen},
        "rollouts": arguments.prompts * arguments.samples,
        "parameters": sum(weight.numel() for weight in model.parameters()),
    }


def matmul_tflops(dtype: str, threads: int, repeats: int = 5) -> float:
    """What this device reaches in a product of two large square matrices, in 10^12 operations a second."""
    side = 8192 if torch.cuda.is_available() else 1024
    torch.set_num_threads(threads)
    left, right = (torch.randn(side, side, device=device(), dtype=getattr(torch, dtype)) for _ in range(2))
    seconds = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        (left @ right)[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds) / 1e12


def peak_memory_gib() -> float:
    """The most that this process has held at once: on its GPU, or in its memory where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def print_table(result: dict[str, Any]) -> None:
    """One row."""
    print("| shape | device | weights, M | trained | rollouts | s a step | tokens/s | answer tokens/s ", end="")
    print("| TFLOP/s | FLOPs utilisation | peak GiB |\n|---|---|---|---|---|---|---|---|---|---|---|")
    trained = f"LoRA {result['lora_rank']}" if result["lora_rank"] else "all"
    trained += ", without vision" if result["freeze_vision"] else ""
    cells = [result["shape"], result["device"], f"{result['parameters'] / 1e6:,.1f}", trained, str(result["rollouts"])]
    cells += [f"{result['seconds']:.3g}", f"{result['tokens_per_second']:,.0f}"]
    cells += [f"{result['answer_tokens_per_second']:,.0f}", f"{result['tflops']:.3g}"]
    cells += [f"{result['flops_utilisation']:.1%}", f"{result['peak_memory_gib']:.1f}"]
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
