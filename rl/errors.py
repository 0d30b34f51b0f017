"""What ends a run or a command in one line."""

from __future__ import annotations


class ConfigError(ValueError):
    """The user's configuration is wrong; the message says which key, which value, and what is allowed."""


class WorkerError(RuntimeError):
    """A worker died, raised, or did not answer in time; the message says which, at what, and why, in one line."""


class LostWorkerError(WorkerError):
    """A worker is of no use any more, and a new one in its place might be: it died, or does not answer, or a device or
    a peer of its own is gone."""


class MemoryShortageError(LostWorkerError):
    """A worker had not enough memory; the message says what it asked for, and what was there.

    Attributes:
        worker: Its name.
    """

    def __init__(self, message: str, worker: str) -> None:
        super().__init__(message)
        self.worker = worker


class CheckpointError(RuntimeError):
    """A checkpoint could not be written; the message says which and why. Those before it are as they were."""


class MixedGroupError(RuntimeError):
    """Rollouts that are to be compared with each other would have come from different weights."""


class UnreadableRolloutsError(RuntimeError):
    """The policy writes nothing that a model could read back."""


class RewardHackingError(RuntimeError):
    """The watch has stopped the run; the message says what it saw."""
