"""All that is looked at, in this order: what is cheap first, what starts something last."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rl.config import Config
from rl.instruments.doctor.examine import Check
from rl.instruments.doctor.gpus import compiler, gpus, links
from rl.instruments.doctor.machine import (
    addresses,
    cores,
    disk,
    left_by_runs,
    memory,
    open_files,
    ray_folder,
    shared_memory,
)
from rl.instruments.doctor.packages import (
    REINSTALL,
    packages,
    python,
    system,
)
from rl.instruments.doctor.starts import dashboard, engine_start, ray_start
from rl.monitoring.terminal import typed_command
from rl.workers.ray_cluster import kinds_of_workers
from rl.workers.ray_folder import place_of_ray

RUNS = Path("runs")
RUNS_GIB = 2.0


def all_checks(engine: bool = True) -> Sequence[Check]:
    """The checks of ``sieve doctor``; the one that starts an engine only if asked for."""
    reserved = sum(kind.number * kind.num_cpus for kind in kinds_of_workers(Config()))
    sieve = typed_command("sieve")
    elsewhere = f"{sieve} train CONFIG.yaml output_dir=FOLDER"
    without_vllm = f"{REINSTALL}; or without vLLM, slowly: {sieve} train CONFIG.yaml engine.kind=hf"
    address, ray = os.environ.get("RAY_ADDRESS"), typed_command("ray")
    start_anew = f"unset RAY_ADDRESS, or start a cluster at {address}: {ray} start --head" if address else ""
    checks = [
        Check("Python", python, mend=REINSTALL),
        Check("system", system),
        Check("packages", packages, mend=REINSTALL),
        Check("cores", partial(cores, reserved)),
        Check("memory", memory),
        Check("shared memory", shared_memory),
        Check("Ray's disk", ray_folder),
        Check("killed runs", partial(left_by_runs, place_of_ray()[1])),
        Check("disk of runs", partial(disk, RUNS, RUNS_GIB, elsewhere), mend=elsewhere),
        Check("open files", open_files),
        Check("addresses", addresses),
        Check("GPUs", gpus, 120, REINSTALL),
        Check("links of GPUs", links, 120, f"NCCL_DEBUG=INFO {sieve} doctor"),
        Check("C compiler", compiler, 120),
        Check("TensorBoard", dashboard, 120, REINSTALL),
        Check("Ray", ray_start, 120, start_anew),
    ]
    return [*checks, Check("engine", engine_start, 300, without_vllm)] if engine else checks
