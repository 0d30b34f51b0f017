"""The body of ``sieve board``: TensorBoard until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from rl.errors import ConfigError
from rl.instruments.board import find_runs
from rl.monitoring.console import Console


def run(folders: Sequence[Path], port: int | None, browser: bool) -> None:
    """Serve the runs, say where, and open a browser if there is a desktop; `rl.cli` describes the arguments.

    Raises:
        ConfigError: A folder holds no run, or the port is taken.
    """
    console = Console()
    if not folders:
        raise ConfigError("name a run folder, for example runs/quickstart-20261121-101500, or runs for all of them")
    runs = find_runs(folders)
    with console.waiting("starting TensorBoard"):
        # Imported here, since it takes seconds, and what is mistyped is said at once.
        from rl.instruments.board import board
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with board(runs, port) as address:
        named = next(iter(runs)) if len(runs) == 1 else f"{len(runs)} runs"
        console.say(f"{named}: {address}\nCtrl-C ends it")
        if browser and (sys.platform == "darwin" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ):
            webbrowser.open(address)
        stop.wait()
