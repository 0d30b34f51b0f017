"""Seconds of a policy step and time to an accuracy: Sieve with ``max_staleness`` 0, 1 and 2, and stock TRL beside it.

    python benchmarks/loop.py --out runs/loop            # 24 runs, one after another; wants a machine with nothing else
    python benchmarks/loop.py --out runs/loop --report   # tables only, from the runs that are there

The quickstart's task, policy, batch and optimizer, unrecorded, in four ways:

    shipped  as it is
    whole    with ``learner.credit=outcome``: rollouts are labelled, and the MPRM scores them and learns
    policy   the same without labels and MPRM: what TRL does
    trl      `trl.GRPOTrainer`, sampling with Transformers, both cores for all it does (`benchmarks/stock_trl.py`)

Evaluations do not count as time. Finished runs are kept, so an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

HERE = Path(__file__).parent
CONFIG = HERE.parent / "configs" / "quickstart.yaml"
SIEVE = Path(sys.executable).parent / "sieve"
STALENESS = (0, 1, 2)
WAYS = {
    "shipped": (),
    "whole": ("learner.credit=outcome",),
    "policy": ("learner.credit=outcome", "annotation.share=0", "mprm.enabled=false"),
}
START_SECONDS, EVALUATION_SECONDS = 40, 0.006
STEP_SECONDS = {"shipped": 1.7, "whole": 1.7, "policy": 0.7, "trl": 1.7}
"""What a run costs about, on two cores: its start, one held-out answer, and a step."""


@dataclass(frozen=True)
class Kind:
    """One of the ways, with what bounds Sieve's asynchrony."""

    way: str
    staleness: int | None = None

    @property
    def name(self) -> str:
        return self.way if self.staleness is None else f"{self.way}-{self.staleness}"


KINDS = (
    Kind("shipped", 1),
    *(Kind(way, bound) for way, bound in product(("whole", "policy"), STALENESS)),
    Kind("trl"),
)


@dataclass(frozen=True)
class Timed:
    """One run.

    Attributes:
        seconds: Of each policy step (S,), evaluations left out.
        waits: The learner's wait in each step (S,), in seconds; empty where nobody measures it.
        accuracy: (step, held-out accuracy) of each evaluation, in order.
    """

    seconds: np.ndarray
    waits: np.ndarray
    accuracy: list[tuple[int, float]]

    def steps_to(self, target: float) -> float:
        """Policy steps until held-out accuracy first reaches ``target``, along straight lines between evaluations;
        infinite if it never does."""
        if self.accuracy[0][1] >= target:
            return 0.0
        for (start, low), (end, high) in pairwise(self.accuracy):
            if high >= target:
                return start + (target - low) / (high - low) * (end - start)
        return float("inf")

    def seconds_to(self, target: float) -> float:
        """The seconds of these steps."""
        clock = np.concatenate([[0.0], np.cumsum(self.seconds)])
        return float(np.interp(self.steps_to(target), np.arange(len(clock)), clock, right=np.inf))


