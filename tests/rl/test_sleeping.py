"""Engines that slept wake up to what learner and reward model have given back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rl.config import Config
from rl.loop import _send_weights
from rl.workers.pending import Ready

SHARED = {"max_staleness": 0, "learner": {"num_gpus": 0.3}, "mprm": {"num_gpus": 0.3}}


class Scribe:
    """In the place of all parts: writes down what they are asked for."""

    def __init__(self, name: str, told: list[str]) -> None:
        self._name, self._told = name, told

    def __getattr__(self, method: str) -> Any:
        def answer(*arguments: Any) -> list[Ready[None]]:
            self._told.append(" ".join([self._name, method, *map(str, arguments)]))
            return [Ready(None)]

        return answer


@pytest.mark.parametrize("enabled", [True, False])
def test_memory_is_given_back_before_the_engines_wake_up(enabled: bool) -> None:
    told: list[str] = []
    names = ("learner", "mprm", "engines", "transfer", "stream")
    parts: Any = SimpleNamespace(**{name: Scribe(name, told) for name in names})
    sections = SHARED | {"mprm": {"enabled": enabled}, "annotation": {"share": 0.5 * enabled}}
    sleeps = Config.model_validate(sections | {"engine": {"num_gpus": 0.4, "sleep": True}})
    _send_weights(sleeps, parts, 3)
    before = ["learner call release_memory", *["mprm call release_memory"] * enabled, "engines start_all wake_up"]
    assert told == [*before, "transfer send 3", "stream weights_sent 3"]
    told.clear()
    _send_weights(Config(), parts, 3)
    assert told == ["transfer send 3", "stream weights_sent 3"]
