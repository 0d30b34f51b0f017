"""``sieve board``: TensorBoard until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
import webbrowser
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer

from rl.commands.ending import one_line
from rl.commands.options import check


def board(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN...", help="Run folders, or folders of them, to compare.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Where; 6006 or the next free one unless given.")] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser, where there is a desktop.")] = True,
) -> None:
    """Open TensorBoard on a dashboard: is the policy better, is the reward model right, is selection paying?

    It answers on this machine alone, also while the runs go on, until Ctrl-C.

    Examples:

    * `sieve board runs/quickstart-20261121-101500`
    * `sieve board runs --port 7007`
    """
    from rl.monitoring.console import Console

    with one_line(), suppress(KeyboardInterrupt), ExitStack() as until_stopped:
        check(bool(runs), "name a run folder, for example runs/quickstart-20261121-101500, or runs for all of them")
        from rl.instruments import board as tensorboard

        found = tensorboard.find_runs(runs or [])
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        console = Console()
        with console.waiting("starting TensorBoard"):
            address = until_stopped.enter_context(tensorboard.board(found, port))
        named = next(iter(found)) if len(found) == 1 else f"{len(found)} runs"
        console.say(f"{named}: {address}\nCtrl-C ends it")
        if browser and (sys.platform == "darwin" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ):
            webbrowser.open(address)
        stop.wait()
