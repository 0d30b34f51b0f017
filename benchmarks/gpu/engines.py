"""vLLM beside the learner, and all of the loop."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.learning import CHECKPOINT, SIZES, make_learner
from benchmarks.learner import make_experiences
from rewards.records import SamplingRequest
from rl.engines.vllm_engine import VllmEngine

ROOT = Path(__file__).parents[2]
MEMORY = 0.3


def engine(device: str) -> dict[str, float]:
    """In both number formats: what it says of its answers, and what the learner says; a seed twice; new weights; and,
    on a GPU, sleep between them."""
    found = {}
    for dtype in ("float32", "bfloat16"):
        sleeps = device == "cuda"
        made = VllmEngine(CHECKPOINT, max_model_len=128, dtype=dtype, gpu_memory_utilization=MEMORY, sleep=sleeps)
        found |= {f"{name} in {dtype}": value for name, value in _compared(made, dtype, sleeps, "weights").items()}
        made.close()
        del made
    return found


def adapters(device: str) -> dict[str, float]:
    """With adapters that travel alone."""
    made = VllmEngine(CHECKPOINT, max_model_len=128, dtype="bfloat16", gpu_memory_utilization=MEMORY, lora_rank=8)
    found = _compared(made, "bfloat16", False, "adapters", lora_rank=8)
    made.close()
    return found


def _compared(made: VllmEngine, dtype: str, sleeps: bool, route: str, **keys: Any) -> dict[str, float]:
    learner = make_learner(dtype, **keys)
    prompts = list({e.prompt.id: e.prompt for e in make_experiences(learner._encoder, SIZES, 0)}.values())
    requests = [SamplingRequest(prompt, n=4, seed=number) for number, prompt in enumerate(prompts)]
    found = {}
    for version in (0, 1):
        groups = made.sample(requests)
        rows = [(prompt, sample) for prompt, group in zip(prompts, groups, strict=True) for sample in group]
        said = learner.logprobs([prompt for prompt, _ in rows], [sample.token_ids for _, sample in rows])
        apart = [np.abs(np.array(one) - np.array(sample.logprobs)) for one, (_, sample) in zip(said, rows, strict=True)]
        found[f"logprobs, most, version {version}"] = float(max(row.max() for row in apart))
        found[f"logprobs, mean, version {version}"] = float(np.concatenate(apart).mean())
        again = [sample.token_ids for group in made.sample(requests) for sample in group]
        found[f"not the same by seed, version {version}"] = float(
            np.mean([tokens != sample.token_ids for tokens, (_, sample) in zip(again, rows, strict=True)])
        )
        if version == 0:
            if sleeps:
                made.sleep()
            learner.step(make_experiences(learner._encoder, SIZES, 0))
            if sleeps:
                torch.cuda.empty_cache()
                made.wake_up()
            if route == "adapters":
                made.load_adapters(learner.adapters(), 1)
            else:
                made.load_weights(learner.checkpoint_weights(), 1)
    return found


def loop(device: str) -> dict[str, float]:
    """`configs/smoke.yaml`: every part once."""
    sieve = Path(sys.executable).with_name("sieve")
    with tempfile.TemporaryDirectory() as folder:
        command = [str(sieve), "train", "configs/smoke.yaml", f"output_dir={folder}/run"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)  # why, in the check's line
    return {"exit code": 0.0}
