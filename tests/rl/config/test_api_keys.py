"""Whom a run asks is said before it asks, with the name of the variable and never its value."""

from __future__ import annotations

import pytest

from rl.config import Config
from rl.config.api_keys import asked_elsewhere


def test_whom_a_run_asks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIEVE_KEY", "hunter2")
    judge = {"endpoint": "https://judge.example:8443/v1", "model": "m", "api_key_env": "SIEVE_KEY"}
    served = {"endpoint": "http://10.0.0.7/v1", "model": "m"}
    config = Config.model_validate({"judge": judge, "served": served, "mprm": {"until": 0}})
    asked = [
        "judge: rollouts and their pictures go to judge.example:8443, with the key in SIEVE_KEY",
        "served: rollouts and their pictures go to 10.0.0.7, with no key, for all on the way to read",
    ]
    assert list(asked_elsewhere(config)) == asked
    assert list(asked_elsewhere(config, ["served"])) == asked[1:]
    assert list(asked_elsewhere(Config())) == []
