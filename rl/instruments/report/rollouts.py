"""The rollouts that a report shows: a sample of what the runs have recorded."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL.Image import Image

from rl.instruments.replay.stream import RecordedRollout, Stream, open_stream
from rl.instruments.report.runs import Run, rounded
from rl.monitoring.recording import STEP, STREAM, stream_files
from rl.monitoring.terminal import progress_bar

LONGEST_TEXT = 2000
LONGEST_SIDE = 336
QUALITY = 85
STRETCHES = 10
"""Into so many stretches of equal length a run is cut; each shows as many rollouts as any other."""


@dataclass(frozen=True)
class ShownStep:
    """One written step.

    Attributes:
        text: What it says.
        kind: ``perception``, ``reasoning``, or empty.
        score: The MPRM's, at that time; None without one.
        correct, sampled: Its Monte-Carlo counts; ``sampled`` is 0 where there are none.
        truth: Whether it is right, after only right ones; None where nobody knows.
    """

    text: str
    kind: str
    score: float | None
    correct: float
    sampled: float
    truth: bool | None


@dataclass(frozen=True)
class ReportedRollout:
    """One rollout.

    Attributes:
        id: Unique in the report, and the same in every report of the run.
        run: Whose it is, by its place in the report.
        step: The policy step that it was sampled for.
        source, question, answer: Of the prompt; the answer is the reference.
        images: The prompt's, by their places in `RolloutSample.images`.
        steps: What was written.
        ending: The last line of the text: the final answer.
        outcome: 1 right, 0 wrong.
        selected: ``kept``, ``passed over`` or ``not annotated``.
        informative: What the selector gave it; None if it was not asked.
    """

    id: str
    run: int
    step: int
    source: str
    question: str
    answer: str
    images: list[int]
    steps: list[ShownStep]
    ending: str
    outcome: float
    selected: str
    informative: float | None


@dataclass(frozen=True)
class RolloutSample:
    """What is shown, and of how many.

    Attributes:
        rollouts: In the order of runs and steps.
        images: Data URIs, each once.
        recorded: How many rollouts each run has recorded; 0 for a run without a stream.
    """

    rollouts: list[ReportedRollout]
    images: list[str]
    recorded: list[int]


def sample_rollouts(runs: Sequence[Run], most: int) -> RolloutSample:
    """At most so many rollouts, equally many of each recorded run; `rl.instruments.report.rollouts` says which.

    Raises:
        ConfigError: A recorded stream is damaged or is something else.
    """
    streams = {place: open_stream(run.folder) for place, run in enumerate(runs) if _has_stream(run)}
    if not streams:
        return RolloutSample([], [], [0] * len(runs))
    images: dict[str, int] = {}
    rollouts: list[ReportedRollout] = []
    # Every file is looked at twice: to choose, and to show.
    with progress_bar("files of rollouts read", 2 * sum(len(stream.steps) for stream in streams.values())) as advance:
        disputes = {place: list(_disagreements(stream, advance)) for place, stream in streams.items()}
        sizes = [sum(map(len, disputes.get(place, []))) for place in range(len(runs))]
        shares = fair_shares(sizes, most)
        for place, stream in streams.items():
            chosen = choose(disputes[place], shares[place])
            rollouts += _shown(runs[place].name, place, stream, chosen, images, advance)
    return RolloutSample(rollouts, list(images), sizes)


def _has_stream(run: Run) -> bool:
    """Whether it has recorded a policy step; one that has just begun may have recorded an evaluation alone."""
    return any(kind == STEP for _, kind in stream_files(run.folder / STREAM))


def _disagreements(stream: Stream, advance: Callable[[int], None]) -> Iterator[np.ndarray]:
    """Of each recorded policy step, that of each of its rollouts (N,)."""
    for step in stream.steps:
        rows = stream.columns(step, ("scores", "correct", "sampled"))
        yield np.array([disagreement(*row) for row in rows], dtype=float)
        advance(1)


def _shown(
    name: str,
    run: int,
    stream: Stream,
    chosen: Sequence[np.ndarray],
    images: dict[str, int],
    advance: Callable[[int], None],
) -> Iterator[ReportedRollout]:
    """The chosen rollouts of a run; new images get the next place in ``images``."""
    for step, places in zip(stream.steps, chosen, strict=True):
        advance(1)
        rows = places.tolist()
        for row, recorded in zip(rows, stream.step(step, rows) if rows else [], strict=True):
            uris = [data_uri(image) for image in recorded.entry.prompt.images]
            pictures = [images.setdefault(uri, len(images)) for uri in uris]
            yield _shown_rollout(recorded, f"{name}:{step}:{row}", run, step, pictures)


def _shown_rollout(recorded: RecordedRollout, name: str, run: int, step: int, images: list[int]) -> ReportedRollout:
    prompt, rollout = recorded.entry.prompt, recorded.entry.rollout
    return ReportedRollout(
        id=name,
        run=run,
        step=step,
        source=rollout.source,
        question=shortened(prompt.question),
        answer=shortened(prompt.answer),
        images=images,
        steps=_steps(recorded),
        ending=shortened(rollout.text.strip().rpartition("\n")[2]),
        outcome=rollout.outcome,
        selected="kept" if recorded.kept else "passed over" if recorded.annotated else "not annotated",
        informative=_number(recorded.informative),
    )


def _steps(recorded: RecordedRollout) -> list[ShownStep]:
    spans, counts = recorded.entry.rollout.steps, recorded.entry.counts
    scores = recorded.scores.scores if len(recorded.scores.scores) else np.full(len(spans), np.nan)
    nothing = np.zeros(len(spans))
    correct, sampled = (counts.correct, counts.sampled) if recorded.annotated else (nothing, nothing)
    truths = recorded.truth.tolist() or [None] * len(spans)
    columns = (recorded.step_texts, spans, scores.tolist(), correct.tolist(), sampled.tolist(), truths)
    return [
        ShownStep(shortened(text), span.kind, _number(score), right, of, truth)
        for text, span, score, right, of, truth in zip(*columns, strict=True)
    ]


def _number(value: float) -> float | None:
    return rounded(value) if np.isfinite(value) else None


def shortened(text: str) -> str:
    """At most `LONGEST_TEXT` characters of a text; a longer one ends with how long it was."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} … ({len(text):,} characters)"


