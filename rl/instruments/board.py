"""TensorBoard on the dashboard of some runs: found, served, and with charts that keep their order."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from itertools import cycle
from pathlib import Path
from typing import Any

from tensorboard import default, program
from tensorboard.plugins.base_plugin import FrontendMetadata
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin

from rewards.files.held_folder import scratch_folder
from rl.errors import ConfigError
from rl.files.run_files import EVENTS, TENSORBOARD

TAB = "#custom_scalars&_smoothingWeight=0"
"""The dashboard, with every value where it is: a few evaluations make no smooth curve."""
MARKS = "◼◆▲★✚"
"""What TensorBoard marks the lines of a chart with, in the order in which it is given them."""
MOST_FOLDERS = 100_000
"""That are looked into for runs: those of a whole disk take minutes."""


@contextmanager
def board(runs: Mapping[str, Path], port: int | None) -> Iterator[str]:
    """While inside, TensorBoard serves the runs to this machine alone, the dashboard first; gives its address.

    Args:
        runs: What `rl.instruments.board.find_runs` found.
        port: Where; None for 6006, or the next free one.

    Raises:
        ConfigError: The port is taken, or is none.
    """
    if port is not None and not 0 <= port < 2**16:
        raise ConfigError(f"--port {port}: allowed is 0 to {2**16 - 1}")
    others = [plugin for plugin in default.get_plugins() if plugin is not CustomScalarsPlugin]
    with scratch_folder() as folder:
        for name, path in runs.items():
            link = folder / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
        server = program.TensorBoard(plugins=[DashboardPlugin, *others])
        where = [] if port is None else ["--port", str(port)]
        server.configure(argv=["", "--logdir", str(folder), "--host", "127.0.0.1", *where])
        try:
            with redirect_stderr(StringIO()):  # an advertisement
                address = server.launch()
        except program.TensorBoardServerException as error:
            raise ConfigError(f"--port {port}: {' '.join(str(error).split())}") from None
        yield address + TAB


class DashboardPlugin(CustomScalarsPlugin):
    """Gives the lines of a chart in the layout's order, and so can put their marks into the chart's title.

    Left to itself TensorBoard takes them in any order, and colours are for runs.
    """

    def frontend_metadata(self) -> FrontendMetadata:
        """As it was, by another name."""
        return FrontendMetadata(element_name=super().frontend_metadata().element_name, tab_name="Dashboard")

    def layout_impl(self, ctx: Any, experiment: str) -> Any:
        """The layout as JSON, with marks in its titles."""
        layout = json.loads(super().layout_impl(ctx, experiment) or "{}")
        for category in layout.get("category", []):
            for chart in category["chart"]:
                if "multiline" in chart:
                    chart["title"] = marked(chart["title"])
        return json.dumps(layout)

    def scalars_impl(self, ctx: Any, run: str, tag_regex_string: str, experiment: str) -> Any:
        """The values of each metric that matches one of the alternatives, ordered as those are."""
        found = super().scalars_impl(ctx, run, tag_regex_string, experiment)
        alternatives = tag_regex_string.split("|")
        events = found["tag_to_events"].items()
        in_order = sorted(events, key=lambda item: (_place(item[0], alternatives), item[0]))
        return found | {"tag_to_events": dict(in_order)}


def marked(title: str) -> str:
    """A chart's title with the marks of the lines that it names, if it does.

    >>> marked("label mixture: offered; kept")
    'label mixture: ◼ offered ◆ kept'
    """
    about, colon, names = title.partition(": ")
    if not colon:
        return title
    return f"{about}: " + " ".join(
        f"{mark} {name}" for mark, name in zip(cycle(MARKS), names.split("; "), strict=False)
    )


def _place(metric: str, alternatives: list[str]) -> int:
    """Which of ``(^metric$)`` a metric is; the last one for those that are described otherwise."""
    exact = f"(^{metric}$)"
    return alternatives.index(exact) if exact in alternatives else len(alternatives)


def find_runs(folders: Sequence[Path]) -> dict[str, Path]:
    """The TensorBoard folders of runs, by the names that they are shown under.

    Args:
        folders: Run folders, or folders that hold such at any depth.

    Raises:
        ConfigError: One of them is neither, or holds too many folders to look through.
    """
    found: dict[str, Path] = {}
    for folder in (given.resolve() for given in folders):
        for path in _served(folder):
            name = wanted = folder.name if path.parent == folder else str(path.parent.relative_to(folder))
            number = 1
            while found.get(name, path) != path or any(_one_in_the_other(name, other) for other in found):
                number += 1
                name = f"{wanted} ({number})"
            found[name] = path
    return found


def _one_in_the_other(name: str, other: str) -> bool:
    """Of links in one folder: what is put into a link is put where that leads, which is a run of the user's."""
    return name != other and (Path(name).is_relative_to(other) or Path(other).is_relative_to(name))


def _served(folder: Path) -> list[Path]:
    """A run folder's part for TensorBoard, or those of all run folders in a folder."""
    own = folder / TENSORBOARD
    # A package is called so, too.
    paths = [own] if own.is_dir() else [path for path in sorted(_tensorboard_folders(folder)) if any(path.glob(EVENTS))]
    if not paths:
        what = "holds no run" if folder.is_dir() else "is no folder"
        raise ConfigError(
            f"{folder} {what}; allowed is a run folder, which has a {TENSORBOARD} folder, or one of those"
        )
    return paths


def _tensorboard_folders(folder: Path) -> Iterator[Path]:
    for number, (place, inside, _) in enumerate(os.walk(folder)):
        if number == MOST_FOLDERS:
            raise ConfigError(f"{folder} holds more than {MOST_FOLDERS:,} folders; name one nearer to the runs")
        if TENSORBOARD in inside:
            yield Path(place, TENSORBOARD)
