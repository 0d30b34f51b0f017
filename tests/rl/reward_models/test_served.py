"""A served reward model in a run's place for its MPRM: found by the configuration, asked in the background."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rl.checkpoints.resumption import check_resumption
from rl.config import Config
from rl.errors import ConfigError, WorkerError
from rl.reward_models.served import CACHE, make_served
from rl.workers.ray_cluster import kinds_of_workers
from tests.fixtures.builders import a_prompt, a_rollout
from tests.fixtures.chat_server import chat_server


def elsewhere(endpoint: str, **keys: Any) -> Config:
    served = {"endpoint": endpoint, "model": "prm", "retries": 0, **keys}
    return Config.model_validate({"served": served, "mprm": {"until": 0}})


def reply(number: int, request: dict[str, Any]) -> tuple[int, str]:
    if number:
        return 500, "no more"
    return 200, json.dumps({"data": [{"data": [[0.75], [0.25]]}]})


def test_it_answers_like_the_mprms_worker_until_the_server_fails(tmp_path: Path) -> None:
    with chat_server(reply) as server:
        mprm = make_served(elsewhere(server.endpoint), str, tmp_path)
        assert mprm is not None
        asked = mprm.start("score", [a_prompt()], [a_rollout()])
        (scored,) = asked.result()
        assert scored.scores.tolist() == [0.75, 0.25] and (tmp_path / CACHE).exists()
        assert mprm.call("image_entropy", [a_prompt()]).tolist() == [0.0]
        with pytest.raises(
            WorkerError, match=f"^the served reward model: {server.endpoint}/pooling: server_error: .*no"
        ):
            mprm.call("score", [a_prompt("another")], [a_rollout()])


def test_nobody_is_served_unless_the_configuration_says_so(tmp_path: Path) -> None:
    assert make_served(Config(), str, tmp_path) is None


def test_no_place_is_taken_for_a_model_that_is_elsewhere() -> None:
    assert "mprm" in [kind.role for kind in kinds_of_workers(Config())]
    assert [kind.role for kind in kinds_of_workers(elsewhere("http://127.0.0.1:1"))] == ["learner", "engine"]


def test_it_neither_comes_nor_goes_when_a_run_is_resumed_but_may_move() -> None:
    own, served = Config.model_validate({"mprm": {"until": 0}}), elsewhere("http://127.0.0.1:1")
    check_resumption(served, elsewhere("http://127.0.0.1:2"))
    for was, now in ((own, served), (served, own)):
        with pytest.raises(ConfigError, match=r"served\.endpoint is (true|false): allowed with --resume"):
            check_resumption(was, now)


def test_the_key_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = elsewhere("http://127.0.0.1:1", api_key_env="SIEVE_PRM_KEY")
    monkeypatch.delenv("SIEVE_PRM_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"served\.api_key_env: the environment variable 'SIEVE_PRM_KEY' is not set"):
        make_served(config, str, tmp_path)
    monkeypatch.setenv("SIEVE_PRM_KEY", "sk-1")
    assert make_served(config, str, tmp_path) is not None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"mprm": {}}, "mprm.until is None: allowed with served.endpoint, a reward model elsewhere, is 0"),
        ({"mprm": {"until": 0, "checkpoint": "a/b"}}, "mprm.checkpoint is 'a/b': allowed with served.endpoint"),
        ({"mprm": {"until": 0, "beside": ["x"]}}, "mprm.beside is ['x']"),
        ({"mprm": {"until": 0, "warm_start": ["x"]}}, "mprm.warm_start is ['x']"),
        ({"mprm": {"until": 0}, "selection": {"selector": "bis_visual"}}, "selection.selector is 'bis_visual'"),
        ({"mprm": {"until": 0}, "served": {"model": ""}}, "served.model must name the model that it serves"),
        ({"mprm": {"until": 0}, "served": {"step_marker": ""}}, "served.step_marker is ''"),
        ({"served": {"endpoint": "http://me:secret@there"}}, "without a password"),
    ],
)
def test_what_does_not_fit_a_served_one_is_refused(keys: dict[str, Any], message: str) -> None:
    served = {"endpoint": "http://127.0.0.1:1", "model": "prm"} | keys.get("served", {})
    with pytest.raises(ValueError) as error:
        Config.model_validate(keys | {"served": served})
    assert message in str(error.value)
