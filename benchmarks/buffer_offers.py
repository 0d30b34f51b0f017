"""How many annotated rollouts a second the streaming buffer takes in, scoring by BIS included.

A row of offline_selection.py:

    python benchmarks/buffer_offers.py 200000 10000 1000     # rollouts of the stream, capacity, batch

A stationary stream of VisualPRM400K's shape (5.6 steps, N = 16, 45 tokens a rollout), four sources, a tenth kept. It
prints the seconds that scoring and offering took; making the stream is not counted.
"""

from __future__ import annotations

import gc
import sys
import time

import numpy as np

from rewards.records import Annotated, Prompt, Rollout, StepCounts
from selection.buffer import StreamingBuffer
from selection.candidates import gather_candidates
from selection.config import SelectionConfig
from selection.selectors import make_selector

SOURCES, TOKENS = 4, 45


def make_stream(rollouts: int, seed: int = 0) -> list[Annotated]:
    """Rollouts of different prompts; 8 % of them turn wrong somewhere and stay so."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(3, 9, rollouts)
    first_wrong = np.where(generator.random(rollouts) < 0.08, generator.integers(0, 9, rollouts), 9)
    tokens = generator.integers(0, 32_000, (rollouts, TOKENS)).tolist()
    stream = []
    for place in range(rollouts):
        prompt = Prompt(f"prompt/{place}", f"source/{place % SOURCES}", "", (), "")
        rollout = Rollout(prompt.id, prompt.source, place, tuple(tokens[place]), (), "", (), 1.0, "stop", 0)
        right = np.where(
            np.arange(lengths[place]) < first_wrong[place], generator.binomial(16, 0.88, lengths[place]), 0
        )
        stream.append(Annotated(prompt, rollout, StepCounts(right.astype(float), np.full(len(right), 16.0), 0)))
    return stream


def seconds_to_offer(stream: list[Annotated], capacity: int, batch: int) -> float:
    """Score and offer the whole stream, a batch at a time."""
    selector = make_selector("bis", SelectionConfig(alpha=0.2))
    buffer = StreamingBuffer(SelectionConfig(keep_ratio=0.1, capacity=capacity, max_all_negative=1), seed=0)
    start = time.perf_counter()
    for first in range(0, len(stream), batch):
        offered = stream[first : first + batch]
        buffer.offer(offered, selector(gather_candidates(offered)))
    return time.perf_counter() - start


if __name__ == "__main__":
    rollouts, capacity, batch = map(int, sys.argv[1:])
    stream = make_stream(rollouts)
    gc.freeze()  # the stream is the benchmark's: in a run it would not be there to be searched for garbage
    print(seconds_to_offer(stream, capacity, batch))
