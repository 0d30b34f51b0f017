"""What the processes of a run import, and what they do not: each waits for it before the first policy step."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys

def imported(*names):
    print(sorted({*names} & {*sys.modules}))

import rl.checkpoints.run_folder, rl.config
imported("ray", "torch", "transformers")
import rl.train
imported("datasets", "openai", "trl", "vllm")
import rl.engines.making, rl.engines.hf_engine, rl.engines.vllm_engine, rl.learning.learner, rl.reward_models.mprm
imported("openai", "vllm")
"""


@pytest.mark.slow
def test_no_process_imports_what_it_has_no_use_for() -> None:
    """Of those who read the configuration, the controller and, in one interpreter, all workers."""
    printed = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == ["[]"] * 3
