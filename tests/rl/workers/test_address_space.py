"""Processes that may have few addresses: refused in a line, where Ray would end them, or a library not load."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from rl.instruments.doctor.machine import addresses
from rl.workers.address_space import GIB, too_few_addresses
from tests.fixtures.runs import SIEVE, SMOKE

STARTS_RAY = "from rl.workers.ray_cluster import join_ray\njoin_ray()"


def with_addresses(gib: float, *command: object) -> subprocess.CompletedProcess[str]:
    """The end of a command that may have so many, as after `ulimit -v`."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (int(gib * GIB), resource.RLIM_INFINITY))

    words = [str(word) for word in (sys.executable, *command)]
    return subprocess.run(words, capture_output=True, text=True, preexec_fn=limit, timeout=240)


def test_a_library_that_cannot_be_loaded_for_want_of_addresses(tmp_path: Path) -> None:
    done = with_addresses(2, SIEVE, "train", SMOKE, f"output_dir={tmp_path / 'run'}")
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    said = done.stderr.splitlines()[-1]
    assert said.startswith("sieve: ") and "`ulimit -v` leaves a process 2.0 GiB of addresses" in said
    assert "Traceback" not in done.stderr


def test_ray_is_not_started_where_it_would_end_the_run() -> None:
    done = with_addresses(7, "-c", STARTS_RAY)
    assert done.stderr.splitlines()[-1].startswith("rl.errors.ConfigError: `ulimit -v` leaves a process 7.0 GiB")


def test_without_a_limit_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert not too_few_addresses() and addresses().state == "ok"
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (GIB, GIB))
    assert addresses().state == "missing" and addresses().mend == "ulimit -v unlimited"
