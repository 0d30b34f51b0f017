"""A hopeless run says so: what its latest policy steps have in common that nothing can be learned from, once each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from rl.config import Config
from rl.monitoring.report import StepReport
from rl.monitoring.warnings import (
    empty_buffer,
    late_labels,
    no_entropy,
    no_mixed_group,
    no_right_answer,
    one_kind_of_labels,
)


@dataclass(frozen=True)
class Signs:
    """What one policy step has of what there is to learn from.

    Attributes:
        answers, right: Rollouts, and those that the verifier calls right.
        groups, mixed: Groups of them, and those with right and wrong ones.
        labelled, positive: Steps with a Monte-Carlo label, and those from which an answer came out right.
        kept: Rollouts in the buffer.
        entropy: Nats a token; infinite where the learner does not say.
    """

    answers: int
    right: int
    groups: int
    mixed: int
    labelled: int
    positive: int
    kept: int
    entropy: float

    @classmethod
    def of(cls, report: StepReport) -> Signs:
        """Those of a policy step."""
        rollouts, counts = report.batch.rollouts, [entry.counts for entry in report.labels.annotated]
        kinds = {(rollout.group, rollout.outcome > 0) for rollout in rollouts}
        groups = len({group for group, _ in kinds})
        return cls(
            answers=len(rollouts),
            right=sum(rollout.outcome > 0 for rollout in rollouts),
            groups=groups,
            mixed=len(kinds) - groups,
            labelled=sum(int((entry.sampled > 0).sum()) for entry in counts),
            positive=sum(int((entry.correct > 0).sum()) for entry in counts),
            kept=len(report.offer.kept),
            entropy=report.said.policy.get("entropy", inf),
        )


class RunWarnings:
    """Looks at the latest `watch.hopeless_after` policy steps of a run, at all of a shorter one's."""

    def __init__(self, config: Config) -> None:
        self._window = min(config.watch.hopeless_after, config.steps)
        self._teaches = config.places_mprm and config.mprm.until != 0
        self._delay, until = config.annotation.delay, config.mprm.until
        self._learns = config.steps if until is None else min(config.steps, until)
        self._with_labels = min(self._window, max(self._learns - self._delay, 0))
        self._seen = 0
        self._latest: deque[Signs] = deque(maxlen=self._window)
        self._said: set[str] = set()

    def after(self, report: StepReport) -> list[str]:
        """What there is to say after a policy step that has not been said before."""
        self._latest.append(Signs.of(report))
        self._seen += 1
        if not self._window or len(self._latest) < self._window:
            return []
        new = {kind: line for kind, line in self._lines() if line and kind not in self._said}
        self._said |= new.keys()
        return list(new.values())

    def _lines(self) -> Iterator[tuple[str, str | None]]:
        steps = f"{self._window:,} policy steps"

        def total(name: str, last: int = self._window) -> int:
            return sum(getattr(signs, name) for signs in list(self._latest)[-last:])

        right, answers = total("right"), total("answers")
        among = f"{answers:,} answers in the last {steps}"
        yield "right", no_right_answer(right, among)
        yield "mixed", no_mixed_group(total("mixed"), total("groups"), right, answers, among)
        yield "entropy", no_entropy(max(signs.entropy for signs in self._latest), f"the last {steps}")
        if not self._teaches:
            return
        last = self._with_labels
        if not last:
            yield "delay", late_labels(self._delay, self._learns)
        elif self._seen >= self._delay + last:
            yield "buffer", empty_buffer(total("kept", last), f"{self._seen:,} policy steps")
            yield "labels", one_kind_of_labels(total("positive", last), total("labelled", last))
