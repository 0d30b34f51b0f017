"""TensorBoard on the dashboard of some runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from tensorboard import default, program
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin

from rl.dashboard.dashboard_plugin import DashboardPlugin
from rl.errors import ConfigError

TAB = "#custom_scalars&_smoothingWeight=0"
"""The dashboard, with every value where it is: a few evaluations make no smooth curve."""


@contextmanager
def board(runs: Mapping[str, Path], port: int | None) -> Iterator[str]:
    """While inside, TensorBoard serves the runs to this machine alone, the dashboard first; gives its address.

    Args:
        runs: What `rl.dashboard.run_folders.find_runs` found.
        port: Where; None for 6006, or the next free one.

    Raises:
        ConfigError: The port is taken, or is none.
    """
    others = [plugin for plugin in default.get_plugins() if plugin is not CustomScalarsPlugin]
    with TemporaryDirectory(prefix="sieve-board-") as folder:
        for name, path in runs.items():
            link = Path(folder) / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
        server = program.TensorBoard(plugins=[DashboardPlugin, *others])
        where = [] if port is None else ["--port", str(port)]
        server.configure(argv=["", "--logdir", folder, "--host", "127.0.0.1", *where])
        try:
            with redirect_stderr(StringIO()):  # an advertisement
                address = server.launch()
        except program.TensorBoardServerException as error:
            raise ConfigError(f"--port {port}: {' '.join(str(error).split())}") from None
        yield address + TAB
