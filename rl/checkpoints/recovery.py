"""When a run loses a worker: it lets go of all of them and begins anew, from its newest checkpoint.

A checkpoint holds everything, and what follows from it is the same every time. So the run goes on as if nothing had
happened, whatever the others were doing, and there is one way to begin for every fault. Replacing a single worker would
save the steps since the checkpoint, and not the seconds that starting takes, for which all workers start at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rl.checkpoints.ledger import Ledger
from rl.errors import ConfigError, LostWorkerError, MemoryShortageError

Result = TypeVar("Result")


def recovering(
    attempt: Callable[[], Result],
    attempts: int,
    ledger: Ledger,
    say: Callable[[str], None],
    stopped: Callable[[], bool],
    smaller: Callable[[str], str] = str,
) -> Result:
    """Call ``attempt`` until it comes to an end, and once more each time that it loses a worker.

    Args:
        attempt: Goes on from the newest checkpoint, and lets go of all workers before it returns or raises.
        attempts: How often in a row it is called again without having finished a policy step that it never finished
            before.
        ledger: Of the run; recoveries are counted there.
        say: Is told of every loss.
        stopped: Whether the user wants the run to end, however it does.
        smaller: What to change where the worker of this name had not enough memory. Others may have taken it for a
            while, as those of an attempt before; the second time the run ends.

    Raises:
        LostWorkerError: A worker was lost and that was the last attempt; the message says what was lost, and, where
            Ray has no room to begin anew, that.
    """
    left, furthest, lost, shortages = attempts, ledger.furthest, "", 0
    while True:
        try:
            return attempt()
        except LostWorkerError as error:
            lost = str(error)
            if isinstance(error, MemoryShortageError):
                shortages += 1
                lost += f"{', for the second time' if shortages > 1 else ''}: {smaller(error.worker)}"
                if shortages > 1:
                    raise LostWorkerError(lost) from None
        except ConfigError as error:
            if not lost:
                raise
            # Nodes that are gone take their room with them.
            raise LostWorkerError(f"{lost}; and the run cannot begin anew: {error}") from None
        if ledger.furthest > furthest:
            left, furthest = attempts, ledger.furthest
        if left == 0 or stopped():
            again = f", after beginning anew {attempts} times without a new policy step" if attempts else ""
            raise LostWorkerError(lost + ("" if stopped() else again))
        left -= 1
        ledger.recovered()
        say(f"{lost}; beginning anew ({attempts - left} of {attempts}) …")
