"""The command line of ``sieve report``: run folders in, one HTML page out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rewards.files.whole_file import replacing
from rl.errors import ConfigError
from rl.instruments.report.page import report_page
from rl.instruments.report.rollouts import sample_rollouts
from rl.instruments.report.runs import read_runs


def run(folders: Sequence[Path], output: Path | None, rollouts: int) -> None:
    """Read, write the page, and say where it is. `rl.cli` describes the arguments.

    Raises:
        ConfigError: One of them is wrong, or a run's files are.
        OSError: The page cannot be written.
    """
    if not folders:
        raise ConfigError("name a run folder, for example runs/quickstart-20261121-101500")
    if rollouts < 0:
        raise ConfigError(f"--rollouts {rollouts}: allowed is 0 or more")
    target = output or (folders[0] / "report.html" if len(folders) == 1 else Path("sieve-report.html"))
    if target.is_dir():
        raise ConfigError(f"-o {target} is a folder; allowed is the name of a file")
    runs = read_runs(folders)
    sample = sample_rollouts(runs, rollouts)
    page = report_page(runs, sample).encode(errors="replace")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as path:
        path.write_bytes(page)
    shown = f"{len(sample.rollouts):,} of {sum(sample.recorded):,} rollouts" if sum(sample.recorded) else "no rollouts"
    print(f"{target}: {len(runs)} run{'s' if len(runs) > 1 else ''}, {shown}, {len(page) / 1e6:.1f} MB")
