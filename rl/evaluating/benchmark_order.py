"""What `sieve eval prm` is asked for; no more than the standard library, so that to ask costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ModelOptions:
    """Which model scores, and how; `rl.commands.eval_cli` describes each field."""

    checkpoint: str | None
    head: str | None
    format: str | None
    separator: str
    batch_size: int
    batch_tokens: int
    dtype: str
    trust_remote_code: bool


@dataclass(frozen=True)
class Options:
    """The command line of ``sieve eval prm``; `rl.commands.eval_cli` describes each field."""

    bench: str
    path: Path | None
    model: ModelOptions
    scores: Path | None
    threshold: float | None
    tune_on: str | None
    json: Path | None
    plots: Path | None
    save_scores: Path | None
