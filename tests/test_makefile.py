"""What `make` does, and what it refuses before it does anything."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def dry_make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What it would do, printed and not done."""
    command = ["make", "--dry-run", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("goal", ["check", "test", "fuzz"])
def test_tests_are_for_the_cpu_and_that_is_said_in_one_line(goal: str) -> None:
    refused = dry_make(goal, "EXTRA=gpu")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert (
        refused.stderr.count("\n") == 1
        and f"tests are for EXTRA=cpu, on a GPU machine, too: make {goal}" in refused.stderr
    )
    assert dry_make(goal).returncode == 0


@pytest.mark.parametrize("goal", ["setup", "smoke", "rehearsal", "quickstart", "lint", "docs"])
def test_all_else_is_for_gpu_machines_too(goal: str) -> None:
    assert dry_make(goal, "EXTRA=gpu").returncode == 0


@pytest.mark.parametrize(("extra", "device"), [("cpu", "cpu"), ("gpu", "cuda")])
def test_the_rehearsal_is_on_the_device_that_the_installation_is_for(extra: str, device: str) -> None:
    told = dry_make("rehearsal", f"EXTRA={extra}", "STAGES=machine kernels").stdout
    assert f"benchmarks/rehearsal.py --device {device} machine kernels" in told
