"""``sieve train --dry-run``: the resolved configuration, who runs where, and what each GPU will hold."""

from __future__ import annotations

import math

import numpy as np
import yaml

from rl.config import Config
from rl.errors import ConfigError
from rl.instruments.planning.launch_plan import plan_lines
from rl.reward_models.credit import make_credit
from rl.reward_models.lessons import make_configured_selector
from rl.reward_models.mprm import make_label_rule
from rl.tasks.making import make_verifier

USUAL_GPU_GB = 80.0


def run(config: Config, gpu_gb: float | None, gpus_per_node: int) -> None:
    """Print it.

    Raises:
        ConfigError: An option is out of its range, a name stands for nothing, or the run does not fit the GPUs.
    """
    if gpu_gb is not None and not 0 < gpu_gb < math.inf:
        raise ConfigError(f"--gpu-gb {gpu_gb:g}: allowed is a finite number above 0")
    if gpus_per_node < 1:
        raise ConfigError(f"--gpus-per-node {gpus_per_node}: allowed is 1 or more")
    _find_own_parts(config)
    lines = list(plan_lines(config, gpu_gb or visible_gpu_gb(), gpus_per_node))
    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    for line in lines:
        print(line)


def _find_own_parts(config: Config) -> None:
    make_credit(config, np.zeros_like)
    make_verifier(config)
    make_configured_selector(config)
    make_label_rule(config)


def visible_gpu_gb() -> float:
    """Memory of this machine's first GPU, in GB; 80 where there is none."""
    import torch

    if not torch.cuda.is_available():
        return USUAL_GPU_GB
    return torch.cuda.get_device_properties(0).total_memory / 10**9
