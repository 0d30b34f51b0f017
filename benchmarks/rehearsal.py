"""What only a GPU can show, check by check: on the day there is one, this says in ten minutes what holds there.

    python benchmarks/rehearsal.py                              # all of it
    python benchmarks/rehearsal.py learner kernels              # some stages
    python benchmarks/rehearsal.py --device cpu                 # the same code, as far as a CPU goes
    python benchmarks/rehearsal.py --device cpu --expect        # and what it finds there is what a GPU is to find, too

Every check is a process of its own with a time-out, and a line of JSON in ``--results``, written as soon as it is
there, so that a run that is cut off still tells. Exit code 1 if one of them is not as it should be. What is not
installed is left out, and said. On a CPU Triton's kernels are interpreted, and what only GPUs have is stood in for
(`benchmarks/gpu/stand_ins.py`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu.check import EXPECTED, Check  # noqa: E402

SAME = {"difference": 1e-4}
ROUNDED = {"difference": 2e-2}
STAGES: dict[str, tuple[Check, ...]] = {
    "machine": (Check("machine.described", 120, most={"not ok": 0}),),
    "learner": (
        # A GPU multiplies float32 without TF32 unless told to: the same numbers but for rounding.
        Check("learning.float32", 120, within=1e-3, most=SAME),
        Check("learning.bfloat16", 120, within=5e-2, most=ROUNDED),
        Check("learning.adapters", 120, within=5e-2, most=ROUNDED),
        Check("learning.offloading", 120, most=ROUNDED),
        Check("learning.ppo", 180, within=1e-2, most=SAME),
        Check("learning.reward_model", 120, within=1e-2, most=SAME),
    ),
    "one_rank": (Check("learning.one_rank", 120, within=1e-3, most=SAME),),
    "transfer": (
        Check("transfer.ipc", 150, most={"different": 0, "bytes kept": 0, "exit code": 0}, wants=("vllm",)),
        Check("transfer.streams", 120, most={"different": 0}, wants=("vllm",)),
    ),
    "memory": (
        Check("memory.sleep", 90, most={"difference": 0, "not given back": 0.3, "the other's": 0}, wants=("vllm",)),
        Check("memory.learner", 240, most={"over the plan": 0.1}),
    ),
    "kernels": (
        Check("kernels.fused_head", 120, most={"": 1e-4}),
        Check("kernels.liger", 120, most={"": 1e-4}, wants=("liger_kernel",)),
        Check("kernels.sampler", 120, most={"logprobs": 1e-4, "not drawn": 0, "drawn again": 0.5}, wants=("vllm",)),
        Check("kernels.adapters", 120, most={"": 1e-2}, wants=("vllm",)),
    ),
    "engine": (
        Check("engines.engine", 300, most={"logprobs, mean": 2e-2, "not the same": 0.1}, wants=("vllm",)),
        Check("engines.adapters", 240, most={"logprobs, mean": 2e-2, "not the same": 0.1}, wants=("vllm",)),
    ),
    "loop": (Check("engines.loop", 600, most={"exit code": 0}, wants=("vllm", "ray")),),
}
"""Cheapest truth first."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the stages; the exit code."""
    arguments = parse(words)
    expected = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    lines = []
    for line in run(arguments.stages or list(STAGES), arguments.device, {} if arguments.expect else expected):
        lines.append(line)
        told = json.dumps(line)
        print(told, flush=True)
        with arguments.results.open("a") as file:
            file.write(f"{told}\n")
    if arguments.expect:
        found = {line["check"]: line["found"] for line in lines if line["ok"] and compared(line["check"])}
        EXPECTED.write_text(json.dumps(expected | found, indent=1, sort_keys=True) + "\n")
    states = [line["ok"] for line in lines]
    print(f"{states.count(True)} as they should be, {states.count(False)} not, {states.count(None)} not looked at")
    return int(False in states)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; all unless given")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--results", type=Path, default=Path("rehearsal.jsonl"), help="where lines are added")
    parser.add_argument("--expect", action="store_true", help="of a CPU: write what is found as what a GPU is to find")
    arguments = parser.parse_args(words)
    if unknown := sorted({*arguments.stages} - STAGES.keys()):
        parser.error(f"there is no stage {', '.join(unknown)}; allowed are {', '.join(STAGES)}")
    if arguments.expect and arguments.device != "cpu":
        parser.error("--expect is for --device cpu")
    return arguments


def run(stages: Sequence[str], device: str, expected: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The lines, one after another."""
    for stage in stages:
        for check in STAGES[stage]:
            yield {"stage": stage} | check.run(device, expected.get(check.name))


def compared(name: str) -> bool:
    """Whether a check's numbers are held against those of a CPU."""
    return any(check.name == name and check.within is not None for stage in STAGES.values() for check in stage)


if __name__ == "__main__":
    raise SystemExit(main())
