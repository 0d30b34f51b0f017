"""Silence while the `datasets` library loads a table: what went wrong is said once, in the error that is raised."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

LEVELS = {
    "huggingface_hub": logging.CRITICAL,
    "datasets": logging.CRITICAL,
    # It says that the hub was not reached, and an older copy is used: nothing else would.
    "datasets.packaged_modules.cache": logging.WARNING,
}
"""From which level on a logger is heard; below it, these libraries tell of each retry and of what they raise anyway."""


@contextmanager
def quiet_loading() -> Iterator[None]:
    """No progress bars, and no log lines but those of `LEVELS`, of `datasets` and `huggingface_hub` in the block."""
    before = {name: logging.getLogger(name).level for name in LEVELS}
    bars, hub_bars = not datasets.are_progress_bars_disabled(), not are_progress_bars_disabled()
    for name, level in LEVELS.items():
        logging.getLogger(name).setLevel(level)
    if bars:
        datasets.disable_progress_bars()
    if hub_bars:
        disable_progress_bars()
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
        if bars:
            datasets.enable_progress_bars()
        if hub_bars:
            enable_progress_bars()
