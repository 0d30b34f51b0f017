"""A watch for reward hacking: rollouts drift to what the MPRM likes and the verifier does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from rewards.models.steps import step_texts
from rewards.records import Rollout, StepScores
from rl.config.learner import WatchConfig

Decode = Callable[[Sequence[int]], str]

METRIC_NAMES = {
    "gap": "reward/hacking_gap",
    "step_tokens": "reward/step_tokens",
    "repeated": "reward/repeated_steps",
}
WHAT = {
    "gap": "the MPRM's score of an answer minus verified accuracy",
    "steps": "the steps of an answer",
    "step_tokens": "the tokens of a step",
    "repeated": "the share of repeated steps",
}
DIFFERENCES = ("gap", "repeated")

_NUMBER = re.compile(r"[\s*#]*(?:step\s+\d+\b[:.)\]]*|[(\[]?\d+(?:[:)\]]+|\.(?!\d)))[\s*]*")


class HackingWatch:
    """Compares the mean of the latest policy steps with that of the first ones.

    A policy that hacks its reward model raises the scores while verified accuracy stays or falls, and it does so with
    more, shorter or emptier steps, or by saying the same again. One measure a key of `rl.config.learner.WatchConfig`:

        gap:          mean over the rollouts of the mean score of their steps, minus the share of them that is right
        steps:        steps of a rollout
        step_tokens:  tokens of a step
        repeated:     share of the steps that repeat an earlier one of their rollout; see `repeated_steps`

    ``gap`` and ``repeated`` cross their threshold when they have grown by more than it, a gap that began below 0 from 0
    on: a reward model that scored everything too low may learn better. ``steps`` and ``step_tokens`` when they are more
    or fewer by a larger share. Each warns when it crosses, not again while it stays there, and once more if it comes
    back and crosses again. Rollouts without steps count only in ``steps``: the MPRM says nothing of them. The first
    ``baseline`` policy steps never warn; the ones compared with them are the latest ``window``.

    Args:
        settings: The thresholds.
        decode: The text of tokens, with which the number that a step begins with is ignored; without it two steps are
            the same only if all their tokens are.
    """

    def __init__(self, settings: WatchConfig, decode: Decode | None = None) -> None:
        self._settings = settings
        self._decode = decode
        self._first: dict[str, list[float]] = {kind: [] for kind in WHAT}
        self._latest: dict[str, list[float]] = {kind: [] for kind in WHAT}
        self._beyond: set[str] = set()

    def after(self, rollouts: Sequence[Rollout], scores: Sequence[StepScores]) -> tuple[dict[str, float], str | None]:
        """Look at the rollouts of one policy step.

        Args:
            rollouts: With the verifier's verdict as their outcome, whatever an outcome model says.
            scores: The MPRM's, one entry a rollout; empty ones in a run without it.

        Returns:
            The metrics by their full names, without those that no rollout has (there is no step, or no score), and one
            line if a threshold is crossed.
        """
        measured = measure(rollouts, scores, self._decode)
        warnings = [warning for kind, value in measured.items() if (warning := self._look(kind, value))]
        metrics = {name: measured[kind] for kind, name in METRIC_NAMES.items() if kind in measured}
        return metrics, f"reward hacking? {'; '.join(warnings)}" if warnings else None

    def state(self) -> dict[str, Any]:
        """What `restore` needs in order to go on as if nothing had happened; plain JSON."""
        return {"first": self._first, "latest": self._latest, "beyond": sorted(self._beyond)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        first, latest = (msgspec.convert(state[name], dict[str, list[float]]) for name in ("first", "latest"))
        self._first, self._latest = ({kind: kept[kind] for kind in WHAT} for kept in (first, latest))
        self._beyond = msgspec.convert(state["beyond"], set[str])

    def _look(self, kind: str, value: float) -> str | None:
        """Take in a measure; the warning, if it has just crossed its threshold."""
        first, latest = self._first[kind], self._latest[kind]
        settled = len(first) >= self._settings.baseline
        if not settled:
            first.append(value)
        latest.append(value)
        del latest[: -self._settings.window]
        threshold: float | None = getattr(self._settings, kind)
        if threshold is None or not settled:
            return None
        before, now = float(np.mean(first)), float(np.mean(latest))
        grown = now - max(before, 0.0)
        beyond = grown > threshold if kind in DIFFERENCES else abs(now - before) > threshold * before
        crossed = beyond and kind not in self._beyond
        (self._beyond.add if beyond else self._beyond.discard)(kind)
        if not crossed:
            return None
        by = f"{threshold:g}" if kind in DIFFERENCES else f"{threshold:.0%}"
        return (
            f"{WHAT[kind]}: {before:.2f} in the first {len(first)} policy steps, {now:.2f} in the last {len(latest)}, "
            f"further than watch.{kind} allows ({by})"
        )


def measure(
    rollouts: Sequence[Rollout], scores: Sequence[StepScores], decode: Decode | None = None
) -> dict[str, float]:
    """The measures of one policy step, by the keys of `rl.config.learner.WatchConfig`; those that need steps,
    or the MPRM's scores of them, are missing where there are none."""
    if not rollouts:
        return {}
    measured = {"steps": float(np.mean([len(rollout.steps) for rollout in rollouts]))}
    written = [(rollout, scored) for rollout, scored in zip(rollouts, scores, strict=True) if rollout.steps]
    if not written:
        return measured
    repeated = [again for rollout, _ in written for again in repeated_steps(rollout, decode)]
    lengths = [step.end - step.start for rollout, _ in written for step in rollout.steps]
    measured |= {"step_tokens": float(np.mean(lengths)), "repeated": float(np.mean(repeated))}
    gaps = [float(np.mean(scored.scores)) - rollout.outcome for rollout, scored in written if len(scored.scores)]
    return measured | ({"gap": float(np.mean(gaps))} if gaps else {})


def repeated_steps(rollout: Rollout, decode: Decode | None = None) -> list[bool]:
    """Which steps say the same as an earlier step of the rollout.

    Two steps say the same if their texts are equal in any case and with any white space, the number that they begin
    with aside (``3:``, ``(3)``, ``Step 3.``). Without ``decode``, if their tokens are equal.

    >>> from rewards.records import StepSpan
    >>> text = "1: so\\n2: so\\n3: no\\n"
    >>> spans = tuple(StepSpan(start, start + 6) for start in (0, 6, 12))
    >>> rollout = Rollout("p", "s", 0, tuple(map(ord, text)), (0.0,) * 18, text, spans, 1.0, "stop", 0)
    >>> repeated_steps(rollout, lambda tokens: "".join(map(chr, tokens))), repeated_steps(rollout)
    ([False, True, False], [False, False, False])
    """
    seen: set[object] = set()
    repeated = []
    tokens = [rollout.token_ids[step.start : step.end] for step in rollout.steps]
    for said in tokens if decode is None else map(_said, step_texts(rollout, decode)):
        repeated.append(said in seen)
        seen.add(said)
    return repeated


def _said(text: str) -> str:
    plain = text.casefold()
    number = _NUMBER.match(plain)
    return " ".join(plain[number.end() if number else 0 :].split())
