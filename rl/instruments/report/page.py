"""The page: one HTML file with everything in it, which asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from rewards.files.whole_file import replacing
from rl.instruments.report.comparison import (
    ReportTable,
    Stage,
    final_numbers,
    settings_table,
    stages,
)
from rl.instruments.report.curves import AnsweredQuestion, answer_questions
from rl.instruments.report.rollouts import RolloutSample
from rl.instruments.report.runs import Run

SCRIPTS = ("elements.js", "tables.js", "curves.js", "filters.js", "cards.js", "rollouts.js", "report.js")


@dataclass(frozen=True)
class PageData:
    """Everything that the page's script shows; ``time`` has the stages of each run."""

    runs: list[str]
    final: ReportTable
    questions: list[AnsweredQuestion]
    time: list[list[Stage]]
    settings: ReportTable
    sample: RolloutSample


def report_page(runs: Sequence[Run], sample: RolloutSample) -> str:
    """The HTML of a report."""
    style, script = asset("report.css"), "\n".join(map(asset, SCRIPTS))
    names = [run.name for run in runs]
    title = f"Sieve report: {names[0] if len(names) == 1 else f'{len(names)} runs'}"
    data = PageData(
        runs=names,
        final=final_numbers(runs),
        questions=answer_questions(runs),
        time=[stages(run) for run in runs],
        settings=settings_table(runs),
        sample=sample,
    )
    return Template(asset("report.html")).substitute(
        title=escape(title),
        policy=content_policy(style, script),
        style=style,
        script=script,
        data=embedded_json(asdict(data)),
    )


def embedded_json(value: object) -> str:
    """JSON that stands in a page and cannot end its element, whatever its texts say.

    >>> embedded_json({"text": "</script>"})
    '{"text":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def content_policy(style: str, script: str) -> str:
    """What the browser is to allow: this style, this script, images inside the page, and nothing else."""
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def asset(name: str, instrument: str = "report") -> str:
    """The text of a file of an instrument's page."""
    return resources.files(f"rl.instruments.{instrument}").joinpath("assets", name).read_text(encoding="utf-8")


def write_page(file: Path, page: str) -> int:
    """Write a page, with the folders above it, and say how many bytes it has; what was there is replaced as a whole.

    Raises:
        OSError: It cannot be written.
    """
    content = page.encode(errors="replace")
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as path:
        path.write_bytes(content)
    return len(content)
