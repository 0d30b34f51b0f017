"""Who runs where; the workers themselves are tested in whole runs."""

from __future__ import annotations

import pytest

from rl.config import Config
from rl.errors import ConfigError
from rl.workers.ray_cluster import ALLOCATORS, Kind, environment_of, join_ray, kinds_of_workers
from rl.workers.worker import worker_environment


def test_every_process_and_every_gpu_is_counted() -> None:
    config = Config(
        engine={"count": 3, "num_cpus": 2, "num_gpus": 4, "tensor_parallel": 4},
        learner={"ranks": 8, "num_cpus": 1, "num_gpus": 1},
        mprm={"ranks": 2, "num_cpus": 0.5, "num_gpus": 1},
    )
    kinds = kinds_of_workers(config)
    assert kinds == [Kind("learner", 8, 1, 1), Kind("engine", 3, 2, 4), Kind("mprm", 2, 0.5, 1)]
    assert sum(kind.number * kind.num_gpus for kind in kinds) == 3 * 4 + 8 + 2


def test_an_outcome_model_is_placed_where_there_is_one() -> None:
    config = Config(outcome_model={"reward": "hybrid", "harvest": True, "num_cpus": 0.25})
    assert kinds_of_workers(config)[-1] == Kind("outcome_model", 1, 0.25, 0)


def test_without_a_gpu_of_its_own_a_worker_sees_the_first_one_and_ranks_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert worker_environment(0)["CUDA_VISIBLE_DEVICES"] == "3"
    assert worker_environment(0, ranks=2)["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in worker_environment(0.5, ranks=2)
    assert worker_environment(0, is_reserved=True)["CUDA_VISIBLE_DEVICES"] == "", "where others reserve it"
    assert "CUDA_VISIBLE_DEVICES" not in worker_environment(0.5, is_reserved=True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert worker_environment(0)["CUDA_VISIBLE_DEVICES"] == "0"


@pytest.mark.parametrize("role", ["learner", "engine", "mprm"])
def test_a_gpu_that_one_worker_reserves_is_seen_by_no_other(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be the first one: with 49 GB of the learner's on it, or 72 of an engine's."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    outcome_model = {"reward": "hybrid", "harvest": True}
    seen = {
        reserved: {
            kind.role: environment_of(config, kind).get("CUDA_VISIBLE_DEVICES") for kind in kinds_of_workers(config)
        }
        for reserved, config in (
            (False, Config(outcome_model=outcome_model)),
            (True, Config.model_validate({"outcome_model": outcome_model, role: {"num_gpus": 0.5}})),
        )
    }
    assert seen[False] == dict.fromkeys(("learner", "engine", "mprm", "outcome_model"), "0")
    assert seen[True] == dict.fromkeys(seen[True], "") | {role: None}, "Ray says which"


@pytest.mark.parametrize("variable", ["", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_memory_of_what_learns_grows_in_segments(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for an engine, which fills its GPU at once, and for a learner whose memory an engine reads."""
    for name in ALLOCATORS:
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "max_split_size_mb:64")
    shares = {"num_gpus": 0.3}
    for route, grow in (("object_store", {"learner", "mprm"}), ("ipc", {"mprm"})):
        config = Config.model_validate(
            {"engine": shares | {"weight_transfer": route}, "learner": shares, "mprm": shares}
        )
        grown = {
            kind.role
            for kind in kinds_of_workers(config)
            if environment_of(config, kind).get(ALLOCATORS[0]) == "expandable_segments:True"
        }
        assert grown == (set() if variable else grow)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "127.0.0.1:port", "127.0.0.1:99999"])
def test_a_cluster_that_is_not_there_is_told_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError, match=f"nobody answers at RAY_ADDRESS, {address}: ") as caught:
        join_ray()
    assert "\n" not in str(caught.value)
