"""``sieve doctor``: each check finds what is there, and what is wrong with it, and the command that mends it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from rewards.files.held_folder import LOCK, hold_new_folder
from rl.commands.doctor import as_lines, as_table
from rl.instruments.doctor.checks import all_checks
from rl.instruments.doctor.examine import Check, Finding, examine
from rl.instruments.doctor.gpus import (
    Gpus,
    compiler,
    gpus,
    judge,
    judge_compiler,
    links,
    read_driver,
)
from rl.instruments.doctor.machine import (
    GIB,
    cores,
    disk,
    left_by_runs,
    memory,
    open_files,
    own_cgroups,
    ray_folder,
    shared_memory,
)
from rl.instruments.doctor.packages import packages, python, system
from tests.fixtures.runs import PATIENCE, sieve

NAMES = [check.name for check in all_checks()]
H200 = Gpus(("NVIDIA H200 140 GiB",), "580.95.05", "13.0", usable=1, hidden=False, engine=True)


def breaks() -> Finding:
    print("much that nobody reads")
    raise RuntimeError("no such\nthing")


def dies() -> Finding:
    print("Illegal instruction", flush=True)
    os._exit(3)


def hangs(folder: Path) -> Finding:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (folder / "child").write_text(str(child.pid))
    time.sleep(600)
    return Finding("ok", "never")


def ends(process: int) -> bool:
    """Whether a process that was killed is soon no more, or only waits for a parent that is no more to count it."""
    for _ in range(100):
        try:
            if psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.1)
    return False


def names(folder: Path) -> Finding:
    return Finding("ok", " ".join(path.name[:6] for path in folder.iterdir()))


@pytest.mark.slow
def test_a_run_can_start_here() -> None:
    """Ray and vLLM included: the machine that runs these tests has what they need."""
    done = sieve("doctor", "--json")
    report = json.loads(done.stdout)
    found = {check["name"]: check for check in report["checks"]}
    assert done.returncode == 0 and report["can_start"] and list(found) == NAMES, done.stdout
    for name in ("Python", "system", "packages", "TensorBoard", "Ray", "engine"):
        assert found[name]["state"] == "ok" and found[name]["mend"] == "", found[name]
    assert "torch 2." in found["packages"]["found"] and "CPUs" in found["Ray"]["found"]
    assert "tokens" in found["engine"]["found"]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_is_missing_is_said_in_lines_and_by_the_exit_code(tmp_path: Path) -> None:
    done = sieve("doctor", "--no-engine", RAY_ADDRESS="127.0.0.1:9")
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and lines[-1] == "a run cannot start, for want of: Ray"
    place = next(index for index, line in enumerate(lines) if line.startswith("missing  Ray "))
    assert "nobody answers at RAY_ADDRESS, 127.0.0.1:9" in lines[place]
    assert "to mend it: unset RAY_ADDRESS" in lines[place + 1]
    assert [name for name in NAMES if not any(name in line for line in lines)] == ["engine"]
    assert done.stderr == ""


@pytest.mark.slow
def test_a_check_that_raises_dies_or_hangs_is_its_own_finding(tmp_path: Path) -> None:
    broken = examine(Check("breaks", breaks, deadline=PATIENCE, mend="make"))
    assert broken == Finding("missing", "RuntimeError: no such thing", "make")
    died = examine(Check("dies", dies, deadline=PATIENCE, mend="make"))
    assert died == Finding("missing", "it died with exit code 3: Illegal instruction", "make")
    for deadline in (5, 60, PATIENCE):  # the first one at which it has got as far as to start its child
        late = examine(Check("hangs", partial(hangs, tmp_path), deadline=deadline, mend="make"))
        if (tmp_path / "child").exists():
            break
    assert late == Finding("missing", f"no answer within {deadline} s (deadline)", "make")
    assert ends(int((tmp_path / "child").read_text()))
    assert examine(Check("works", partial(open_files, 1), deadline=PATIENCE)).state == "ok"


def test_what_a_killed_doctor_left_goes_with_the_next_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With the first check a process makes a folder for all of its own that it begins.
    assert examine(Check("works", partial(open_files, 1), deadline=PATIENCE)).state == "ok"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, lock = hold_new_folder(tmp_path)
    os.close(lock)
    assert examine(Check("sees", partial(names, tmp_path), deadline=PATIENCE, mend="make")).found == "sieve-"
    assert not left.exists() and not list(tmp_path.iterdir())


def test_packages_are_compared_with_what_is_asked_for() -> None:
    assert packages(["numpy>=1", "rich"]).state == "ok"
    other = packages(["numpy==0.1", "rich"])
    assert other.state == "warning" and "numpy is " in other.found and "wanted ==0.1" in other.found
    absent = packages(["numpy==0.1", "no-such-package-anywhere==2.0"])
    assert absent.state == "missing" and "no-such-package-anywhere==2.0 is not there" in absent.found
    assert other.mend.startswith("make -B setup") and absent.mend == other.mend


def test_python_and_system() -> None:
    assert python(">=3.11").state == "ok" and sys.executable in python(">=3.11").found
    assert python(">=99").state == "missing" and "wanted >=99" in python(">=99").found
    assert system("linux").state == "ok" and system("darwin").state == "missing"


def test_limits_of_the_machine_are_limits(tmp_path: Path) -> None:
    assert cores(1, []).state == "ok" and memory(0.01, []).state == "ok"
    assert cores(10_000, []).state == "missing" and "engine.num_cpus" in cores(10_000, []).mend
    assert memory(1e9, []).state == "warning"
    assert shared_memory(tmp_path, 0).state == "ok" and "--shm-size" in shared_memory(tmp_path, 1e9).mend
    assert open_files(1).state == "ok" and open_files(10**9).mend.startswith("ulimit")


def test_limits_of_the_control_group_are_limits(tmp_path: Path) -> None:
    own = tmp_path / "slurm" / "job"
    own.mkdir(parents=True)
    (tmp_path / "membership").write_text("1:cpu:/elsewhere\n0::/slurm/job\n")
    folders = own_cgroups(tmp_path, tmp_path / "membership")
    assert folders == [own, tmp_path / "slurm", tmp_path]
    assert own_cgroups(tmp_path, tmp_path / "no_such_file") == []
    (own / "cpu.max").write_text("max 100000\n")
    (own / "memory.max").write_text("max\n")
    assert cores(1, folders).state == "ok" and memory(0.01, folders).state == "ok"
    (tmp_path / "slurm" / "cpu.max").write_text("50000 100000\n")
    assert cores(1, folders) == Finding("missing", "0.5; the quickstart reserves 1", cores(1, folders).mend)
    (tmp_path / "slurm" / "memory.max").write_text(f"{3 * GIB}\n")
    (tmp_path / "slurm" / "memory.current").write_text(f"{GIB}\n")
    (tmp_path / "slurm" / "memory.stat").write_text(f"anon 4096\ninactive_file {GIB // 2}\n")
    found = memory(6, folders)
    assert found.state == "warning" and found.found.startswith("2.5 of ")


def test_disks_are_tried_and_left_as_they_were(tmp_path: Path) -> None:
    assert disk(tmp_path / "not" / "yet", 0, "elsewhere").state == "ok" and list(tmp_path.iterdir()) == []
    assert disk(tmp_path, 1e9, "elsewhere") == Finding("warning", disk(tmp_path, 1e9, "").found, "elsewhere")
    (tmp_path / "file").write_text("")
    unwritable = disk(tmp_path / "file" / "runs", 0, "elsewhere")
    assert unwritable.state == "missing" and "Not a directory" in unwritable.found and unwritable.mend == "elsewhere"
    assert ray_folder(tmp_path, 0, fullest=1).state == "ok"
    assert "RAY_TMPDIR" in ray_folder(tmp_path, 0, fullest=0).mend


def test_what_killed_runs_left_is_told_with_the_command_that_removes_it(tmp_path: Path) -> None:
    assert left_by_runs(tmp_path).state == "ok" and left_by_runs(tmp_path / "nowhere").state == "ok"
    left = tmp_path / "sieve-abcdefgh"
    left.mkdir(0o700)
    (left / LOCK).write_text(platform.node())
    found = left_by_runs(tmp_path)
    assert (found.state, found.mend) == ("warning", f"rm -r {left}") and "1 folder(s)" in found.found


@pytest.mark.parametrize(
    ("there", "state", "told", "mend"),
    [
        (Gpus((), "", "13.0", usable=0, hidden=False, engine=False), "ok", "CPU", ""),
        (H200, "ok", "H200 140 GiB; driver 580.95.05, CUDA 13.0", ""),
        (Gpus(H200.names, "580", "13.0", 1, False, engine=False), "warning", "vLLM is for CPUs", "EXTRA=gpu"),
        (Gpus(H200.names, "580", None, 0, False, engine=True), "warning", "PyTorch is for CPUs", "EXTRA=gpu"),
        (Gpus(H200.names, "580", "13.0", 0, True, engine=True), "warning", "hides them", "unset CUDA_VISIBLE_DEVICES"),
        (
            Gpus(H200.names, "550.1", "13.0", 0, False, engine=True),
            "warning",
            "wants driver 580",
            "nvidia-driver-580",
        ),
        (Gpus(H200.names, "550.1", "99.0", 0, False, engine=True), "warning", "cannot use them", "newest driver"),
    ],
)
def test_gpus_that_cannot_be_used_are_told_with_the_reason(there: Gpus, state: str, told: str, mend: str) -> None:
    found = judge(there)
    assert found.state == state and told in found.found and mend in found.mend and bool(mend) == bool(found.mend)


def test_the_driver_is_read_from_what_nvidia_smi_prints() -> None:
    report = "NVIDIA H200, 143771, 580.95.05\nNVIDIA GB10, [N/A], 580.95.05\n"
    assert read_driver(report) == (("NVIDIA H200 140 GiB", "NVIDIA GB10"), "580.95.05")
    assert read_driver("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n") == ((), "")


def test_links_hold_or_are_not_needed() -> None:
    """On a machine with several GPUs NCCL adds up a number over them; with one or none nothing is to be linked."""
    assert links().state == "ok"


def test_a_gpu_wants_a_compiler_and_pythons_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them engine and learner die in their first kernel."""
    header = tmp_path / "Python.h"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("rl.instruments.doctor.gpus.read_driver", lambda: (("NVIDIA H200",), "580"))
    monkeypatch.delenv("CC", raising=False)
    assert (
        compiler().state == "missing" and "C compiler" in compiler().found and "apt-get install gcc" in compiler().mend
    )
    for there in ("clang", "gcc"):
        (tmp_path / there).write_text("")
        (tmp_path / there).chmod(0o755)
        assert "C compiler" not in compiler().found
    monkeypatch.setenv("CC", "no-such-compiler")
    assert "C compiler" in compiler().found
    without = judge_compiler(True, "/usr/bin/gcc", header)
    assert without.state == "missing" and "Python.h" in without.found and "-dev" in without.mend
    header.write_text("")
    assert judge_compiler(True, "/usr/bin/gcc", header).state == "ok"
    assert judge_compiler(False, None, tmp_path / "absent").state == "ok", "nothing is compiled on a CPU"
    assert {gpus, links, compiler} <= {check.look for check in all_checks()}


def test_a_report_names_every_state_and_every_command() -> None:
    report = [
        (Check("Python", breaks), Finding("ok", "3.11")),
        (Check("packages", breaks), Finding("missing", "[trl] is not there", "make -B setup")),
    ]
    assert as_lines(*report[0]) == ["ok       Python         3.11"]
    assert as_lines(*report[1]) == [
        "missing  packages       [trl] is not there",
        "                        to mend it: make -B setup",
    ]
    with open(os.devnull, "w") as nowhere:
        terminal = Console(record=True, width=100, file=nowhere)
        terminal.print(as_table(report))
    shown = terminal.export_text()
    for words in ("Python", "ok", "missing", "[trl] is not there", "to mend it: make -B setup"):
        assert words in shown
