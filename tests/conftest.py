"""The order of the tests, how many examples hypothesis tries, Ctrl-C, and what a file leaves behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

EXAMPLES = float(os.environ.get("EXAMPLES", "1"))
"""So many times the examples that a test names: below 1 in `make test`, many in `make fuzz`."""

# Ray's workers would else stand back behind all that computes beside them: another test, or another's program.
os.environ.setdefault("RAY_worker_niceness", "0")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a script; tested runs would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # How long an example takes, or the making of one, is the machine's affair.
    many, slow = max(1, round(100 * EXAMPLES)), [HealthCheck.too_slow]
    settings.register_profile("sieve", max_examples=many, deadline=None, suppress_health_check=slow)
    settings.load_profile("sieve")


@pytest.fixture(autouse=True, scope="module")
def number_format_of_its_own() -> Iterator[None]:
    """Accelerate's is the whole process's, and that of the learner made last: the next file begins without one."""
    yield
    if (accelerate := sys.modules.get("accelerate.state")) is not None:
        accelerate.AcceleratorState._reset_state(reset_partial_state=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: of two processes that take a file at a time, neither is left with a long one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    for test in {id(test): test for test in map(_underlying, items)}.values():
        own: settings | None = getattr(test, "_hypothesis_internal_use_settings", None)
        if own is not None and EXAMPLES != 1:
            many = max(10, round(own.max_examples * EXAMPLES))
            test._hypothesis_internal_use_settings = settings(own, max_examples=many)


def _underlying(item: pytest.Item) -> Any:
    """The function of a test; of a method, the one in its class."""
    test = getattr(item, "obj", None)
    return getattr(test, "__func__", test)
