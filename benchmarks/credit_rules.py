"""Credit rules compared on the quickstart's task: accuracy against policy steps over seeds, and the hacking watch.

    python benchmarks/credit_rules.py --out runs/credit             # 35 short runs, one after another
    python benchmarks/credit_rules.py --out runs/credit --jobs 2    # two at a time
    python benchmarks/credit_rules.py --out runs/credit --report    # table and figure only, from what is there
    python benchmarks/credit_rules.py --out runs/reuse --rules outcome progress progress+continuations --steps 40

Two rollouts in five are labelled. With ``+continuations`` a rule's policy learns from the continuations that label the
steps, too.

All rules of a seed are run before the next seed, so that what is there can always be compared in pairs: equal seeds see
equal prompts. Finished runs are kept, so an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rewards.measuring.bootstrap import Interval, bootstrap_means, percentile_interval

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "quickstart.yaml"
SIEVE = Path(sys.executable).parent / "sieve"
BASELINE = "outcome"
RULES = (BASELINE, "process", "additive", "ps_grpo", "min_form", "progress", "monte_carlo")
WATCHED = {
    "reward/hacking_gap": "hacking gap",
    "reward/steps": "steps an answer",
    "reward/step_tokens": "tokens a step",
    "reward/repeated_steps": "repeated steps",
}
WINDOW = 5
"""Steps at the beginning and at the end whose mean stands in the table."""
START_SECONDS, ANSWER_SECONDS, STEP_SECONDS = 40, 0.006, 3.4
"""What a run costs about, on two cores: its start, one held-out answer, and a step."""


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        steps: The policy steps of its evaluations (E,).
        accuracy: Held-out accuracy then (E,).
        watched: Each metric of the watch, by policy step (S,); where it was not logged, it is missing.
        tokens: All that were sampled to learn from, continuations included.
        seconds: Of all policy steps.
    """

    steps: np.ndarray
    accuracy: np.ndarray
    watched: dict[str, np.ndarray]
    tokens: float
    seconds: float


def main() -> None:
    """Run what is missing, then print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--rules", nargs="+", default=RULES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--every", type=int, default=10, help="steps between evaluations")
    parser.add_argument("--prompts", type=int, default=256, help="held-out prompts, two answers each")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "pictures" / "credit_rules.png")
    parser.add_argument("--report", action="store_true", help="run nothing, print what is there")
    arguments = parser.parse_args()
    if not arguments.report:
        run_missing(arguments)
    runs = {rule: read_runs(arguments.out, rule, arguments.seeds) for rule in arguments.rules}
    runs = {rule: found for rule, found in runs.items() if found}
    if not runs:
        sys.exit(f"no finished run under {arguments.out}")
    print_table(runs)
    draw(runs, arguments.figure)


def run_missing(arguments: argparse.Namespace) -> None:
    """Train, a few runs at a time.

    Raises:
        SystemExit: A run failed; those that had begun are finished first.
    """
    todo = [(rule, seed) for seed in arguments.seeds for rule in arguments.rules]
    todo = [entry for entry in todo if not (folder(arguments.out, *entry) / "summary.json").exists()]
    answers = 2 * arguments.prompts * (arguments.steps // arguments.every + 1)
    each = START_SECONDS + answers * ANSWER_SECONDS + arguments.steps * STEP_SECONDS
    print(f"{len(todo)} runs, about {len(todo) * each / 60:.0f} minutes one after another on two cores", flush=True)

    def train(entry: tuple[str, int]) -> None:
        place = folder(arguments.out, *entry)
        shutil.rmtree(place, ignore_errors=True)  # of an interrupted run
        rule, seed = entry
        credit, _, continuations = rule.partition("+")
        settings = [f"learner.credit={credit}", f"learner.reuse_continuations={bool(continuations)}".lower()]
        settings += [f"seed={seed}", f"output_dir={place}", f"steps={arguments.steps}"]
        settings += ["annotation.share=0.4", "annotation.delay=0"]
        settings += [f"evaluation.every={arguments.every}", f"evaluation.prompts={arguments.prompts}"]
        command = [str(SIEVE), "train", str(CONFIG), *settings, "checkpoint_every=0", "watch.action=warn"]
        log = place.with_suffix(".log")
        with log.open("w") as file:
            done = subprocess.run(command, stdout=file, stderr=file, env=os.environ | {"OMP_NUM_THREADS": "1"})
        if done.returncode:
            sys.exit(f"{rule}, seed {seed}: failed; see {log}")
        print(f"{rule}, seed {seed}: done", flush=True)

    arguments.out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        pending = [pool.submit(train, entry) for entry in todo]
        try:
            for run in pending:
                run.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def folder(out: Path, rule: str, seed: int) -> Path:
    """Where a run is."""
    return out / f"{rule}-seed{seed}"


def read_runs(out: Path, rule: str, seeds: Sequence[int]) -> dict[int, Run]:
    """The finished runs of one rule, by seed."""
    folders = {seed: folder(out, rule, seed) for seed in seeds}
    return {seed: read_run(place) for seed, place in folders.items() if (place / "summary.json").exists()}


def read_run(place: Path) -> Run:
    """A run's evaluations and watch, from its log."""
    rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    evaluations = [row for row in rows if "policy/accuracy" in row]
    steps = [row for row in rows if "perf/step_seconds" in row]
    return Run(
        steps=np.array([row["step"] for row in evaluations]),
        accuracy=np.array([row["policy/accuracy"] for row in evaluations]),
        watched={name: np.array([row[name] for row in rows if name in row]) for name in WATCHED},
        tokens=sum(row["perf/step_seconds"] * row["perf/tokens_per_second"] for row in steps),
        seconds=sum(row["perf/step_seconds"] for row in steps),
    )


