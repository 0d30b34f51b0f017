"""The quickstart's results in docs/results.md: over seeds and credit rules, as tables.

    python benchmarks/quickstart.py --out runs/benchmark            # six runs, about an hour on two cores
    python benchmarks/quickstart.py --out runs/benchmark --report   # tables only, from the runs that are there

Finished runs are kept, so an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
SIEVE = Path(sys.executable).parent / "sieve"
SEEDS = (0, 1, 2)
CREDITS = ("progress", "outcome")
STAGES = ("rollout", "score", "credit", "annotate", "select", "teach", "learn", "sync")


def main() -> None:
    """Run what is missing, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--report", action="store_true", help="run nothing, print what is there")
    arguments = parser.parse_args()
    folders = {(c, s): arguments.out / f"{c}-{s}" for s in SEEDS for c in CREDITS}
    for (credit, seed), folder in folders.items():
        if not arguments.report and not (folder / "summary.json").exists():
            shutil.rmtree(folder, ignore_errors=True)  # of an interrupted run
            command = [SIEVE, "train", CONFIG, f"output_dir={folder}", f"seed={seed}", f"learner.credit={credit}"]
            subprocess.run([str(part) for part in command], check=True)
    finished = {key: folder for key, folder in folders.items() if (folder / "summary.json").exists()}
    if not finished:
        sys.exit(f"no finished run under {arguments.out}")
    print_results({key: json.loads((folder / "summary.json").read_text()) for key, folder in finished.items()})
    print_stages([folder / "metrics.jsonl" for folder in finished.values()])


def print_results(summaries: dict[tuple[str, int], dict[str, Any]]) -> None:
    """One row a run."""
    print("| credit | seed | held-out accuracy | points | MPRM AUC within a kind, by errors | minutes | peak GiB |")
    print("|---|---|---|---|---|---|---|")
    for (credit, seed), summary in sorted(summaries.items(), key=lambda item: (CREDITS.index(item[0][0]), item[0][1])):
        policy, mprm = summary["policy"], summary["mprm"]
        gain = 100 * (policy["accuracy_end"] - policy["accuracy_start"])
        print(
            f"| {credit} | {seed} | {policy['accuracy_start']:.3f} → {policy['accuracy_end']:.3f} | {gain:+.1f} "
            f"| {mprm['auc_start']:.3f} → {mprm['auc_end']:.3f} "
            f"(plain {mprm['auc_plain_end']:.3f}, index only {mprm['auc_index_only_end']:.3f}) "
            f"| {summary['wall_seconds'] / 60:.1f} | {summary['peak_memory_gib']:.1f} |"
        )


def print_stages(files: list[Path]) -> None:
    """Where the controller's time goes in a policy step: medians over all steps of all runs, and their share."""
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    steps = [row for row in rows if "perf/step_seconds" in row]
    whole = statistics.median(row["perf/step_seconds"] for row in steps)
    updates = [row for row in steps if "mprm/loss" in row]
    others = [row for row in steps if "mprm/loss" not in row]
    print("\n| waiting for | s, steps with an MPRM update | s, other steps |\n|---|---|---|")
    for stage in (*STAGES, "step"):
        name = f"perf/{stage}_seconds"
        with_update, without = (
            f"{statistics.median(row[name] for row in group):.2f}" if group else "-" for group in (updates, others)
        )
        print(f"| {'**whole step**' if stage == 'step' else stage} | {with_update} | {without} |")
    print(f"\nmedian over {len(steps)} steps: {whole:.2f} s")


if __name__ == "__main__":
    main()
