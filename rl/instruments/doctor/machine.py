"""Cores, memory, disks and limits, as far as they are this process's: a container has less than its machine."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from rewards.files.held_folder import left_behind
from rl.instruments.doctor.examine import Finding
from rl.monitoring.terminal import typed_command
from rl.workers.address_space import too_few_addresses
from rl.workers.ray_folder import place_of_ray

GIB, MB = 2**30, 10**6
CGROUPS = Path("/sys/fs/cgroup")
# Ray raises a process's limit of open files by itself, to this at most.
FILES_THAT_RAY_TAKES = 65_536
# Ray makes no further objects where a disk is fuller than that.
FULLEST = 0.95


def cores(wanted: float, folders: Sequence[Path] | None = None) -> Finding:
    """The cores that may be used at once, by affinity and by cgroup; ``wanted`` is what the quickstart reserves."""
    there: float = len(os.sched_getaffinity(0))
    for folder in own_cgroups() if folders is None else folders:
        quota, period = _words(folder / "cpu.max", 2)
        if quota.isdecimal():
            there = min(there, int(quota) / int(period))
    found = f"{there:g}"
    if there >= wanted:
        return Finding("ok", found)
    smaller = "engine.num_cpus=0.5 learner.num_cpus=0.2 mprm.num_cpus=0.2"
    return Finding(
        "missing",
        f"{found}; the quickstart reserves {wanted:g}",
        f"{typed_command('sieve')} train CONFIG.yaml {smaller}",
    )


def memory(wanted_gib: float = 6.0, folders: Sequence[Path] | None = None) -> Finding:
    """The memory that is free, by the system and by cgroup; the quickstart takes up to 6 GiB."""
    free: float = psutil.virtual_memory().available
    for folder in own_cgroups() if folders is None else folders:
        (limit,), (used,) = _words(folder / "memory.max", 1), _words(folder / "memory.current", 1)
        if limit.isdecimal():
            free = min(free, int(limit) - int(used or 0) + _cached(folder / "memory.stat"))
    found = f"{free / GIB:.1f} of {psutil.virtual_memory().total / GIB:.1f} GiB free"
    if free >= wanted_gib * GIB:
        return Finding("ok", found)
    return Finding(
        "warning", f"{found}; the quickstart takes {wanted_gib:g}", "docker run --memory=16g …, or end others"
    )


def shared_memory(folder: Path = Path("/dev/shm"), wanted_gib: float = 1.0) -> Finding:
    """Room where Ray keeps its objects: without it they go to disk, which is slow."""
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free in {folder}"
    if free >= wanted_gib * GIB:
        return Finding("ok", found)
    mend = f"mount -o remount,size=8g {folder}; of a container: docker run --shm-size=8g …"
    return Finding("warning", f"{found}; Ray wants {wanted_gib:g} for its objects", mend)


def ray_folder(folder: Path | None = None, wanted_gib: float = 2.0, fullest: float = FULLEST) -> Finding:
    """The disk to which Ray writes its logs, and its objects where memory is short."""
    place = folder or place_of_ray()[1]
    return disk(place, wanted_gib, f"export RAY_TMPDIR=ANOTHER_DISK, or empty {place}", fullest)


def left_by_runs(folder: Path) -> Finding:
    """What runs have left where Ray has its folders, ``folder``: those that were killed together with what cleans up
    after them, or with the machine."""
    left = left_behind(folder)
    if not left:
        return Finding("ok", f"nothing is left in {folder} of runs that were killed")
    size = sum(file.lstat().st_size for path in left for file in path.rglob("*"))
    found = f"{len(left)} folder(s) in {folder} of runs that were killed, {size / MB:.1f} MB; the next run removes them"
    return Finding("warning", found, f"rm -r {' '.join(map(str, left))}")


def disk(folder: Path, wanted_gib: float, mend: str, fullest: float = 1.0) -> Finding:
    """Whether files can be written under ``folder``, which need not be there yet, and how much room there is."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            usage = shutil.disk_usage(place)
    except OSError as error:
        return Finding("missing", f"nothing can be written to {folder}: {error.strerror}", mend)
    found = f"{folder} can be written to; {usage.free / GIB:.1f} GiB free"
    if usage.used > fullest * usage.total:
        return Finding("warning", f"{found}, and over {fullest:.0%} full", mend)
    if usage.free < wanted_gib * GIB:
        return Finding("warning", f"{found}; wanted {wanted_gib:g}", mend)
    return Finding("ok", found)


def open_files(wanted: int = 4096) -> Finding:
    """How many files a process may have open at once; each worker costs Ray some."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    there = FILES_THAT_RAY_TAKES if hard == resource.RLIM_INFINITY else min(hard, FILES_THAT_RAY_TAKES)
    if there >= wanted:
        return Finding("ok", f"{there:,}")
    return Finding("warning", f"{there:,}; Ray wants {wanted:,}", f"ulimit -Hn {FILES_THAT_RAY_TAKES}")


def addresses() -> Finding:
    """How many addresses a process may have."""
    too_few = too_few_addresses()
    return Finding("missing", too_few, "ulimit -v unlimited") if too_few else Finding("ok", "enough")


def own_cgroups(root: Path = CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> list[Path]:
    """The folders of this process's control group and of those around it (cgroup v2), innermost first."""
    for line in membership.read_text().splitlines() if membership.exists() else ():
        if line.startswith("0::/"):
            own = Path(line.removeprefix("0::/"))
            return [root / own, *(root / around for around in own.parents)]
    return []


def _cached(file: Path) -> int:
    """Bytes of files that a cgroup has read and would give up."""
    words = _words(file, 0)
    return int(dict(zip(words[::2], words[1::2], strict=True)).get("inactive_file", 0))


def _words(file: Path, number: int) -> list[str]:
    """The words of a control file; as many empty ones where there is none."""
    return file.read_text().split() if file.exists() else [""] * number
