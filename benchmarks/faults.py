"""What faults do to a run, and how long it takes to be where it was: the table in docs/faults.md.

    python -m benchmarks.faults --out runs/faults                      # all of it: half an hour, with nothing else
    python -m benchmarks.faults --out runs/faults --only workers node  # some of it; the table has what was ever found

``workers``: the quickstart with two ranks of the learner and a checkpoint after every second step loses one worker
after another; ``vllm``: an engine in each stage of a step; ``node``: on two Ray nodes of this machine, the second one.
Measured is from the fault to the end of the policy step that it hit: noticing it, starting everything anew, and
the steps since the checkpoint. The others are `benchmarks.bad_moments`: there is nothing to time, but each is seen to
end as the table says, or the benchmark stops. What it finds is kept in ``found.json``, fault by fault.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from ray.cluster_utils import Cluster

from benchmarks import bad_moments
from benchmarks.bad_moments import STOPS
from tests.fixtures.runs import ROOT, Running

CONFIG = ROOT / "configs" / "quickstart.yaml"
DEADLINE = 120
OPTIONS = ("steps=100", "checkpoint_every=2", f"deadline={DEADLINE}", "evaluation.prompts=16")
KILLS = 5
"""Of vLLM, in each stage."""
STAGES = ("engine 0.sample", "mprm.score", "mprm.update", "learner.step", "learner.save")
RANKS = ("learner.ranks=2", "learner.num_cpus=0.25")
GOES_ON = "the run begins anew from its newest checkpoint, with the numbers of a run without the fault"
UNTIMED = {
    "workers are lost again and again": "after `recovery.attempts` without a new policy step the run stops with the "
    "cause, exit code 1; `--resume` goes on",
    "memory runs out, of a GPU or of a machine": "the run begins anew once; the second time it stops with what was "
    "asked for, what was there and the key to lower",
    "`kill -9` of the driver": "within seconds no process of the run and no file of its Ray is left; `--resume` goes "
    "on from the newest checkpoint",
    "SIGTERM, SIGHUP or Ctrl-C to the run or to all of its process group (`timeout`, a batch scheduler)": "the step is "
    "finished, a checkpoint written, exit code 0; a second one, after a second or more, stops at once",
    "a disk that is full": f"{STOPS}; earlier checkpoints are as they were, nothing is left of the new one",
    "a loss or a gradient that is not a number": "the update is left out and counted (`policy/skipped`); after "
    "`learner.max_skipped` policy steps in a row the run stops",
    "your task, verifier, selector or credit rule raises": STOPS,
    "a task, verifier, selector or credit rule of yours does not come back": "after a minute one line names it, and "
    "from then on Ctrl-C or SIGTERM stops the run at once, exit code 1; `--resume` goes on",
    "`ulimit -v` with less than the libraries and Ray's objects map": "the run is refused, exit code 2",
}
"""What becomes of these is tested in ``tests/rl/test_faults*.py``, ``test_signals.py`` and ``tests/rl/workers``."""


@dataclass(frozen=True)
class Found:
    """How one fault went.

    Attributes:
        what: What happened.
        noticed: Seconds until the run said so; of several, the most; None where there is nothing to time.
        back: Seconds until the policy step that was hit was finished, likewise.
    """

    what: str
    noticed: float | None = None
    back: float | None = None


def recover(running: Running, fault: Callable[[], object]) -> Found:
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
    return Found(GOES_ON, noticed, time.perf_counter() - began)


def finished_step(running: Running) -> int:
    """The next policy step that the run says it has finished."""
    line = running.wait_for("step ")
    while not line.startswith("step "):
        line = running.wait_for("step ")
    return int(line.split()[1].split("/")[0])


def lose_workers(folder: Path) -> dict[str, Found]:
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


def lose_vllm(folder: Path) -> dict[str, Found]:
    """One run that loses its engine in every stage of a policy step, `KILLS` times each, at moments by chance."""
    running = Running("train", CONFIG, f"output_dir={folder}", *OPTIONS)
    moments, each = random.Random(0), []
    for stage in STAGES * KILLS:

        def fault(stage: str = stage) -> None:
            engine = running.busy_with("engine 0.sample")
            running.busy_with(stage)
            time.sleep(moments.uniform(0, 0.5))
            engine.kill()

        each.append(recover(running, fault))
    running.stop()
    noticed, back = max(found.noticed or 0 for found in each), max(found.back or 0 for found in each)
    told = "`kill -9` of vLLM while it samples, while the reward model scores or learns, and while the learner takes "
    return {f"{told}its step or saves, {KILLS} times each at moments by chance": Found(GOES_ON, noticed, back)}


def lose_node(folder: Path) -> dict[str, Found]:
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


def watch(trial: bad_moments.Trial, folder: Path) -> dict[str, Found]:
    """A row of which there is nothing to time."""
    trial.see(folder)
    return {trial.fault: Found(trial.what)}


TRIALS: dict[str, Callable[[Path], dict[str, Found]]] = {
    "workers": lose_workers,
    "vllm": lose_vllm,
    "node": lose_node,
    **{name: partial(watch, trial) for name, trial in bad_moments.TRIALS.items()},
}


def table(found: Mapping[str, Found]) -> str:
    """The table in docs/faults.md."""
    rows = found | {fault: Found(what) for fault, what in UNTIMED.items()}
    lines, before = ["| fault | what happens | noticed after, s | back after, s |\n|---|---|---|---|"], ""
    for fault, one in rows.items():
        what = "the same" if one.what == before else one.what
        lines.append(f"| {fault} | {what} | {_s(one.noticed)} | {_s(one.back)} |")
        before = one.what
    return "\n".join(lines)


def _s(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder for the runs")
    parser.add_argument(
        "--only", nargs="+", choices=TRIALS, default=list(TRIALS), help="which trials; all unless given"
    )
    arguments = parser.parse_args()
    out: Path = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "found.json"
    found = {fault: Found(**one) for fault, one in json.loads(kept.read_text()).items()} if kept.exists() else {}
    for name in arguments.only:
        found |= TRIALS[name](out / name)
        kept.write_text(json.dumps({fault: asdict(one) for fault, one in found.items()}, indent=1))
    print(table(found))


if __name__ == "__main__":
    main()
