"""A rollout as one picture: the prompt's images, its question, and every step with its two scores in colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rewards.models.steps import step_texts
from rewards.process_model.labels import hard
from rewards.records import Prompt, Rollout, StepCounts
from rl.monitoring.report import Labels, Offer
from selection.rows import identity

WIDTH = 350
"""Pixels, as TensorBoard's cards have them: of what is larger it leaves out rows, and then `=` reads as `-`."""
MARGIN, LINE, LETTERS, CELL, TALLEST_IMAGE = 10, 16, 12, 42, 120
"""Pixels, too: the space around, a line of text and the letters in it, a coloured cell's width, and images' height."""
MOST_LINES, MOST_STEPS = 6, 16
"""Longer steps, and further ones, are cut off."""
TALLEST = 3_000
"""More pixels than the limits above allow."""
PAPER, INK, FAINT, RULE = (252, 252, 250), (26, 26, 26), (96, 96, 96), (206, 206, 202)
WRONG, UNSURE, RIGHT = (213, 94, 0), (240, 240, 236), (0, 114, 178)
"""Vermilion to blue, which colour-blind people tell apart (Okabe and Ito, 2008)."""
SHOWN = 4


@dataclass(frozen=True)
class ShownRollout:
    """What the picture of a rollout shows.

    Attributes:
        prompt, rollout: It.
        steps: The text of its K steps.
        scores: The MPRM's score of each (K,); empty without an MPRM.
        counts: Its Monte-Carlo evidence; None if it was not annotated.
        kept: Whether the buffer kept it for the MPRM to learn from.
    """

    prompt: Prompt
    rollout: Rollout
    steps: list[str]
    scores: np.ndarray
    counts: StepCounts | None
    kept: bool


