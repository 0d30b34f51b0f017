"""How well Monte-Carlo labels can tell right reasoning steps from wrong ones on the beliefs task, however many
continuations there are, and whoever learns from them:

    python benchmarks/label_limit.py                # world C; --world and --world-seed for others

A teacher's steps are scored by its exact chance to end with the right answer, by 8 and 32 draws of it, and by the hard
label of 8. No network takes part: one that learned such labels without any error would score a step by that chance.
The table has the area under the ROC curve against whether a step is right so far, within kinds weighted by their
errors, with its standard error over prompts: of all questions of the task, and of each source. Beside the task's own
sources it has the grid's comparisons, which the task leaves out for what stands there.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from rewards.measuring.discrimination import step_discrimination
from rl.tasks.beliefs import BeliefsTask
from rl.tasks.grid import GridTask
from rl.tasks.grid_steps import Combine, check_steps
from rl.tasks.teacher import chance_of_success, teach
from rl.tasks.worlds import WORLDS, World

CONTINUATIONS = 8, 32


@dataclass(frozen=True)
class ReasoningStep:
    """A written step: its question's number and source, its kind, the teacher's chance of success after it, and whether
    it is right so far."""

    prompt: int
    source: str
    kind: str
    chance: float
    right: bool


def reasoning_steps(world: World, prompts: int, seed: int = 0) -> list[ReasoningStep]:
    """Those of one drawn solution of each of the first held-out prompts, comparisons among them."""
    task, rng = BeliefsTask(), np.random.default_rng(seed)
    task.sources = GridTask.sources
    found = []
    for index in range(prompts):
        puzzle = task.puzzle("heldout", index)
        lines = teach(world, puzzle, rng).split("\n")[: len(puzzle.operations)]
        for place, truth in enumerate(check_steps(puzzle, lines)):
            if isinstance(puzzle.operations[place], Combine):
                chance = chance_of_success(world, puzzle, lines[: place + 1])
                found.append(ReasoningStep(index, puzzle.source, truth.kind, chance, truth.so_far))
    return found


def scores_of(steps: list[ReasoningStep], seed: int = 0) -> dict[str, np.ndarray]:
    """What each kind of label says of every step (S,)."""
    rng, chance = np.random.default_rng(seed), np.array([step.chance for step in steps])
    shares = {f"share of {number}": rng.binomial(number, chance) / number for number in CONTINUATIONS}
    return {"exact chance": chance} | shares | {"hard label of 8": shares["share of 8"] > 0}


def area(steps: list[ReasoningStep], scores: np.ndarray) -> str:
    """The area and its standard error."""
    found = step_discrimination(
        scores, [step.right for step in steps], [step.kind for step in steps], [step.prompt for step in steps]
    )
    return f"{found.weighted:.3f} ± {found.standard_error:.3f}"


def table(steps: list[ReasoningStep]) -> str:
    """In Markdown: a row for each kind of label."""
    sources = sorted({step.source for step in steps})
    lines = [f"| label | all | {' | '.join(sources)} |", "|---" * (2 + len(sources)) + "|"]
    for name, scores in scores_of(steps).items():
        cells = []
        for asked in (BeliefsTask.sources, *([source] for source in sources)):
            here = [place for place, step in enumerate(steps) if step.source in asked]
            cells.append(area([steps[place] for place in here], scores[here]))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="C", choices=sorted(WORLDS))
    parser.add_argument("--world-seed", type=int, default=0)
    parser.add_argument("--prompts", type=int, default=2000)
    options = parser.parse_args()
    print(table(reasoning_steps(World(options.world, options.world_seed), options.prompts)))
