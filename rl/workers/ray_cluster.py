"""Joining or starting Ray, leaving it, and what a run asks of it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Thread, current_thread, main_thread
from typing import Any

import ray
from ray._private import ray_constants, services
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

from rewards.files.held_folder import remove_left_behind
from rl.config import Config
from rl.errors import ConfigError, LostWorkerError
from rl.workers.address_space import too_few_addresses
from rl.workers.ray_folder import LONGEST, RAYS_OWN, TOKEN, RayFolder, place_of_ray
from rl.workers.worker import worker_environment

LONGEST_SOCKET_PATH = 107
"""In bytes, on Linux."""
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_REACH = 5
"""What the head of a cluster gets to answer."""
ALLOCATORS = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"
"""Variables that PyTorch reads of how it takes memory, the second one for the sake of old scripts."""


TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"
"""Names the file with the token to Ray, and to the processes that it starts."""

_ours: list[RayFolder] = []
"""The folder of the Ray that this process has started; Ray, too, is one of a process."""


def join_ray(num_cpus: int | None = None, num_gpus: int | None = None) -> None:
    """Join the cluster that ``RAY_ADDRESS`` names, or start Ray on this machine, where it listens on loopback alone, to
    those who know its token, and keeps its files to itself: see `rl.workers.ray_folder`.

    Without that variable no other Ray is joined that happens to run here: it may be gone in the middle of the run.

    Args:
        num_cpus, num_gpus: What a Ray that starts is to believe that there is, instead of what it finds.

    Raises:
        ConfigError: Nobody answers at that address, Ray's own folder is too far down or cannot be written to, or
            processes may have too few addresses.
        LostWorkerError: Ray does not start.
    """
    if ray.is_initialized():
        return
    if too_few := too_few_addresses():  # Ray would end this very process
        raise ConfigError(too_few)
    address = os.environ.get("RAY_ADDRESS", "local")
    # Ray would else hide all GPUs from workers that reserve none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address != "local":
        _reach(address)
        return _connect(address)
    started = partial(_start, num_cpus=num_cpus, num_gpus=num_gpus)
    try:
        started()
    except LostWorkerError:  # a server that dies as it begins, or hangs, is rare, and no reason to lose a run
        started()


def _start(**resources: int | None) -> None:
    folder = _make_folder()
    _keep_to_loopback()
    # Ray would start a process for each CPU ahead of the workers, none of which could be in one: their environment is
    # their own.
    nobody_ahead = {"prestart_worker_first_driver": False}
    _connect("local", _temp_dir=str(folder.path / RAYS_OWN), _system_config=nobody_ahead, **resources)


def _connect(address: str, **further: Any) -> None:
    try:
        with _in_sessions_of_their_own(), _signals_as_they_were():
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level="error", **further)
    except BaseException as error:
        leave_ray()
        if isinstance(error, Exception):  # Ray has no kind of its own for what keeps it from starting
            raise LostWorkerError(f"Ray does not start: {' '.join(str(error).split())}") from error
        raise


def leave_ray() -> None:
    """End Ray, if this process has started it, and remove what it has on the disk; else take leave of it."""
    ray.shutdown()
    while _ours:
        os.environ.pop(TOKEN_PATH, None)
        AuthenticationTokenLoader.instance().reset_cache()  # another Ray of this process has another token
        _ours.pop().give_up()


def watch_ray(ended: Callable[[str], None]) -> None:
    """From here on, call ``ended`` from a thread of its own, once, if a server dies that `join_ray` has started on this
    machine: a minute later Ray ends this process, with nothing but a line of its log.

    Args:
        ended: Takes which one it was; it has to end the process, which nothing else can go on with.
    """
    Thread(target=_watch, args=(ended,), daemon=True).start()


def _watch(ended: Callable[[str], None]) -> None:
    while (dead := _dead_server()) is None or dead != _later(_dead_server):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    ended("Ray's {} (process {}) died".format(*dead))


def _dead_server() -> tuple[str, int] | None:
    """Name and process of a server that has ended, while Ray has not been shut down."""
    node = ray._private.worker._global_node
    for name in ("gcs_server", "raylet"):
        for server in (node.all_processes if node else {}).get(name, ()):
            if server.process.poll() is not None:
                return name, server.process.pid
    return None


def _later(look: Callable[[], tuple[str, int] | None]) -> tuple[str, int] | None:
    """What is there a moment later: as it is shut down, Ray ends its servers first and forgets them next."""
    time.sleep(SECONDS_BETWEEN_LOOKS)
    return look()


def start_ray(config: Config) -> None:
    """`join_ray`, and see that there is room for the workers.

    Raises:
        ConfigError: Nobody answers at ``RAY_ADDRESS``, or the cluster is too small for the placement.
        LostWorkerError: Ray does not start.
    """
    join_ray()
    there = ray.cluster_resources()
    kinds = kinds_of_workers(config)
    wanted = {
        "CPU": sum(kind.number * kind.num_cpus for kind in kinds),
        "GPU": sum(kind.number * kind.num_gpus for kind in kinds),
    }
    for resource, needed in wanted.items():
        if needed > there.get(resource, 0):
            raise ConfigError(
                f"the placement needs {needed:g} {resource}s and Ray has {there.get(resource, 0):g}: lower "
                f"engine.count, or num_{resource.lower()}s of engine, learner, mprm or outcome_model"
            )


def _reach(address: str) -> None:
    """Whether somebody answers there: Ray itself would try again for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:  # a word, as `auto` or `local`
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_REACH).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"nobody answers at RAY_ADDRESS, {address}: {error}; allowed is HOST:PORT of a running cluster"
        ) from None