def draw_rollout(shown: ShownRollout) -> Image.Image:
    """The picture, `WIDTH` pixels wide and as high as it has to be; legible on light and on dark pages."""
    picture = Image.new("RGB", (WIDTH, TALLEST), PAPER)
    pen = ImageDraw.Draw(picture)
    bottom = _draw_head(picture, pen, shown)
    bottom = _draw_steps(pen, shown, bottom + LINE // 2)
    final = shown.rollout.text.rstrip().splitlines()[-1] if shown.rollout.text.strip() else "(nothing written)"
    bottom = _write(pen, MARGIN, bottom + LINE // 3, final, WIDTH - 2 * MARGIN, most=2)
    return picture.crop((0, 0, WIDTH, bottom + MARGIN))


def step_colour(score: float) -> tuple[int, int, int]:
    """Of a score in [0, 1]: `WRONG` at 0, `UNSURE` at 0.5, `RIGHT` at 1.

    >>> step_colour(0.0), step_colour(0.5), step_colour(0.75)
    ((213, 94, 0), (240, 240, 236), (120, 177, 207))
    """
    red, green, blue = np.array(UNSURE) + abs(2 * score - 1) * (np.array(RIGHT if score > 0.5 else WRONG) - UNSURE)
    return round(red), round(green), round(blue)


def _draw_head(picture: Image.Image, pen: ImageDraw.ImageDraw, shown: ShownRollout) -> int:
    """Images, and beside them, or below if they are wide, question and verdict; gives the lower edge."""
    left, bottom = MARGIN, MARGIN
    images = [_fitted(image, len(shown.prompt.images)) for image in shown.prompt.images]
    for image in images:
        picture.paste(image, (left, MARGIN))
        left += image.width + MARGIN
        bottom = max(bottom, MARGIN + image.height)
    if left > WIDTH // 2:
        left, top = MARGIN, bottom + MARGIN // 2
    else:
        top = MARGIN
    width = WIDTH - MARGIN - left
    top = _write(pen, left, top, shown.prompt.question, width, most=8) + LINE // 3
    top = _write(pen, left, top, f"reference answer: {shown.prompt.answer}", width, FAINT, 2)
    verdict, colour = ("answered right", RIGHT) if shown.rollout.outcome > 0 else ("answered wrong", WRONG)
    top = _write(pen, left, top, verdict, width, colour)
    if shown.counts is None:
        fate = "not labelled"
    else:
        fate = "labelled, kept for the MPRM" if shown.kept else "labelled, not kept"
    return max(bottom, _write(pen, left, top, fate, width, FAINT))


def _draw_steps(pen: ImageDraw.ImageDraw, shown: ShownRollout, top: int) -> int:
    """The table of steps; gives its lower edge."""
    columns = WIDTH - MARGIN - 2 * CELL, WIDTH - MARGIN - CELL
    for left, heading in zip(columns, ("MPRM", "MC"), strict=True):
        pen.text((left + CELL // 2, top), heading, FAINT, _font(), anchor="ma")
    top += LINE
    for place, text in enumerate(shown.steps[:MOST_STEPS]):
        pen.line((MARGIN, top, WIDTH - MARGIN, top), RULE)
        bottom = _write(pen, MARGIN, top + 3, text, columns[0] - 2 * MARGIN, most=MOST_LINES) + 3
        score = float(shown.scores[place]) if place < len(shown.scores) else None
        _draw_cell(pen, (columns[0], top, columns[1], bottom), score, "" if score is None else f"{score:.2f}")
        share, told = _monte_carlo(shown.counts, place)
        _draw_cell(pen, (columns[1], top, columns[1] + CELL, bottom), share, told)
        top = bottom
    pen.line((MARGIN, top, WIDTH - MARGIN, top), RULE)
    if len(shown.steps) > MOST_STEPS:
        top = _write(pen, MARGIN, top + 3, f"and {len(shown.steps) - MOST_STEPS} more steps", columns[0], FAINT)
    return top


def _monte_carlo(counts: StepCounts | None, place: int) -> tuple[float | None, str]:
    """The share of right continuations of a step, and how it is told; None and nothing where there are none."""
    if counts is None or not counts.sampled[place]:
        return None, ""
    correct, sampled = float(counts.correct[place]), float(counts.sampled[place])
    return correct / sampled, f"{correct:.3g}/{sampled:.3g}"


def _draw_cell(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], score: float | None, told: str) -> None:
    """A coloured cell, or a hatched one where there is no score."""
    left, top, right, bottom = box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1
    if score is None:
        for start in range(left - (bottom - top), right, 6):
            first, last = max(start, left), min(start + bottom - top, right)
            pen.line((first, bottom - (first - start), last, bottom - (last - start)), RULE)
        pen.rectangle((left, top, right, bottom), outline=RULE)
        return
    colour = step_colour(score)
    pen.rectangle((left, top, right, bottom), colour)
    # Luminance by ITU-R BT.601.
    ink = INK if np.dot(colour, (0.299, 0.587, 0.114)) > 110 else PAPER
    pen.text(((left + right) / 2, (top + bottom) / 2), told, ink, _font(), anchor="mm")


def _write(
    pen: ImageDraw.ImageDraw,
    left: int,
    top: int,
    text: str,
    width: int,
    colour: tuple[int, int, int] = INK,
    most: int = 1,
) -> int:
    """Write a text in lines of so many pixels, at most so many of them; gives the lower edge."""
    lines = _wrapped(text, width)
    if len(lines) > most:
        last = lines[most - 1]
        while _font().getlength(last + " …") > width:
            last = last[:-1]
        lines = [*lines[: most - 1], last + " …"]
    for number, line in enumerate(lines):
        pen.text((left, top + number * LINE), line, colour, _font())
    return top + len(lines) * LINE


def _wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most so many pixels, broken at spaces, and inside words that are wider than that."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if _font().getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if _font().getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def _fitted(image: Image.Image, images: int) -> Image.Image:
    """The image at the height that it is shown at, or lower where several would not fit."""
    widest = (WIDTH - 2 * MARGIN) // images - MARGIN * (images > 1)
    scale = min(TALLEST_IMAGE / image.height, widest / image.width)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


@cache
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with Matplotlib and knows Greek and mathematics."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", LETTERS)


def choose_shown(labels: Labels, offer: Offer, decode: Callable[[Sequence[int]], str]) -> list[ShownRollout]:
    """The first rollouts of different groups of the policy step that has its labels, labelled ones before others;
    ``decode`` gives the text of tokens."""
    rollouts = labels.batch.rollouts
    annotated = dict(zip(labels.places, labels.annotated, strict=True))
    kept = {identity(entry) for entry in offer.kept}
    labelled_first = sorted(range(len(rollouts)), key=lambda place: place not in annotated)
    firsts = {rollouts[place].group: place for place in reversed(labelled_first)}
    shown = [place for place in labelled_first if firsts[rollouts[place].group] == place][:SHOWN]
    return [
        ShownRollout(
            prompt=labels.batch.prompts[place],
            rollout=rollouts[place],
            steps=[text.strip() for text in step_texts(rollouts[place], decode)],
            scores=labels.scores[place].scores,
            counts=annotated[place].counts if place in annotated else None,
            kept=place in annotated and identity(annotated[place]) in kept,
        )
        for place in shown
    ]


def monte_carlo_labels(labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """The MPRM's scores of the S labelled steps of a policy step, (S,), and which of them have a negative label, (S,);
    none without an MPRM."""
    scored = np.concatenate([np.zeros(0), *(labels.scores[place].scores for place in labels.places)])
    label = np.concatenate([np.zeros(0), *(hard(entry.counts) for entry in labels.annotated)])
    if not len(scored):
        return scored, np.zeros(0, dtype=bool)
    labelled = ~np.isnan(label)
    return scored[labelled], label[labelled] == 0
