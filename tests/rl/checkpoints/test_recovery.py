"""Beginning anew: how often, from where, and what is remembered."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from rl.checkpoints.ledger import Ledger
from rl.checkpoints.recovery import recovering
from rl.config import Config
from rl.config.memory_keys import for_worker
from rl.errors import ConfigError, LostWorkerError, MemoryShortageError, WorkerError
from rl.files.run_files import METRICS_FILE
from rl.monitoring.monitor import open_writers
from rl.tasks.making import make_task
from rl.workers.ray_cluster import join_ray, leave_ray
from rl.workers.worker import Worker
from tests.fixtures.runs import PATIENCE, outliving, warm_ray


def losing(ledger: Ledger, steps: list[int]) -> Callable[[], str]:
    """A run whose attempts each get as far as one of these policy steps and then lose a worker; the one after them
    comes to its end."""

    def attempt() -> str:
        if not steps:
            return "done"
        ledger.furthest = max(ledger.furthest, steps.pop(0))
        raise LostWorkerError("mprm.update: the worker died")

    return attempt


def never() -> bool:
    return False


def test_a_run_begins_anew_as_long_as_it_gets_further(tmp_path: Path) -> None:
    ledger, said = Ledger.open(tmp_path), []
    assert recovering(losing(ledger, [1, 1, 2, 2]), 2, ledger, said.append, never) == "done"
    assert ledger.recoveries == Ledger.open(tmp_path).recoveries == 4, "written as soon as they are counted"
    numbers = ["(1 of 2)", "(2 of 2)", "(1 of 2)", "(2 of 2)"]
    assert said == [f"mprm.update: the worker died; beginning anew {number} …" for number in numbers]


def test_workers_lost_before_there_is_a_folder_are_no_reason_to_end(tmp_path: Path) -> None:
    ledger, said = Ledger.new(tmp_path / "run"), list[str]()
    assert recovering(losing(ledger, [0]), 1, ledger, said.append, never) == "done"
    assert ledger.recoveries == len(said) == 1 and not ledger.path.parent.exists()
    ledger.path.parent.mkdir()
    assert ledger.finished(1)["perf/recoveries"] == Ledger.open(ledger.path.parent).recoveries == 1


@pytest.mark.parametrize(("attempts", "calls"), [(0, 1), (2, 3)])
def test_without_a_new_step_it_stops_with_the_cause(attempts: int, calls: int, tmp_path: Path) -> None:
    steps = [5, 4, 5, 3]
    ledger = Ledger.open(tmp_path)
    ledger.furthest = 5
    with pytest.raises(LostWorkerError, match=r"^mprm\.update: the worker died(, after beginning anew 2 times .*)?$"):
        recovering(losing(ledger, steps), attempts, ledger, print, never)
    assert len(steps) == 4 - calls and ledger.recoveries == attempts


def test_a_run_that_is_to_stop_does_not_begin_anew(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    with pytest.raises(LostWorkerError, match=r"^mprm\.update: the worker died$"):
        recovering(losing(ledger, [1]), 3, ledger, print, lambda: True)


def test_out_of_memory_ends_the_run_the_second_time_with_the_key_to_lower(tmp_path: Path) -> None:
    """However far the run has come between the two: what did not fit will not fit."""
    ledger, said = Ledger.open(tmp_path), []

    def attempt() -> None:
        ledger.furthest += 1
        raise MemoryShortageError("learner.step (rank 1): out of memory: asked for 2 GiB", "learner")

    smaller = partial(for_worker, Config(learner={"micro_batch": 4}))
    told = "learner.step (rank 1): out of memory: asked for 2 GiB"
    keys = (
        "lower learner.micro_batch, set learner.gradient_checkpointing, lower engine.max_model_len, raise learner.ranks"
    )
    with pytest.raises(LostWorkerError) as ended:
        recovering(attempt, 3, ledger, said.append, never, smaller)
    assert str(ended.value).startswith(f"{told}, for the second time: {keys}")
    assert ledger.recoveries == 1 and said[0].startswith(f"{told}: {keys}") and "beginning anew (1 of 3)" in said[0]


@pytest.mark.parametrize(
    ("config", "worker", "keys"),
    [
        ({}, "engine 3", "lower engine.gpu_memory_utilization, or on a CPU engine.kv_cache_gib"),
        ({"engine": {"num_gpus": 0.5}}, "engine 0", "lower engine.gpu_memory_utilization"),
        ({"mprm": {"micro_batch_tokens": 4096}}, "mprm", "lower mprm.micro_batch_tokens, lower engine.max_model_len"),
        ({}, "learner", "set learner.optimizer to adamw_8bit, or set learner.lora_rank"),
        ({"mprm": {"optimizer": "adamw_8bit"}}, "mprm", "mprm.sharding fsdp2, or set mprm.lora_rank"),
        ({"learner": {"lora_rank": 8}}, "learner", "or raise learner.ranks with learner.sharding fsdp2"),
        ({}, "outcome model", "set outcome_model.checkpoint to a smaller model"),
    ],
)
def test_the_key_to_lower_is_that_of_the_worker(config: dict[str, Any], worker: str, keys: str) -> None:
    assert keys in for_worker(Config.model_validate(config), worker)


def test_what_a_new_worker_would_not_mend_is_not_tried_again(tmp_path: Path) -> None:
    ledger, causes = Ledger.open(tmp_path), [WorkerError("mprm.update: KeyError: 3"), ConfigError("seed: no")]
    for cause in causes:

        def attempt(cause: Exception = cause) -> None:
            raise cause

        with pytest.raises(type(cause), match=str(cause)):
            recovering(attempt, 3, ledger, print, never)
    assert ledger.recoveries == 0


def test_machines_that_took_their_room_with_them_are_said_to_have(tmp_path: Path) -> None:
    errors: list[Exception] = [LostWorkerError("mprm: gone"), ConfigError("needs 9 CPUs")]

    def attempt() -> None:
        raise errors.pop(0)

    with pytest.raises(LostWorkerError, match=r"^mprm: gone; and the run cannot begin anew: needs 9 CPUs$"):
        recovering(attempt, 3, Ledger.open(tmp_path), print, never)


def test_the_ledger_goes_on_in_the_next_attempt(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.recoveries, ledger.before = 2, 1000.0
    found = ledger.finished(7)
    assert found["perf/recoveries"] == 2 and 1000 < found["perf/wall_seconds"] < 1010
    ledger.finished(6)
    again = Ledger.open(tmp_path)
    assert (again.furthest, again.recoveries) == (7, 2) and 1000 < again.seconds < 1010
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.json"]
    (tmp_path / "ledger.json").write_text('{"furthest": 7}')
    with pytest.raises(ConfigError, match=r"ledger\.json is damaged"):
        Ledger.open(tmp_path)


def open_and_close(config: Config, run: Path, step: int | None) -> None:
    for writer in open_writers(config, run, make_task(config), step):
        writer.close()


def test_a_run_that_begins_anew_has_every_line_once(tmp_path: Path) -> None:
    """The last one was torn when the run was killed."""
    config = Config()
    lines = "".join(json.dumps({"step": step}) + "\n" for step in (0, 1, 2, 3))
    for step, kept in ((2, [0, 1, 2]), (0, [0]), (None, [])):
        (tmp_path / METRICS_FILE).write_text(lines + '{"step": 4, "rew')
        open_and_close(config, tmp_path, step)
        assert [json.loads(line)["step"] for line in (tmp_path / METRICS_FILE).read_text().splitlines()] == kept


def test_the_last_evaluation_is_there_once(tmp_path: Path) -> None:
    """It comes after the last checkpoint: a worker that is lost in it has the run evaluate anew."""
    config = Config(steps=2)
    written = [(1, "perf/step_seconds"), (1, "policy/accuracy"), (2, "perf/step_seconds"), (2, "policy/accuracy")]
    lines = [json.dumps({"step": step, name: 0.5}) + "\n" for step, name in written]
    (tmp_path / METRICS_FILE).write_text("".join(lines))
    open_and_close(config, tmp_path, 2)
    assert (tmp_path / METRICS_FILE).read_text() == "".join(lines[:3])


class Resident:
    """What lives in a worker of these tests."""

    def who(self) -> int:
        """Its process."""
        return os.getpid()

    def break_down(self, error: Exception) -> None:
        """Raises it."""
        raise error

    def nap(self, seconds: float) -> None:
        """Answers later."""
        time.sleep(seconds)


def start_worker() -> Worker:
    """One in a process of its own."""
    with warm_ray():
        join_ray(num_cpus=1)
    return Worker("mprm", Resident, 1, 0, deadline=120)


@pytest.mark.slow
def test_only_what_a_new_worker_might_mend_counts_as_lost() -> None:
    worker = start_worker()
    try:
        with pytest.raises(LostWorkerError, match=r"^mprm.break_down: RuntimeError: Connection closed by peer$"):
            worker.call("break_down", RuntimeError("Connection closed\nby peer"))
        for error in (ValueError("no"), FloatingPointError("nan"), OSError(28, "No space left on device")):
            with pytest.raises(WorkerError, match=rf"^mprm.break_down: {type(error).__name__}: ") as raised:
                worker.call("break_down", error)
            assert not isinstance(raised.value, LostWorkerError)
        pid, under_way = worker.call("who"), worker.start("nap", 600)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(LostWorkerError, match=r"^mprm.nap: the worker died: ") as dead:
            under_way.result()
        assert "\n" not in str(dead.value)
        with pytest.raises(LostWorkerError, match=r"^mprm.who: the worker died: "):
            worker.call("who")
    finally:
        leave_ray()


@pytest.mark.slow
def test_a_worker_that_hangs_is_let_go_of_and_made_anew(tmp_path: Path) -> None:
    hung: list[psutil.Process] = []

    def attempt() -> int:
        worker = start_worker()
        try:
            pid = worker.call("who")
            if not hung:
                hung.append(psutil.Process(pid))
                os.kill(pid, signal.SIGSTOP)
            answer = worker.start("nap", 0)
            answer.deadline = 2.0 if pid == hung[0].pid else PATIENCE
            answer.result()
            return pid
        finally:
            leave_ray()

    said: list[str] = []
    pid = recovering(attempt, 3, Ledger.open(tmp_path), said.append, never)
    assert said == ["mprm.nap: no answer within 2 s (deadline); beginning anew (1 of 3) …"]
    assert pid != hung[0].pid and outliving(hung) == [], "a process that is stopped is killed all the same"
