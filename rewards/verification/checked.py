"""A user's own verifier: whatever it does, there is one line about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rewards.users_code import UsersCodeError, in_one_line
from rewards.verification.verifiers import Verifier


@dataclass(frozen=True)
class CheckedVerifier:
    """A verifier that says true or false, and reads an answer or none, or stops everything with a `UsersCodeError`.

    Attributes:
        name: For messages.
        verifier: The user's own.
    """

    name: str
    verifier: Verifier

    def __call__(self, completion: str, reference: str) -> bool:
        with in_one_line(f"{self.name} failed"):
            verdict = self.verifier(completion, reference)
            if verdict in (True, False):
                return bool(verdict)
        raise UsersCodeError(f"{self.name} gave {verdict!r} for an answer; allowed is true or false")

    @property
    def answer_of(self) -> Callable[[str], str | None] | None:
        """The verifier's own reader of answers, see `rewards.verification.answers.answer_reader`; None without one."""
        reader = getattr(self.verifier, "answer_of", None)
        return None if reader is None else partial(self._read, reader)

    def _read(self, reader: Callable[[str], str | None], completion: str) -> str | None:
        name = f"{self.name}: answer_of"
        with in_one_line(f"{name} failed"):
            answer = reader(completion)
        if answer is not None and not isinstance(answer, str):
            raise UsersCodeError(f"{name} gave a {type(answer).__name__}; allowed is text, or None without an answer")
        return answer
