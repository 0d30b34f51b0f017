"""What stands in for Python in tests has its imports behind it, unless libraries would read something else in them."""

from __future__ import annotations

import subprocess

import pytest

from tests.fixtures.runs import warm_python

LOOK = "import sys; print('vllm' in sys.modules)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "is_warm"),
    [
        ("TORCHINDUCTOR_COMPILE_THREADS", True),
        ("TORCHINDUCTOR_CPP_DYNAMIC_THREADS", True),
        ("ATEN_CPU_CAPABILITY", False),
    ],
)
def test_what_vllm_sets_as_it_runs_makes_no_process_a_cold_one(
    variable: str, is_warm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = warm_python()
    monkeypatch.setenv(variable, "other")
    said = subprocess.run([python, "-c", LOOK], capture_output=True, text=True, timeout=120, check=True).stdout
    assert said == f"{is_warm}\n"
