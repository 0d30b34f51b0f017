"""Ray's folder: nobody else's, gone with its run, and refused where Ray cannot use it."""

from __future__ import annotations

import os
import platform
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

from rewards.files.held_folder import LOCK, left_behind, remove_left_behind
from rl.errors import ConfigError, LostWorkerError
from rl.workers.ray_cluster import TOKEN_PATH, join_ray, leave_ray
from rl.workers.ray_folder import TOKEN, RayFolder


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Whether Ray was started."""
    started: list[object] = []
    monkeypatch.setattr(ray, "init", lambda *arguments, **named: started.append(arguments))
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    return started


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize("length", [100, 60, 4000])
def test_a_folder_that_is_too_far_down(
    variable: str, length: int, no_ray: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = "/tmp/" + "a" * (length - 5)
    monkeypatch.setenv(variable, folder)
    with pytest.raises(ConfigError) as caught:
        join_ray()
    said = str(caught.value)
    assert said.startswith(f"{variable} is '{folder}', of {length} characters: ") and "RAY_TMPDIR" in said
    assert no_ray == []


@pytest.mark.parametrize("folder", ["/proc", "/nowhere", "/dev/null"])
def test_a_folder_that_cannot_be_written_to(folder: str, no_ray: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", folder)
    with pytest.raises(ConfigError, match=f"RAY_TMPDIR is '{folder}', which cannot be written to: "):
        join_ray()
    assert no_ray == []


def test_others_are_used(tmp_path: Path, no_ray: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    def start() -> None:
        join_ray()
        leave_ray()

    start()
    monkeypatch.setenv("TMPDIR", "/tmp")
    start()
    monkeypatch.setenv("TMPDIR", "/tmp/" + "a" * 95)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")  # is Ray's first choice
    start()
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv("RAY_ADDRESS", "auto")  # somebody else has started it
    start()
    assert len(no_ray) == 4


def test_a_start_has_a_folder_and_a_token_of_its_own(no_ray: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = set()
    for _ in range(2):
        join_ray()
        token = Path(os.environ[TOKEN_PATH])
        assert stat.S_IMODE(token.stat().st_mode) == 0o600 and stat.S_IMODE(token.parent.stat().st_mode) == 0o700
        tokens.add(token.read_text())
        leave_ray()
        assert not token.parent.exists() and TOKEN_PATH not in os.environ
    assert {len(token) for token in tokens} == {64} and len(tokens) == 2
    monkeypatch.setenv("RAY_ADDRESS", "auto")  # a cluster has its own
    join_ray()
    assert TOKEN_PATH not in os.environ
    leave_ray()


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_ray_that_does_not_come_up_is_started_once_more(
    failures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []

    def init(address: str, _temp_dir: str, **options: object) -> None:
        folders.append(Path(_temp_dir).parent)
        if len(folders) <= failures:
            raise RuntimeError("Timed out waiting\nfor file gcs_server_port")

    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.setattr(ray, "init", init)
    if failures == 2:
        with pytest.raises(LostWorkerError, match=r"^Ray does not start: Timed out waiting for file gcs_server_port$"):
            join_ray()
    else:
        join_ray()
    assert len(folders) == min(failures + 1, 2)
    assert [folder.exists() for folder in folders] == [False] * failures + [True] * (failures < 2)
    leave_ray()
    assert not any(folder.exists() for folder in folders)


DRIVER = """
import subprocess, sys, time
from pathlib import Path
from rl.workers.ray_folder import RayFolder
folder = RayFolder.make(Path(sys.argv[1]))
forever = [sys.executable, "-c", "import time; time.sleep(1000)"]
inherits = subprocess.Popen(forever, pass_fds=[folder.lock], start_new_session=True)
other = subprocess.Popen(forever, start_new_session=True)
folder.hand_over()
print(folder.path, inherits.pid, other.pid, flush=True)
time.sleep(1000)
"""


def test_what_a_killed_run_leaves_is_ended_and_removed(tmp_path: Path) -> None:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    place, inherits, other = driver.stdout.readline().split()
    assert left_behind(tmp_path) == []
    driver.kill()
    driver.wait()
    while Path(place).exists() or _lives(int(inherits)):
        time.sleep(0.05)
    assert _lives(int(other)), "it is none of Ray's"
    os.kill(int(other), signal.SIGKILL)


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_only_what_is_surely_left_is_removed(tmp_path: Path) -> None:
    def folder(name: str, host: str = platform.node(), mode: int = 0o700) -> Path:
        path = tmp_path / name
        path.mkdir()
        (path / LOCK).write_text(host)
        (path / TOKEN).write_text("")
        path.chmod(mode)
        return path

    left = folder("sieve-left1234")
    used = RayFolder.make(tmp_path)
    others = [
        folder("sieve-another1", host="another-machine"),
        folder("sieve-beginnin", host=""),
        folder("sieve-is_open1", mode=0o755),
        folder("somebodys-tmp1"),
        folder("sieve-longer-name"),
    ]
    (tmp_path / "sieve-no_lock1").mkdir(0o700)
    (tmp_path / "sieve-is_a_lin").symlink_to(folder("elsewhere"))
    (tmp_path / "sieve-is_afile").write_text("")
    there = set(tmp_path.iterdir())
    assert left_behind(tmp_path) == [left]
    remove_left_behind(tmp_path)
    assert set(tmp_path.iterdir()) == there - {left}
    assert all((other / TOKEN).exists() for other in others)
    used.hand_over()
    used.give_up()
    assert not used.path.exists()
