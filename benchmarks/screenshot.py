"""The README's picture: the dashboard of a run, as headless Chromium sees it.

python benchmarks/screenshot.py RUN docs/pictures/tensorboard.png
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rl.instruments.board import TAB, board, find_runs


def main() -> None:
    """Serve the run, photograph it, stop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--page", default=TAB, help="what comes after the address; ?darkMode=true before the # is dark")
    parser.add_argument("--size", default="1500,1900", help="pixels: width,height")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no chromium and no google-chrome on the PATH")
    with board(find_runs([arguments.run]), port=None) as address, tempfile.TemporaryDirectory() as profile:
        page = address.removesuffix(TAB) + arguments.page
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
        flags += [f"--user-data-dir={profile}", f"--window-size={arguments.size}", "--virtual-time-budget=20000"]
        shot = f"--screenshot={arguments.picture.absolute()}"
        subprocess.run([chromium, *flags, shot, page], check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
