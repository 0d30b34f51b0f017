"""A user's own verifier: whatever it does, there is one line about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rewards.verification.verifiers import Verifier


class VerifierError(RuntimeError):
    """A verifier failed, or gave something that is no verdict; the message says which and why, in one line."""


@dataclass(frozen=True)
class CheckedVerifier:
    """A verifier that says true or false, or stops everything with a `VerifierError`.

    Attributes:
        name: For messages.
        verifier: The user's own.
    """

    name: str
    verifier: Verifier

    def __call__(self, completion: str, reference: str) -> bool:
        try:
            verdict = self.verifier(completion, reference)
            if verdict in (True, False):
                return bool(verdict)
        except Exception as error:  # a verifier of the user's can fail in any way
            reason = " ".join(str(error).split())
            raise VerifierError(f"{self.name} failed: {type(error).__name__}: {reason}") from error
        raise VerifierError(f"{self.name} gave {verdict!r} for an answer; allowed is true or false")

    @property
    def answer_of(self) -> Any:
        """The verifier's own reader of answers, see `rewards.verification.answers.answer_reader`; None without one."""
        return getattr(self.verifier, "answer_of", None)
