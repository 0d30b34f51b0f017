"""A script that runs once by itself and once in two ranks, so that a test can compare what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
TWO_RANKS = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def run_alone(script: Path, cases: Mapping[str, Any], folder: Path) -> None:
    """Run the script in one process: it is given the cases as JSON, and makes ``folder/CASE`` of each."""
    _run((), script, cases, folder)


def run_in_two_ranks(script: Path, cases: Mapping[str, Any], folder: Path) -> None:
    """The same in two processes that PyTorch's launcher tells of one another."""
    _run(TWO_RANKS, script, cases, folder)


def _run(launcher: tuple[str, ...], script: Path, cases: Mapping[str, Any], folder: Path) -> None:
    for name in cases:
        (folder / name).mkdir(parents=True)
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    if not torch.cuda.is_available():
        environment["DS_ACCELERATOR"] = "cpu"
    command = [sys.executable, *launcher, str(script), json.dumps(cases), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
