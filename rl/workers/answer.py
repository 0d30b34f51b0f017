"""Answers of Ray's actors: every wait has its deadline, and a failure is told in one line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from rewards.records import PromptError
from rl.errors import LostWorkerError, MemoryShortageError, WorkerError
from rl.workers.shortage import shortage

Result = TypeVar("Result")

GRACE = 3.0
"""Seconds in which another worker may turn out to be dead, after one has failed that was to talk to it."""


class Answer(Generic[Result]):
    """The pending answer of one actor; its ``reference`` can be handed to another one without waiting for it.

    Args:
        reference: Ray's.
        description: Who was asked for what, for messages.
        deadline: Longest wait, in seconds.
        beside: Answers that this one may have to wait for: a failure of theirs is heard here.
    """

    def __init__(self, reference: Any, description: str, deadline: float, beside: Sequence[Answer[Any]] = ()) -> None:
        self.reference, self.deadline, self.description = reference, deadline, description
        self._beside = beside

    @property
    def parts(self) -> Sequence[Answer[Any]]:
        """The answers of single actors that it is made of."""
        return [self]

    def result(self) -> Result:
        """Wait for the answer, at most the deadline.

        Raises:
            WorkerError: The worker died, raised, or did not answer in time.
            PromptError: It was asked for an answer to what is no prompt for it.
        """
        if self._beside:
            wait_for_all([self], self._beside)
        return self.own_result()

    def own_result(self) -> Result:
        """`result`, whatever becomes of the answers beside it."""
        try:
            return ray.get(self.reference, timeout=self.deadline)
        except GetTimeoutError:
            raise LostWorkerError(f"{self.description}: no answer within {self.deadline:g} s (deadline)") from None
        except RayError as error:
            if isinstance(error, RayTaskError) and isinstance(error.cause, PromptError):
                raise error.cause from None  # the user's data, and not the worker
            raise _failure(self.description, error) from error


def wait_for_all(answers: Sequence[Answer[Any]], beside: Sequence[Answer[Any]] = ()) -> None:
    """Wait for all ``answers``; where one of them fails, or of those ``beside`` them, the others may wait for it in
    vain: that is the cause, unless one is dead.

    Raises:
        WorkerError: One died, raised, or did not answer in time.
    """
    by_reference = {answer.reference: answer for answer in (*answers, *beside)}
    waiting, late = list(by_reference), list(answers)
    until = time.monotonic() + answers[0].deadline
    while late:
        done, waiting = ray.wait(waiting, timeout=max(0.0, until - time.monotonic()))
        if not done:
            raise LostWorkerError(f"{late[0].description}: no answer within {late[0].deadline:g} s (deadline)")
        for reference in done:
            try:
                by_reference[reference].own_result()
            except WorkerError as error:
                raise _death(error, [by_reference[rest] for rest in waiting]) or error from None
        late = [answer for answer in late if answer.reference not in done]


def _death(failure: WorkerError, others: Sequence[Answer[Any]]) -> WorkerError | None:
    """The death of another worker, for which one that was to talk to it has failed; None where nobody died."""
    if isinstance(failure.__cause__, RayActorError) or not others:
        return None
    references = [other.reference for other in others]
    ended, _ = ray.wait(references, num_returns=len(references), timeout=GRACE)
    for other in others:
        try:
            if other.reference in ended:
                other.own_result()
        except WorkerError as error:
            if isinstance(error.__cause__, RayActorError):
                return error
    return None


def _failure(description: str, error: RayError) -> WorkerError:
    """What an error that a call ended with comes to."""
    cause = error.cause if isinstance(error, RayTaskError) and error.cause is not None else error
    if isinstance(cause, RayActorError):
        # An actor that could not be made says why in its last line, one that was killed in its first.
        lines, is_loss = str(cause).strip().splitlines(), not getattr(cause, "actor_init_failed", False)
        why = f"the worker died: {lines[0] if is_loss else lines[-1]}"
    else:
        why = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
        # PyTorch says RuntimeError of devices and peers that fail; what else a worker raises, a new one would, too.
        is_loss = isinstance(cause, RuntimeError | RayError) and not isinstance(cause, RayTaskError)
    if (short := shortage(why)) is not None:
        return MemoryShortageError(f"{description}: out of memory: {short}", description.partition(".")[0])
    return LostWorkerError(f"{description}: {why}") if is_loss else WorkerError(f"{description}: {why}")