def means(values: np.ndarray) -> list[Interval]:
    """The mean over seeds of each column of (seeds, C), with its bootstrap interval over seeds."""
    resampled = bootstrap_means(values)
    return [percentile_interval(values[:, c].mean(), resampled[:, c]) for c in range(values.shape[1])]


def print_table(runs: dict[str, dict[int, Run]]) -> None:
    """One row a rule."""
    print("\n| credit rule | seeds | accuracy at the end | minus `outcome`, points | tokens, thousands | s | ", end="")
    print(" | ".join(WATCHED.values()), "|\n|---|---|---|---|---|---|" + "---|" * len(WATCHED))
    for rule, found in runs.items():
        (end,) = means(np.array([[run.accuracy[-1]] for run in found.values()]))
        cells = [f"`{rule}`", str(len(found)), f"{end.value:.3f} ({end.low:.3f} to {end.high:.3f})"]
        cells.append(difference(found, runs.get(BASELINE, {})) if rule != BASELINE else "")
        cells += [f"{np.mean([run.tokens for run in found.values()]) / 1000:,.0f}"]
        cells += [f"{np.mean([run.seconds for run in found.values()]):,.0f}"]
        cells += [drift([run.watched[name] for run in found.values()]) for name in WATCHED]
        print(f"| {' | '.join(cells)} |")
    print(f"\nWatch: mean of the first {WINDOW} policy steps → of the last {WINDOW}. Intervals: 95 %, over seeds.")


def difference(found: dict[int, Run], baseline: dict[int, Run]) -> str:
    """How much better than the baseline at the end, in points, over the seeds that both have."""
    pairs = [[100 * (found[seed].accuracy[-1] - baseline[seed].accuracy[-1])] for seed in found if seed in baseline]
    if not pairs:
        return "-"
    (gain,) = means(np.array(pairs))
    return f"{gain.value:+.1f} ({gain.low:+.1f} to {gain.high:+.1f})"


def drift(series: Sequence[np.ndarray]) -> str:
    """A metric at the beginning and at the end, mean over seeds."""
    known = [values for values in series if len(values)]
    if not known:
        return "-"
    first, last = np.mean([v[:WINDOW].mean() for v in known]), np.mean([v[-WINDOW:].mean() for v in known])
    return f"{first:.3g} → {last:.3g}"


def draw(runs: dict[str, dict[int, Run]], file: Path) -> None:
    """One panel a rule: its accuracy over policy steps in blue, the baseline's in grey, with their intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    others = [rule for rule in runs if rule != BASELINE] or list(runs)
    columns = min(3, len(others))
    size = {"figsize": (3.3 * columns, 2.7 * -(-len(others) // columns)), "layout": "constrained"}
    figure, axes = plt.subplots(-(-len(others) // columns), columns, squeeze=False, sharex=True, sharey=True, **size)
    for panel in axes.flat[len(others) :]:
        panel.set_axis_off()
    for rule, panel in zip(others, axes.flat, strict=False):
        for name, colour in ((BASELINE, "#8c8c8c"), (rule, "#0072b2")):
            if name in runs:
                found = list(runs[name].values())
                curve = means(np.array([run.accuracy for run in found]))
                steps, low, high = found[0].steps, [p.low for p in curve], [p.high for p in curve]
                panel.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
                panel.plot(steps, [p.value for p in curve], color=colour, linewidth=2, marker="o", markersize=3)
        panel.set_title(rule, color="#0072b2", fontsize=11, loc="left")
        panel.grid(color="#e6e6e6")
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    seeds = max(len(found) for found in runs.values())
    figure.supxlabel("policy step", fontsize=10)
    figure.supylabel("held-out accuracy", fontsize=10)
    figure.suptitle(f"Each rule (blue) and `{BASELINE}` (grey): mean of {seeds} seeds, 95 % interval", fontsize=10)
    figure.savefig(file, dpi=150, facecolor="white")


if __name__ == "__main__":
    main()
