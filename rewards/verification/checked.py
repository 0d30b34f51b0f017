"""A user's own verifier: whatever it does, there is one line about it."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

from rewards.records import Prompt
from rewards.users_code import UsersCodeError, in_one_line
from rewards.verification.reward_functions import Judge, judge_of
from rewards.verification.verdict import Answer, Verdict, read_verdict


@dataclass(frozen=True)
class CheckedVerifier:
    """A verifier that gives verdicts, and reads an answer or none, or stops everything with a `UsersCodeError`.

    Attributes:
        name: For messages.
        verifier: The user's own, of any kind that `rewards.verification.reward_functions` knows.
        weights: Of the parts that it gives; see `rewards.verification.verdict.read_verdict`.
    """

    name: str
    verifier: Callable[..., object]
    weights: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, completion: str, reference: str) -> bool:
        """Whether a text is right, of a prompt that has nothing but a reference answer."""
        return self.verdict(Answer(completion, Prompt("", "", "", (), reference))).correct

    def verdict(self, answer: Answer) -> Verdict:
        """What it says of an answer."""
        judge, bounded = self._judge
        with in_one_line(self.name, let_through=(UsersCodeError,)):
            said = judge(answer)
            try:
                return read_verdict(said, self.weights, bounded)
            except ValueError as error:
                raise UsersCodeError(f"{self.name} gave {reprlib.repr(said)} for an answer; {error}") from None

    @cached_property
    def _judge(self) -> tuple[Judge, bool]:
        return judge_of(self.verifier)

    @property
    def answer_of(self) -> Callable[[str], str | None] | None:
        """The verifier's own reader of answers, see `rewards.verification.answers.answer_reader`; None without one."""
        reader = getattr(self.verifier, "answer_of", None)
        return None if reader is None else partial(self._read, reader)

    def _read(self, reader: Callable[[str], str | None], completion: str) -> str | None:
        name = f"{self.name}: answer_of"
        with in_one_line(name, let_through=(UsersCodeError,)):
            answer = reader(completion)
            if answer is None or isinstance(answer, str):
                return answer
            raise UsersCodeError(f"{name} gave a {type(answer).__name__}; allowed is text, or None without an answer")
