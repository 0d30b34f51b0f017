"""What a check of the machine is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Finding:
    """What one check saw.

    Attributes:
        state: ``ok``; ``warning``, a run can start but not as it should; ``missing``, it cannot start.
        found: What is there, in one line.
        mend: The command that mends it; empty where nothing is to be mended.
    """

    state: State
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Check:
    """One question about the machine.

    Attributes:
        name: What is looked at, for the report.
        look: Looks, in a process of its own; whatever it raises becomes a finding.
        deadline: Seconds that it may take.
        mend: The command to try where ``look`` raised, died, or took too long.
    """

    name: str
    look: Callable[[], Finding]
    deadline: float = 30.0
    mend: str = ""
