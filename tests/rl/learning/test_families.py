"""Every family of models that Sieve is said to work with, in its own classes with tiny random weights: each can do what
a run asks of it. With vLLM the same is seen by `benchmarks/families.py`, and here for three families by
`test_policy_families`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.family_checks import CHECKS, CLOSE
from tests.fixtures.tiny_families import ALL_FAMILIES, write_tiny_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=ALL_FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_checkpoint(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_a_family_can(check: Callable[[str, Path], float], checkpoint: str, tmp_path: Path) -> None:
    assert check(checkpoint, tmp_path / "saved") < CLOSE
