"""What faults do to a run, and how long it takes to be where it was: the table in docs/faults.md.

    python -m benchmarks.faults --out runs/faults      # about ten minutes; wants a machine with nothing else

The quickstart with two ranks of the learner and a checkpoint after every second step loses one worker after another,
and then, on two Ray nodes of this machine, the second node. Measured is from the fault to the end of the policy step
that it hit: noticing it, starting everything anew, and the steps since the checkpoint. Faults that end a run cost what
it takes to type the command that goes on; what becomes of them is tested in ``tests/rl/test_faults*.py``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ray.cluster_utils import Cluster

from tests.fixtures.runs import ROOT, Running

CONFIG = ROOT / "configs" / "quickstart.yaml"
DEADLINE = 120
OPTIONS = ("steps=100", "checkpoint_every=2", f"deadline={DEADLINE}", "evaluation.prompts=16")
RANKS = ("learner.ranks=2", "learner.num_cpus=0.25")
GOES_ON = "the run begins anew from its newest checkpoint, with the numbers of a run without the fault"
STOPS = "the run stops with the cause, exit code 1; `--resume` goes on"
UNTIMED = {
    "`kill -9` of the driver": "no process of the run is left; `--resume` goes on from the newest checkpoint",
    "SIGTERM, or Ctrl-C": "the step is finished, a checkpoint written, exit code 0; a second one stops at once",
    "a disk that is full": f"{STOPS}; earlier checkpoints are as they were, nothing is left of the new one",
    "a loss or a gradient that is not a number": "the update is left out and counted (`policy/skipped`); after "
    "`learner.max_skipped` policy steps in a row the run stops",
    "your task, verifier, selector or credit rule raises": STOPS,
    "workers are lost again and again": "after `recovery.attempts` without a new policy step, the same",
}


@dataclass(frozen=True)
class Recovery:
    """How one fault went.

    Attributes:
        noticed: Seconds until the run said so.
        back: Seconds until the policy step that was hit was finished.
    """

    noticed: float
    back: float


def recover(running: Running, fault: Callable[[], object]) -> Recovery:
    """Wait until a checkpoint and then a further step is taken, strike, and watch."""
    step = 0
    while step < 3 or step % 2 == 0:
        step = finished_step(running)
    fault()
    began = time.perf_counter()
    running.wait_for("beginning anew")
    noticed = time.perf_counter() - began
    while finished_step(running) <= step:
        pass
    return Recovery(noticed, time.perf_counter() - began)


def finished_step(running: Running) -> int:
    """The next policy step that the run says it has finished."""
    line = running.wait_for("step ")
    while not line.startswith("step "):
        line = running.wait_for("step ")
    return int(line.split()[1].split("/")[0])


def lose_workers(folder: Path) -> dict[str, Recovery]:
    """One run that loses one worker after another."""
    running = Running("train", CONFIG, f"output_dir={folder}", *OPTIONS, *RANKS)
    faults: dict[str, Callable[[], object]] = {
        "`kill -9` of an engine while it samples": lambda: running.busy_with("engine 0.sample").kill(),
        "`kill -9` of the reward model in its update": lambda: running.busy_with("mprm.update").kill(),
        "`kill -9` of one of the learner's ranks in its step": lambda: running.busy_with("learner.step").kill(),
        f"an engine that hangs, with `deadline={DEADLINE}`": lambda: running.busy_with("engine 0.sample").suspend(),
    }
    found = {name: recover(running, fault) for name, fault in faults.items()}
    running.stop()
    return found


def lose_node(folder: Path) -> dict[str, Recovery]:
    """A run on two nodes that loses the second one; the first has room for all of it."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=2)
        running = Running("train", CONFIG, f"output_dir={folder}", *OPTIONS, RAY_ADDRESS=cluster.address)
        found = recover(running, lambda: cluster.remove_node(second, allow_graceful=False))
        running.stop()
    finally:
        cluster.shutdown()
    return {"a node of the Ray cluster dies, with workers on it": found}


def table(found: dict[str, Recovery]) -> str:
    """The table in docs/faults.md."""
    rows = [f"| {name} | {GOES_ON} | {one.noticed:.0f} | {one.back:.0f} |" for name, one in found.items()]
    rows += [f"| {name} | {what} | | |" for name, what in UNTIMED.items()]
    head = "| fault | what happens | noticed after, s | back after, s |\n|---|---|---|---|"
    return "\n".join([head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder for the runs")
    out = parser.parse_args().out
    print(table(lose_workers(out / "workers") | lose_node(out / "node")))


if __name__ == "__main__":
    main()
