"""How much of vLLM's pace is left to a run: `rl.engines.vllm_engine.VllmEngine` beside vLLM alone on the same requests.

    python benchmarks/engine.py
    python benchmarks/engine.py --profile     # and where the rest goes

A policy step of the quickstart: the rollouts, and a continuation from the end of each step of two in five. Both ways
in turn in one process with one model, whose caches are emptied before each turn as new weights would. vLLM alone is
given the very requests that the engine made, ready to go, and nothing is made of what it answers.

Seconds are those of the processor, which other programs on the machine hardly change. Prints a table of medians; ratios
are medians of each repetition's. Wants vLLM.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rewards.records import SamplingRequest
from rl.config import Config, load_config
from rl.engines.making import build_engine
from rl.engines.vllm_engine import VllmEngine
from rl.files.named_checkpoint import make_encoder
from rl.rollouts.making import rollout_requests
from rl.tasks.making import make_task

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
HEADER = """\
| | tokens | engine, tokens/s | vLLM alone, tokens/s | engine / vLLM alone |
|---|---|---|---|---|"""
SHOWN = 25
"""Functions of the profile that are printed."""


def main() -> None:
    """Start vLLM, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="print where the engine's seconds go, too")
    arguments = parser.parse_args()
    config = load_config(CONFIG, ["annotation.share=0.4"])
    engine = build_engine(config)
    assert isinstance(engine, VllmEngine)
    rollouts, continuations = step_requests(config, engine)
    print(HEADER, flush=True)
    for name, requests in (("rollouts", rollouts), ("continuations", continuations)):
        print(row(name, engine, requests, arguments.repetitions), flush=True)
    if arguments.profile:
        with cProfile.Profile() as profile:
            engine.sample(rollouts)
            engine.sample(continuations)
        pstats.Stats(profile).sort_stats("tottime").print_stats(SHOWN)
    engine.close()


def step_requests(config: Config, engine: VllmEngine) -> tuple[list[SamplingRequest], list[SamplingRequest]]:
    """Those of a policy step: rollouts, and continuations of a share of them, one from the end of each step."""
    task, encoder = make_task(config), make_encoder(config)
    prompts = [task.prompt("train", number) for number in range(config.learner.prompts)]
    requests = rollout_requests(prompts, config.learner.samples, config.seed)
    samples = zip(prompts, engine.sample(requests), strict=True)
    answers = [(prompt, sample.token_ids) for prompt, group in samples for sample in group]
    chosen = np.random.default_rng(0).random(len(answers)) < config.annotation.share
    continued = [
        SamplingRequest(prompt, tokens[: span.end], seed=number)
        for number, (prompt, tokens) in enumerate(answers)
        if chosen[number]
        for span in encoder.steps(tokens)
    ]
    return requests, continued


def row(name: str, engine: VllmEngine, requests: Sequence[SamplingRequest], repetitions: int) -> str:
    """Of the table."""
    given, tokens = requests_of_vllm(engine, requests)
    ways: list[Callable[[], Any]] = [
        lambda: engine.sample(requests),
        lambda: engine._llm.generate(*given, use_tqdm=False),
    ]
    found = []
    for repetition in range(repetitions):
        seconds = [0.0, 0.0]
        for way in (0, 1) if repetition % 2 else (1, 0):
            engine._renewed(0)
            started = time.process_time()
            ways[way]()
            seconds[way] = time.process_time() - started
        found.append(seconds)
    rates = [tokens / statistics.median(one[way] for one in found) for way in (0, 1)]
    ratio = statistics.median(alone / ours for ours, alone in found)
    return f"| {name} | {tokens} | {rates[0]:,.0f} | {rates[1]:,.0f} | {ratio:.2f} |"


def requests_of_vllm(engine: VllmEngine, requests: Sequence[SamplingRequest]) -> tuple[tuple[Any, Any], int]:
    """What the engine asks vLLM for, and how many tokens it is answered."""
    generate, given = engine._llm.generate, []

    def noted(inputs: Any, params: Any, **named: Any) -> Any:
        given.append((inputs, params))
        return generate(inputs, params, **named)

    engine._llm.generate = noted
    samples = engine.sample(requests)
    engine._llm.generate = generate
    return given[0], sum(len(sample.token_ids) for group in samples for sample in group)


if __name__ == "__main__":
    main()
