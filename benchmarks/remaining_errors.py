"""What a policy on the beliefs task still does wrong as it learns, and who can tell: its labels, or its reward model:

    python benchmarks/remaining_errors.py runs/studies/streams/*/run     # recorded runs; --world, --world-seed

A row is a sixth of the run: of the rollouts that were labelled then, the share of written results that are wrong
on their own; of these, the share that is the start policy's belief, and not another number; the rules that err; and
the area under the ROC curve of reasoning steps, right so far or not, within kinds weighted by errors, of the
Monte-Carlo shares and of what the run's reward model said at the time. Means over the runs of the task; others are
left out.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from rewards.process_model.labels import soft
from rewards.records import StepScores
from rl.config import load_config
from rl.files.run_files import CONFIG_FILE
from rl.instruments.replay.measuring import step_measures
from rl.instruments.replay.stream import RecordedRollout, open_stream
from rl.tasks.worlds import WORLDS, Key, World

RESULT = re.compile(r"(\d+) (\*|\+|mod) (\d+) = (\d+)")
AUC = "auc_weighted_reasoning"
PARTS = 6


def results(steps: Iterable[str], world: World) -> list[tuple[Key, str]]:
    """Of each written result the belief that decides it, and whether it is the `right` one, the belief's `own` wrong
    one, or `another`.

    >>> results(["1: red 1 0 1 = 2", "3: 3 * 6 = 18", "4: 3 * 6 = 99"], World("C"))
    [(('*', 6, 1), 'right'), (('*', 6, 1), 'another')]
    """
    found = []
    for left, operator, right, written in (match.groups() for match in map(RESULT.search, steps) if match):
        belief = world.belief(operator, int(left), int(right))
        found.append((belief.key, {belief.right: "right", belief.wrong: "own"}.get(written, "another")))
    return found


def part_of_a_run(rollouts: Sequence[RecordedRollout], world: World) -> list[float]:
    """The numbers of a row, of labelled rollouts."""
    written = results((text for rollout in rollouts for text in rollout.step_texts), world)
    wrong = [(key, how) for key, how in written if how != "right"]
    labelled = [rollout for rollout in rollouts if (rollout.entry.counts.sampled > 0).all()]
    shares = [StepScores(soft(rollout.entry.counts), 0) for rollout in labelled]
    return [
        len(wrong) / len(written),
        sum(how == "own" for _, how in wrong) / max(1, len(wrong)),
        len({key for key, _ in wrong}),
        step_measures(labelled, shares)[AUC],
        step_measures(rollouts, [rollout.scores for rollout in rollouts])[AUC],
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs with record: true")
    parser.add_argument("--world", choices=WORLDS, default="C", help="of the policy that they began with")
    parser.add_argument("--world-seed", type=int, default=0)
    chosen = parser.parse_args()
    # Studies of other tasks keep their recorded runs in the same folder.
    runs = [run for run in chosen.runs if load_config(run / CONFIG_FILE).task.name == "beliefs"]
    if not runs:
        parser.error("no run of the task beliefs is among these")
    world, streams = World(chosen.world, chosen.world_seed), [open_stream(run) for run in runs]
    print("| policy steps | wrong results | of them a belief's own | rules | AUC of labels | of the reward model |")
    print("|---|---|---|---|---|---|")
    for steps in np.array_split(streams[0].steps, PARTS):
        rows = [
            part_of_a_run([one for step in steps for one in stream.step(step) if one.annotated], world)
            for stream in streams
        ]
        wrong, own, rules, labels, model = np.mean(rows, axis=0)
        print(f"| {steps[0]} to {steps[-1]} | {wrong:.1%} | {own:.0%} | {rules:.0f} | {labels:.3f} | {model:.3f} |")


if __name__ == "__main__":
    main()
