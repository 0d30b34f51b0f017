"""What a run starts, started once: Ray, joined or started and asked on every node, TensorBoard, an engine."""

from __future__ import annotations

import platform
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from rewards.files.held_folder import scratch_folder
from rl.config import Config
from rl.instruments.doctor.examine import Finding
from rl.instruments.doctor.packages import OURS
from rl.monitoring.terminal import typed_command

SECONDS_A_NODE = 60


def ray_start(folder: Path = Path()) -> Finding:
    """Start Ray, or join the cluster of ``RAY_ADDRESS``, and run a function on every node.

    Args:
        folder: Where runs will go: every node of a cluster has to see it, since learner and MPRM save there.

    Raises:
        ConfigError: Nobody answers at that address, or there is less than the quickstart reserves.
        RuntimeError: A node cannot run Sieve's code.
    """
    import ray

    from rl.workers.ray_cluster import leave_ray, start_ray

    start_ray(Config())
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        seen = _ask_all(nodes, folder.absolute())
    finally:
        leave_ray()
    found = f"{ray.__version__}, {'; '.join(_describe(node) for node in nodes)}"
    blind = [node["NodeManagerAddress"] for node, (_, _, sees) in zip(nodes, seen, strict=True) if not sees]
    versions = Counter((ours, python) for ours, python, _ in seen)
    if len(versions) > 1:
        told = ", ".join(f"{ours} with Python {python} on {number}" for (ours, python), number in versions.items())
        return Finding("warning", f"{found}; Sieve {told}", "git pull && make -B setup, on every node")
    if blind:
        mend = f"{typed_command('sieve')} train CONFIG.yaml output_dir=FOLDER_THAT_ALL_NODES_SHARE"
        return Finding("warning", f"{found}; {', '.join(blind)} cannot see {folder.absolute()}", mend)
    return Finding("ok", found)


def _ask_all(nodes: Sequence[dict[str, Any]], folder: Path) -> list[tuple[str, str, bool]]:
    if len(nodes) == 1:  # it sees what is there; nothing has to be written
        return [_ask(nodes[0], folder)]
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".sieve-doctor-") as shared:
        return [_ask(node, Path(shared.name)) for node in nodes]


def _ask(node: dict[str, Any], shared: Path) -> tuple[str, str, bool]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    asked = ray.remote(_answer).options(num_cpus=0, scheduling_strategy=there).remote(shared)
    try:
        return ray.get(asked, timeout=SECONDS_A_NODE)
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise RuntimeError(f"node {node['NodeManagerAddress']} cannot run Sieve's code: {reason}") from error


def _answer(shared: Path) -> tuple[str, str, bool]:
    return version(OURS), platform.python_version(), shared.exists()


def _describe(node: dict[str, Any]) -> str:
    there = node["Resources"]
    return f"node {node['NodeManagerAddress']} with {there.get('CPU', 0):g} CPUs, {there.get('GPU', 0):g} GPUs"


def dashboard() -> Finding:
    """Write a number as a run does, and read it as TensorBoard does."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with scratch_folder() as folder:
        with SummaryWriter(folder) as writer:
            writer.add_scalar("policy/accuracy", 0.5, 1)
        events = EventAccumulator(str(folder))
        events.Reload()
        (event,) = events.Scalars("policy/accuracy")
    if event.value != 0.5:
        return Finding("missing", f"{version('tensorboard')} reads {event.value} where 0.5 was written")
    return Finding("ok", f"{version('tensorboard')} reads what a run writes")


def engine_start(kind: Literal["vllm", "hf"] = "vllm") -> Finding:
    """Sample one rollout of the default task."""
    import torch

    from rewards.records import SamplingRequest
    from rl.config.sections import EngineConfig
    from rl.engines.making import build_engine
    from rl.files.named_checkpoint import make_encoder
    from rl.tasks.making import make_task

    config, began = Config(engine=EngineConfig(kind=kind)), time.monotonic()
    engine = build_engine(config, follows=False)
    started = time.monotonic() - began
    [[written]] = engine.sample([SamplingRequest(make_task(config).prompt("heldout", 0))])
    lines = make_encoder(config).decode(written.token_ids).splitlines()
    where = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "the CPU"
    found = f"{kind} on {where} started in {started:.0f} s and wrote {len(written.token_ids)} tokens"
    return Finding("ok", f"{found}, at the end {lines[-1]!r}" if lines else found)