def _make_folder() -> RayFolder:
    """A folder for Ray: the system bounds the length of the paths of its sockets."""
    named, folder = place_of_ray()
    session = f"/session_2026-11-29_01-26-48_123456_{os.getpid()}/sockets/plasma_store"
    length, most = len(os.fsencode(folder)), LONGEST_SOCKET_PATH - LONGEST - len(session)
    if length > most:
        raise ConfigError(
            f"{named} is {str(folder)!r}, of {length} characters: allowed for Ray's sockets are at most {most}; "
            "RAY_TMPDIR names a folder for Ray alone"
        )
    remove_left_behind(folder)
    try:
        made = RayFolder.make(folder)
    except OSError as error:
        where = f"{named} is {str(folder)!r}, which" if named else folder
        raise ConfigError(
            f"{where} cannot be written to: {error.strerror or error}; RAY_TMPDIR names a folder for Ray alone"
        ) from None
    _ours.append(made)
    os.environ[TOKEN_PATH] = str(made.path / TOKEN)
    AuthenticationTokenLoader.instance().reset_cache()
    return made


def _keep_to_loopback() -> None:
    """Ray's servers run what anybody who reaches them sends, and listen on all addresses of a machine, unless it is
    told that there will be no cluster: by a variable named after desktops, and read at its import."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False


@contextmanager
def _in_sessions_of_their_own() -> Iterator[None]:
    """Inside, what Ray starts is out of reach of a signal to all of this process's group, as `timeout`, a terminal or a
    batch scheduler sends it: only this process knows how a run is to end. When it dies, the kernel kills them; what
    they have started itself holds the lock that it inherits, by which the folder's keeper knows it."""
    plain = services.ConsolePopen
    services.ConsolePopen = partial(plain, start_new_session=True, pass_fds=[folder.lock for folder in _ours])
    try:
        yield
    finally:
        services.ConsolePopen = plain
        for folder in _ours:
            folder.hand_over()


@contextmanager
def _signals_as_they_were() -> Iterator[None]:
    """Outside again, SIGTERM is for whom it was for: Ray takes it as it starts."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if current_thread() is main_thread():
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@dataclass(frozen=True)
class Kind:
    """The workers of one kind: how many, and what each reserves."""

    role: str
    number: int
    num_cpus: float
    num_gpus: float


def kinds_of_workers(config: Config) -> list[Kind]:
    """Who takes part."""
    learner, engine, mprm, outcome = config.learner, config.engine, config.mprm, config.outcome_model
    kinds = [
        Kind("learner", learner.ranks, learner.num_cpus, learner.num_gpus),
        Kind("engine", engine.count, engine.num_cpus, engine.num_gpus),
    ]
    if config.places_mprm:
        kinds.append(Kind("mprm", mprm.ranks, mprm.num_cpus, mprm.num_gpus))
    if outcome.is_used:
        kinds.append(Kind("outcome_model", 1, outcome.num_cpus, outcome.num_gpus))
    return kinds


def as_started(config: Config) -> list[Kind]:
    """`kinds_of_workers` in the order in which they are started, and given GPUs: the learner's ranks first, to be close
    together, but for engines that may share a GPU. As one starts, vLLM counts what goes from its GPU as its own: they
    come before all others, and one after another; see `share_gpus`."""
    return sorted(kinds_of_workers(config), key=lambda kind: kind.role != "engine" or kind.num_gpus >= 1)


def share_gpus(config: Config) -> bool:
    """Whether engines share a GPU with others: they reserve a part of one, or nobody any of those that Ray has."""
    if any(kind.num_gpus for kind in kinds_of_workers(config)):
        return 0 < config.engine.num_gpus < 1
    return ray.cluster_resources().get("GPU", 0) > 0


def kind_of(config: Config, role: str) -> Kind:
    """The workers of a role that the run has."""
    return next(kind for kind in kinds_of_workers(config) if kind.role == role)


def environment_of(config: Config, kind: Kind) -> dict[str, str]:
    """What each process of a kind finds in its environment.

    Batches of models that learn differ in length: segments of their GPU's memory grow, or it would be full of holes in
    the end, unless somebody else's handles point into them (``ipc``), or the user has named another allocator.
    """
    is_reserved = any(other.num_gpus for other in kinds_of_workers(config))
    environment = worker_environment(kind.num_gpus, 1 if kind.role == "engine" else kind.number, is_reserved)
    is_read = kind.role == "engine" or (kind.role == "learner" and config.weight_route == "ipc")
    if not is_read and not os.environ.keys() & set(ALLOCATORS):
        environment[ALLOCATORS[0]] = "expandable_segments:True"
    return environment
