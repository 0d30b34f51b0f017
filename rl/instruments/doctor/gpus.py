"""GPUs: what the driver sees, what PyTorch can use of it, and whether they reach each other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from rl.instruments.doctor.examine import Finding
from rl.instruments.doctor.packages import REINSTALL_FOR_GPU, vllm_for_gpus

GIB = 2**30
# The oldest driver for each release of CUDA: NVIDIA, CUDA Compatibility, "Minor Version Compatibility".
OLDEST_DRIVER = {12: 525, 13: 580}
QUERY = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]


@dataclass(frozen=True)
class Gpus:
    """What there is.

    Attributes:
        names: Of the GPUs that the driver sees, with their memory.
        driver: The driver's version; empty where there is none.
        cuda: The release of CUDA that PyTorch was built for, for example ``13.0``; None without.
        usable: GPUs that PyTorch can use.
        hidden: Whether ``CUDA_VISIBLE_DEVICES`` leaves none.
        engine: Whether the installed vLLM uses GPUs.
    """

    names: tuple[str, ...]
    driver: str
    cuda: str | None
    usable: int
    hidden: bool
    engine: bool


def gpus() -> Finding:
    """The GPUs of this machine, and whether a run can use them."""
    import torch

    names, driver = read_driver()
    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return judge(
        Gpus(
            names=names or tuple(_seen_by_torch(usable)),
            driver=driver,
            cuda=torch.version.cuda,
            usable=usable,
            hidden=os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"),
            engine=vllm_for_gpus(),
        )
    )


def judge(there: Gpus) -> Finding:
    """What follows: a machine without GPUs is as good as one that can use all of them."""
    if not there.names:
        return Finding("ok", "none; everything runs on the CPU")
    found = f"{', '.join(there.names)}; driver {there.driver or 'unknown'}, CUDA {there.cuda or 'none'}"
    if there.usable and there.engine:
        return Finding("ok", found)
    if there.usable or there.cuda is None:
        part = "vLLM" if there.usable else "PyTorch"
        return Finding("warning", f"{found}; the installed {part} is for CPUs alone", REINSTALL_FOR_GPU)
    if there.hidden:
        return Finding("warning", f"{found}; CUDA_VISIBLE_DEVICES hides them", "unset CUDA_VISIBLE_DEVICES")
    unusable = f"{found}; PyTorch cannot use them"
    oldest = OLDEST_DRIVER.get(int(there.cuda.split(".")[0]))
    if oldest is None:
        return Finding("warning", unusable, "install NVIDIA's newest driver, then restart")
    mend = f"apt-get install nvidia-driver-{oldest}, or as your system has it; then restart"
    return Finding("warning", f"{unusable}: CUDA {there.cuda} wants driver {oldest} or newer", mend)


def read_driver(report: str | None = None) -> tuple[tuple[str, ...], str]:
    """Names with memory, and the driver's version, from nvidia-smi, or from what it once said; empty without it."""
    if report is None:
        if not shutil.which(QUERY[0]):
            return (), ""
        # It says why on stdout where the driver does not answer.
        report = subprocess.run(QUERY, capture_output=True, text=True, timeout=20, check=False).stdout
    rows = [row for line in report.splitlines() if len(row := line.split(", ")) == 3]
    names = tuple(f"{name} {int(memory) / 1024:.0f} GiB" if memory.isdecimal() else name for name, memory, _ in rows)
    return names, rows[0][2] if rows else ""


def links() -> Finding:
    """Whether every GPU reads every other's memory, and whether NCCL adds up a number over all of them."""
    import torch

    number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if number < 2:
        return Finding("ok", "no GPUs to link")
    pairs = list(permutations(range(number), 2))
    direct = sum(torch.cuda.can_device_access_peer(one, other) for one, other in pairs)
    ones = [torch.ones(1, device=f"cuda:{index}") for index in range(number)]
    torch.cuda.nccl.all_reduce(ones)
    version = ".".join(map(str, torch.cuda.nccl.version()))
    found = f"NCCL {version} over {number} GPUs; {direct} of {len(pairs)} directions without going through the CPU"
    if {value.item() for value in ones} != {float(number)}:
        return Finding("missing", f"{found}; the sum over them is wrong", "export NCCL_P2P_DISABLE=1")
    return Finding("ok", found)


def compiler() -> Finding:
    """What Triton compiles kernels of engine and learner with, where there are GPUs to run them: as it looks for it."""
    import torch

    named = os.environ.get("CC")
    found = shutil.which(named) if named else shutil.which("gcc") or shutil.which("clang")
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return judge_compiler(bool(read_driver()[0]) or torch.cuda.is_available(), found, header)


def judge_compiler(needed: bool, found: str | None, header: Path) -> Finding:
    """What follows from whether there are GPUs, a C compiler, and Python's headers."""
    if not needed:
        return Finding("ok", "no GPUs to compile for")
    absent = [name for name, there in (("a C compiler", found), (str(header), header.is_file())) if not there]
    if not absent:
        return Finding("ok", f"{found}, {header}")
    mend = f"apt-get install gcc python{sys.version_info.major}.{sys.version_info.minor}-dev, or as your system has it"
    return Finding("missing", f"{' and '.join(absent)} not there: Triton compiles kernels where they run", mend)


def _seen_by_torch(usable: int) -> list[str]:
    import torch

    seen = [torch.cuda.get_device_properties(index) for index in range(usable)]
    return [f"{gpu.name} {gpu.total_memory / GIB:.0f} GiB" for gpu in seen]