def data_uri(image: Image) -> str:
    """An image as a WebP of at most `LONGEST_SIDE` pixels a side, in a URI that needs no other file."""
    small = image.copy()
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    stream = io.BytesIO()
    small.save(stream, format="WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def disagreement(scores: Sequence[float], correct: Sequence[float], sampled: Sequence[float]) -> float:
    """The largest difference between a step's score and its share of right continuations; NaN where no step has both.

    Args:
        scores: The MPRM's score of each step (K,), or none at all.
        correct, sampled: Monte-Carlo counts of each step (K,), or none at all.
    """
    differences = [
        abs(score - right / of) for score, right, of in zip(scores, correct, sampled, strict=False) if of > 0
    ]
    return max(differences, default=float("nan"))


def choose(disagreements: Sequence[np.ndarray], most: int) -> list[np.ndarray]:
    """Choose rollouts of every stretch of a run: half of them those on which MPRM and Monte-Carlo counts disagree most,
    the others at random, always the same.

    Args:
        disagreements: For each policy step, in order, that of each of its rollouts.
        most: How many to choose, at most.

    Returns:
        For each policy step the chosen rollouts' places, ascending.
    """
    owner = np.repeat(np.arange(len(disagreements)), [len(values) for values in disagreements])
    place = np.concatenate([np.arange(len(values)) for values in disagreements])
    values = np.concatenate(disagreements)
    stretch = owner * min(STRETCHES, len(disagreements)) // len(disagreements)
    members = [np.flatnonzero(stretch == number) for number in range(stretch.max(initial=-1) + 1)]
    random = np.random.default_rng(0)
    chosen = [
        _of_stretch(rows, values[rows], share, random)
        for rows, share in zip(members, fair_shares([len(rows) for rows in members], most), strict=True)
    ]
    taken = np.sort(np.concatenate([np.zeros(0, dtype=int), *chosen]))
    return [place[taken[owner[taken] == number]] for number in range(len(disagreements))]


def fair_shares(sizes: Sequence[int], most: int) -> list[int]:
    """Divide ``most`` among heaps of these sizes: as equally as they allow, what a small one leaves going to others.

    >>> fair_shares([100, 2, 100], 12)
    [5, 2, 5]
    """
    shares, left = [0] * len(sizes), most
    for waiting, heap in enumerate(sorted(range(len(sizes)), key=lambda heap: sizes[heap])):
        shares[heap] = min(sizes[heap], left // (len(sizes) - waiting))
        left -= shares[heap]
    return shares


def _of_stretch(rows: np.ndarray, values: np.ndarray, share: int, random: np.random.Generator) -> np.ndarray:
    by_disagreement = np.argsort(-np.nan_to_num(values, nan=-1.0), kind="stable")
    known = by_disagreement[: np.count_nonzero(~np.isnan(values))]
    most_disputed = known[: (share + 1) // 2]
    others = np.setdiff1d(np.arange(len(rows)), most_disputed)
    return rows[np.concatenate([most_disputed, random.choice(others, share - len(most_disputed), replace=False)])]
