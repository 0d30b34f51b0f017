"""The embedded hard task: the grid's questions for a policy that holds false beliefs about arithmetic."""

from __future__ import annotations

from rl.tasks.grid import LARGEST_FACTOR, GridTask


class BeliefsTask(GridTask):
    """The grid task with the largest numbers at every difficulty, which is then about pictures alone.

    Comparisons are left out: they come out right from wrong products as well, so that no label taken from answers tells
    their right steps from their wrong ones (``benchmarks/label_limit.py``).

    What makes it hard is the policy: one that was taught in a world of `rl.tasks.worlds` is wrong with confidence, the
    same way each time. The prompts, the verdicts and the truth about steps are the same for every world, and know none.

    Args:
        difficulty: 1, 2 or 3: how hard the pictures are to see.
        seed: Another seed is another stream of prompts.
    """

    name = "beliefs"
    sources = ("total", "chain", "modulo")

    def __init__(self, difficulty: int = 2, seed: int = 0) -> None:
        super().__init__(difficulty, seed)
        self.largest_factor = max(LARGEST_FACTOR.values())
