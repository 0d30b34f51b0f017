"""A script that runs once by itself and once in two ranks, so that a test can compare what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tests.rl.runs import environment

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
    accelerator = {} if torch.cuda.is_available() else {"DS_ACCELERATOR": "cpu"}
    command = [sys.executable, *launcher, str(script), json.dumps(cases), str(folder)]
    done = subprocess.run(
        command,
        env=environment(OMP_NUM_THREADS="1", **accelerator),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def learn_all(learn: Callable[..., Any]) -> None:
    """What such a script does: ``learn(folder, **case)`` for one case after the other, among the same ranks.

    Each gives the model it made, of which the last one takes leave of the other ranks.
    """
    torch.use_deterministic_algorithms(True)
    cases, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    models = [learn(folder / name, **case) for name, case in cases.items()]
    models[-1].close()
