"""A trial as one HTML page, which holds everything it shows, runs no script and asks nobody for anything."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from math import isnan
from string import Template

from rl.config import Config
from rl.instruments.report.page import asset, content_policy
from rl.instruments.report.rollouts import data_uri
from rl.instruments.step_preview import Piece
from rl.instruments.trying.remarks import difference_lines, step_lines
from rl.instruments.trying.terminal_view import answer_facts, came_out, numbered, picture_line
from rl.instruments.trying.trial import Boundary, RenderedPrompt, Trial, TriedAnswer
from rl.monitoring.terminal import printable

COLOURS = 8
"""Of steps: the series of `report.css`."""


def trial_page(name: str, config: Config, trial: Trial) -> str:
    """The HTML.

    Args:
        name: Of the configuration, as the user gave it.
        config: The experiment, as it is and not as it was tried.
        trial: What was seen.
    """
    style = asset("report.css") + asset("try.css", "trying")
    engine = f"{config.engine.kind}, {config.policy.dtype}"
    about = f"{config.policy.checkpoint} ({engine}); an answer ends with {' or '.join(trial.ends)}"
    return Template(asset("try.html", "trying")).substitute(
        title=f"sieve try {shown(name)}",
        about=shown(about),
        policy=content_policy(style, ""),
        style=style,
        warnings=_warnings(trial),
        prompts="\n".join(_prompts(trial)),
        took=_took(config, trial),
    )


def shown(text: str) -> str:
    r"""A text as HTML that says what stands there: an arrow at every line break, and control characters as codes.

    >>> shown("<b>\x00 & so\non")
    '&lt;b&gt;\\x00 &amp; so⏎\non'
    """
    return "⏎\n".join(escape(printable(line)) for line in text.split("\n"))


def _warnings(trial: Trial) -> str:
    if not trial.warnings:
        return "<p>Nothing to warn of.</p>"
    return f'<ul class="warnings">{"".join(f"<li>{shown(line)}</li>" for line in trial.warnings)}</ul>'


def _prompts(trial: Trial) -> Iterator[str]:
    for place, rendered in enumerate(trial.prompts):
        answers = trial.answers[place] if place < len(trial.answers) else []
        articles = "".join(_answer(number, answer) for number, answer in enumerate(answers, start=1))
        yield (
            f"<section><h2>Prompt {place + 1}: <bdi>{shown(rendered.prompt.id)}</bdi></h2>"
            f'<p class="reading">{shown(rendered.prompt.source)}; {picture_line(rendered)}; '
            f'reference <bdi>{shown(rendered.prompt.answer)}</bdi></p><div class="card">{_images(rendered)}'
            f'<div class="told">{_rendered(rendered)}{articles}</div></div></section>'
        )


def _images(rendered: RenderedPrompt) -> str:
    pictures = (
        f'<img src="{data_uri(image)}" alt="picture {number}">'
        for number, image in enumerate(rendered.prompt.images, start=1)
    )
    return f'<div class="images">{"".join(pictures)}</div>'


def _rendered(rendered: RenderedPrompt) -> str:
    pieces = (f"<mark>{shown(text)}</mark>" if special else shown(text) for text, special in rendered.pieces)
    return f'<pre class="rendered" tabindex="0">{"".join(pieces)}</pre>'


def _answer(number: int, answer: TriedAnswer) -> str:
    kind = "right" if answer.rollout.outcome > 0 else "wrong"
    rows = "".join(_row(*entry) for entry in numbered(answer))
    return (
        f'<article><h3>Answer {number} <span class="verdict {kind}">{kind}</span></h3>'
        f'<p><bdi>{shown(answer.verdict)}</bdi></p><p class="facts">{answer_facts(answer)}</p>'
        '<table class="steps"><thead><tr><th>step</th><th>text, and a continuation from its end</th><th>MPRM</th>'
        f"<th>label</th></tr></thead><tbody>{rows}</tbody></table></article>"
    )


def _row(piece: Piece, score: float | None, boundary: Boundary | None) -> str:
    text = f'<div class="step-text">{shown(piece.text)}</div>'
    if boundary is not None and boundary.text:
        text += f'<div class="continued">↳ {shown(boundary.text)} ({came_out(boundary)})</div>'
    if not piece.number:
        return f'<tr class="no-step"><td></td><td>{text}</td><td></td><td></td></tr>'
    counted = f"{boundary.correct:g}/{boundary.sampled:g}" if boundary is not None and boundary.sampled else ""
    share = boundary.correct / boundary.sampled if boundary is not None and boundary.sampled else None
    return (
        f'<tr><td class="number series-{(piece.number - 1) % COLOURS}">{piece.number}</td><td>{text}</td>'
        f"{_cell(score, '' if score is None else f'{score:.2f}')}{_cell(share, counted)}</tr>"
    )


def _cell(share: float | None, text: str) -> str:
    if share is None or isnan(share):
        return '<td class="cell missing"></td>'
    return f'<td class="cell share-{round(10 * share) * 10}">{text}</td>'


def _took(config: Config, trial: Trial) -> str:
    rows = "".join(
        f"<tr><td>{stage.name}</td><td>{stage.seconds:.1f}</td><td>{stage.memory:.1f}</td></tr>"
        for stage in trial.stages
    )
    lines = [*difference_lines(trial), *step_lines(config, trial)]
    return (
        '<table class="took"><thead><tr><th>stage</th><th>seconds</th><th>GiB then</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>{''.join(f'<p>{shown(line)}</p>' for line in lines)}"
    )