def main() -> None:
    """Run what is missing, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="+", choices=[k.name for k in KINDS], default=[k.name for k in KINDS])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--every", type=int, default=5, help="steps between evaluations")
    parser.add_argument("--prompts", type=int, default=512, help="held-out prompts, two answers each")
    parser.add_argument("--target", type=float, default=0.66, help="held-out accuracy to reach")
    parser.add_argument("--threads", type=int, default=2, help="of TRL; Sieve's are in the configuration")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further settings of Sieve")
    parser.add_argument("--report", action="store_true", help="run nothing, print what is there")
    arguments = parser.parse_args()
    if arguments.every < 2:
        parser.error("--every: allowed is 2 or more, since steps after an evaluation are not timed")
    kinds = [kind for kind in KINDS if kind.name in arguments.kinds]
    if not arguments.report:
        run_missing(arguments, kinds)
    runs = {kind: read_runs(arguments.out, kind, arguments.seeds) for kind in kinds}
    runs = {kind: timed for kind, timed in runs.items() if timed}
    if not runs:
        sys.exit(f"no finished run under {arguments.out}")
    print_table(runs, arguments.target)


def run_missing(arguments: argparse.Namespace, kinds: Sequence[Kind]) -> None:
    """One run after another; all kinds of a seed before the next seed."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    todo = [(s, k) for s in arguments.seeds for k in kinds if not result_file(arguments.out, k, s).exists()]
    answers = 2 * arguments.prompts * (arguments.steps // arguments.every + 1)
    each = START_SECONDS + answers * EVALUATION_SECONDS
    whole = sum(each + arguments.steps * STEP_SECONDS[kind.way] for _, kind in todo)
    print(f"{len(todo)} runs, about {whole / 60:.0f} minutes on two cores with nothing else to do", flush=True)
    for seed, kind in todo:
        if kind.staleness is not None:  # an interrupted run may be there
            shutil.rmtree(result_file(arguments.out, kind, seed).parent, ignore_errors=True)
        subprocess.run(command(arguments, kind, seed), check=True)


def command(arguments: argparse.Namespace, kind: Kind, seed: int) -> list[str]:
    """What runs one kind with one seed."""
    result = result_file(arguments.out, kind, seed)
    if kind.staleness is None:
        shared = {name: getattr(arguments, name) for name in ("steps", "every", "prompts", "threads")}
        options = {"out": result, "seed": seed} | shared
        named = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        return [sys.executable, str(HERE / "stock_trl.py"), *named]
    settings = [f"seed={seed}", f"steps={arguments.steps}", f"max_staleness={kind.staleness}", "checkpoint_every=0"]
    settings += [f"evaluation.every={arguments.every}", f"evaluation.prompts={arguments.prompts}"]
    settings += [
        "record=false",
        f"output_dir={result.parent}",
        *WAYS[kind.way],
        *arguments.set,
    ]
    return [str(SIEVE), "train", str(CONFIG), *settings]


def result_file(out: Path, kind: Kind, seed: int) -> Path:
    """What a finished run leaves."""
    name = f"{kind.name}-seed{seed}"
    return out / f"{name}.json" if kind.staleness is None else out / name / "summary.json"


def read_runs(out: Path, kind: Kind, seeds: Sequence[int]) -> list[Timed]:
    """The finished runs of one kind."""
    files = [result_file(out, kind, seed) for seed in seeds]
    read = read_stock if kind.staleness is None else read_sieve
    return [read(file) for file in files if file.exists()]


def read_stock(file: Path) -> Timed:
    """What `benchmarks/stock_trl.py` wrote."""
    result = json.loads(file.read_text())
    return Timed(np.array(result["seconds"]), np.zeros(0), [(step, value) for step, value in result["accuracy"]])


def read_sieve(summary: Path) -> Timed:
    """A run of Sieve, by the clock on the wall: from one step's entry in TensorBoard's log to the next one's."""
    log = EventAccumulator(str(summary.parent / "tensorboard"), size_guidance={"scalars": 0})
    log.Reload()
    written = np.array([event.wall_time for event in log.Scalars("perf/step_seconds")])
    evaluations = [(event.step, event.value) for event in log.Scalars("policy/accuracy")]
    steps = np.arange(1, len(written) + 1)
    seconds = np.diff(written, prepend=np.nan)
    # Between these an evaluation took place, or the start of the run: such a step counts as the others in the median.
    interrupted = np.isin(steps, [step + 1 for step, _ in evaluations])
    seconds[interrupted] = np.median(seconds[~interrupted])
    waits = log.Scalars("perf/learner_wait") if "perf/learner_wait" in log.Tags()["scalars"] else []
    return Timed(seconds, np.array([event.value for event in waits]), evaluations)


def print_table(runs: dict[Kind, list[Timed]], target: float) -> None:
    """One row a kind: medians over seeds, and the lowest and highest."""
    whole = statistics.median(np.median(run.seconds) for run in runs[Kind("trl")]) if Kind("trl") in runs else None
    print("\n| what runs | max_staleness | seeds | s a step | times as fast as TRL | learner waits, s a step ", end="")
    print(f"| accuracy at the end | steps to {target:g} | s to {target:g} |\n|---|---|---|---|---|---|---|---|---|")
    for kind, timed in runs.items():
        steps = [float(np.median(run.seconds)) for run in timed]
        waits = [float(np.median(run.waits)) for run in timed if len(run.waits)]
        cells = [
            kind.way,
            "-" if kind.staleness is None else str(kind.staleness),
            str(len(timed)),
            spread(steps),
            f"{whole / statistics.median(steps):.2f}" if whole else "-",
            spread(waits) if waits else "-",
            spread([run.accuracy[-1][1] for run in timed], digits=3),
            spread([run.steps_to(target) for run in timed], digits=0),
            spread([run.seconds_to(target) for run in timed], digits=0),
        ]
        print(f"| {' | '.join(cells)} |")


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and the lowest and highest; ``never`` for what is infinite."""
    texts = [
        "never" if np.isinf(v) else f"{v:.{digits}f}" for v in (statistics.median(values), min(values), max(values))
    ]
    return f"{texts[0]} ({texts[1]} to {texts[2]})" if len(values) > 1 else texts[0]


if __name__ == "__main__":
    main()
