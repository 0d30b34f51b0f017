"""What makers say of their GPUs, by the names that ``--gpu`` takes: data sheets of NVIDIA's, as published."""

from __future__ import annotations

from dataclasses import dataclass

PCIE_4, PCIE_5 = 32, 64  # GB/s in one direction, 16 lanes


@dataclass(frozen=True)
class KnownGpu:
    """A GPU at its best.

    Attributes:
        device: A part of the name that PyTorch has for it.
        tflops: Dense bfloat16 operations a second on tensor cores, in 10^12.
        gb: Memory, in GB.
        bandwidth: Of this memory, GB/s.
        link: To other GPUs of a node in one direction, GB/s: NVLink, or PCIe where it has none.
        host: To the machine's own memory in one direction, GB/s.
    """

    device: str
    tflops: float
    gb: float
    bandwidth: float
    link: float
    host: float


KNOWN_GPUS = {
    "b200": KnownGpu("B200", 2250, 180, 8000, 900, PCIE_5),
    "h200": KnownGpu("H200", 989, 141, 4800, 450, PCIE_5),
    "h100-pcie": KnownGpu("H100 PCIe", 756, 80, 2000, 300, PCIE_5),
    "h100-nvl": KnownGpu("H100 NVL", 835, 94, 3900, 300, PCIE_5),
    "h100": KnownGpu("H100", 989, 80, 3350, 450, PCIE_5),
    "h800": KnownGpu("H800", 989, 80, 3350, 200, PCIE_5),
    "a100-80": KnownGpu("A100", 312, 80, 2039, 300, PCIE_4),
    "a100-40": KnownGpu("A100", 312, 40, 1555, 300, PCIE_4),
    "a800": KnownGpu("A800", 312, 80, 2039, 200, PCIE_4),
    "l40s": KnownGpu("L40S", 362, 48, 864, PCIE_4, PCIE_4),
    "l40": KnownGpu("L40", 181, 48, 864, PCIE_4, PCIE_4),
    "l4": KnownGpu("L4", 121, 24, 300, PCIE_4, PCIE_4),
    "a10g": KnownGpu("A10G", 70, 24, 600, PCIE_4, PCIE_4),
    "a10": KnownGpu("A10", 125, 24, 600, PCIE_4, PCIE_4),
    "rtx4090": KnownGpu("RTX 4090", 165, 24, 1008, PCIE_4, PCIE_4),
    "rtx3090": KnownGpu("RTX 3090", 71, 24, 936, PCIE_4, PCIE_4),
}
"""Of names of which one is a part of another, the longer one comes first."""


def tflops_of(device: str) -> float | None:
    """Of the GPU that PyTorch calls so; None of one that is not known."""
    return next((gpu.tflops for gpu in KNOWN_GPUS.values() if gpu.device in device), None)
