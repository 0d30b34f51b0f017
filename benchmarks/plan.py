"""`sieve plan` against what runs took: each run's seconds a policy step, predicted from another run's stage times.

    python benchmarks/plan.py runs/staleness_0 runs/staleness_1 runs/staleness_2

The runs are finished ones of one configuration that differ in ``max_staleness`` (or in anything else that leaves the
stages themselves as they are). Of every pair, the first gives stage times and the second is predicted. A run that
predicts itself says how well the simulation of the waits fits, apart from the stage times.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from rl.config import Config
from rl.instruments.planning.simulation import Simulation
from rl.instruments.planning.stage_seconds import StageSeconds, measured_seconds, split_of
from rl.monitoring.metrics_file import policy_steps


@dataclass(frozen=True)
class Run:
    """A finished run: its name, configuration, stage times, and seconds a policy step, the first one left out."""

    name: str
    config: Config
    stages: StageSeconds
    mean_seconds: float
    median_seconds: float


def read_run(folder: Path) -> Run:
    stages, config = measured_seconds(folder)
    seconds = [row["perf/step_seconds"] for row in policy_steps(folder)][1:]
    return Run(folder.name, config, stages, mean(seconds), median(seconds))


def predicted(source: Run, target: Run) -> float:
    """Seconds a policy step of ``target``, with the stage times of ``source``."""
    split = split_of(target.config)
    return Simulation(target.config, source.stages, split_of(source.config), split).run().step_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs")
    runs = [read_run(folder) for folder in parser.parse_args().runs]
    print("| stage times of | run | max_staleness | predicted s/step | measured, mean (median) | off by |")
    print("|---|---|---|---|---|---|")
    for source in runs:
        for target in runs:
            found = predicted(source, target)
            own = ", itself" if source is target else ""
            print(
                f"| {source.name}{own} | {target.name} | {target.config.max_staleness} | {found:.2f} "
                f"| {target.mean_seconds:.2f} ({target.median_seconds:.2f}) | {found / target.mean_seconds - 1:+.0%} |"
            )


if __name__ == "__main__":
    main()
