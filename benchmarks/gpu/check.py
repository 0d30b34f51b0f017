"""A check: what runs, in which stage, for how long at most, and what its numbers are held against."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXPECTED = Path(__file__).with_name("expected.json")
FOUND = "found: "
SMALL = 0.1
"""Numbers smaller than this are as far off as this one may be."""
LAST_WORDS = 40
"""That are shown of what a check that failed has said."""
SLOWER = 10
"""A CPU may take so many times as long."""


@dataclass(frozen=True)
class Check:
    """One function of this folder, in a process of its own.

    Attributes:
        name: Module and function.
        seconds: Longest wait.
        within: How far a number may be from a CPU's, as a share of it, or of `SMALL`; None where that says nothing.
        most: Largest value of those that are differences themselves, by how their names begin; ``""`` is for all.
        wants: Packages without which there is nothing to see.
        environment: Variables that are read as libraries are imported.
    """

    name: str
    seconds: float
    within: float | None = None
    most: dict[str, float] = field(default_factory=dict)
    wants: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, device: str, expected: dict[str, Any] | None = None) -> dict[str, Any]:
        """Its line: what it found, and whether that is right; where it is not, why."""
        line: dict[str, Any] = {"check": self.name, "device": device}
        if absent := [package for package in self.wants if find_spec(package) is None]:
            return line | {"ok": None, "why": f"not installed: {', '.join(absent)}"}
        hidden = {"CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "1"} if device == "cpu" else {}
        environment = (
            os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])} | hidden | self.environment
        )
        command = [sys.executable, "-m", __spec__.name, self.name, device]
        patience = self.seconds * (SLOWER if device == "cpu" else 1)
        began = time.monotonic()
        try:
            done = subprocess.run(
                command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=patience, check=False
            )
        except subprocess.TimeoutExpired:
            return line | {"ok": False, "why": f"no answer within {patience:g} s"}
        line["seconds"] = round(time.monotonic() - began, 1)
        answers = [text.removeprefix(FOUND) for text in done.stdout.splitlines() if text.startswith(FOUND)]
        if done.returncode or not answers:
            last = " ".join(done.stderr.split()[-LAST_WORDS:])
            return line | {"ok": False, "why": f"exit code {done.returncode}: {last}"}
        found = json.loads(answers[-1])
        wrong = [*self.too_large(found), *self.otherwise(found, expected)]
        return line | {"ok": not wrong, "found": found} | ({"why": "; ".join(wrong)} if wrong else {})

    def too_large(self, found: dict[str, Any]) -> list[str]:
        """Differences larger than allowed.

        >>> Check("a.b", 1, most={"logprobs": 1e-3}).too_large({"logprobs of one": 0.1, "loss": 3.0})
        ['logprobs of one is 0.1, allowed 0.001']
        """
        limits = [(name, limit) for start, limit in self.most.items() for name in found if name.startswith(start)]
        return [f"{name} is {found[name]:.3g}, allowed {limit:g}" for name, limit in limits if not found[name] <= limit]

    def otherwise(self, found: dict[str, Any], expected: dict[str, Any] | None) -> list[str]:
        """What is not as a CPU has found it; of differences nothing is expected.

        >>> Check("a.b", 1, within=0.01).otherwise({"loss": 2.0, "other": 1}, {"loss": 1.0, "other": 1.001})
        ['loss is 2, on a CPU 1']
        """
        if self.within is None or expected is None:
            return []
        expected = {name: value for name, value in expected.items() if not name.startswith((*self.most,))}
        missing = [f"{name} was not looked at" for name in expected if name not in found]
        return missing + [
            f"{name} is {found[name]:.6g}, on a CPU {there:.6g}"
            for name, there in expected.items()
            if name in found and not abs(found[name] - there) <= self.within * max(abs(there), SMALL)
        ]


if __name__ == "__main__":
    module, function = sys.argv[1].split(".")
    answer = getattr(import_module(f"benchmarks.gpu.{module}"), function)(sys.argv[2])
    print(f"\n{FOUND}{json.dumps(answer)}", flush=True)
    os._exit(0)  # whatever else is still running has been seen
