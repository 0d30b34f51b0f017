"""The README's picture: TensorBoard on a run, as headless Chromium sees it.

python benchmarks/screenshot.py RUN benchmarks/tensorboard.png
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

DEADLINE = 60.0
SHOWN = (
    "policy/accuracy$",
    "mprm/auc_within_kind$",
    "mprm/loss",
    "reward/outcome",
    "reward/mprm_gap",
    "selection/size",
)
PAGE = f"#scalars&tagFilter={quote('|'.join(SHOWN), safe='')}&_smoothingWeight=0"


def main() -> None:
    """Start TensorBoard on loopback, photograph it, stop it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--page", default=PAGE, help="what comes after the address")
    parser.add_argument("--size", default="1500,800", help="pixels: width,height")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no chromium and no google-chrome on the PATH")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).parent / "tensorboard", "--logdir", arguments.run, "--port", port]
    board = subprocess.Popen([*map(str, command), "--host", "127.0.0.1"], stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}/"
        wait_for(address)
        with tempfile.TemporaryDirectory() as profile:
            flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
            flags += [f"--user-data-dir={profile}", f"--window-size={arguments.size}", "--virtual-time-budget=20000"]
            shot = f"--screenshot={arguments.picture.absolute()}"
            subprocess.run([chromium, *flags, shot, address + arguments.page], check=True, stderr=subprocess.DEVNULL)
    finally:
        board.terminate()
        board.wait()


def wait_for(address: str) -> None:
    """Until the server answers, or the deadline."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            urlopen(address, timeout=5).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    main()
