"""``sieve board``: which runs are shown, and what TensorBoard answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from torch.utils.tensorboard import SummaryWriter
from typer.testing import CliRunner

from rl.cli import app
from rl.config import Config
from rl.errors import ConfigError
from rl.files.run_files import TENSORBOARD
from rl.instruments.board import TAB, board, find_runs
from rl.monitoring.dashboard import dashboard_layout

SIEVE = Path(sys.executable).parent / "sieve"
METRICS = ("selection/kept_mixture", "selection/mixture", "selection/share/total")


def a_run(folder: Path) -> Path:
    with SummaryWriter(str(folder / TENSORBOARD)) as writer:
        writer.add_custom_scalars(dashboard_layout(Config(), knows_steps=True))
        for metric in METRICS:
            writer.add_scalar(metric, 0.5, 1)
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a board of two runs."""
    folder = tmp_path_factory.mktemp("runs")
    with board(find_runs([a_run(folder / "one"), a_run(folder / "study" / "two")]), port=0) as address:
        yield address.removesuffix(TAB)


def asked(address: str, path: str, **query: str) -> Any:
    with urlopen(f"{address}data/{path}?{urlencode(query)}", timeout=60) as answer:
        return json.load(answer)


def test_the_dashboard_is_the_first_tab(served: str) -> None:
    assert served.startswith(("http://127.0.0.1:", "http://localhost:"))
    listing = asked(served, "plugins_listing")
    assert next(iter(listing)) == "custom_scalars" and listing["custom_scalars"]["tab_name"] == "Dashboard"
    assert {"images", "pr_curves", "hparams", "histograms"} < set(listing)


def test_titles_say_which_line_is_which(served: str) -> None:
    """The n-th mark is that of the n-th metric, whatever the order in which the runs hold them."""
    for _ in range(50):  # it reads the runs while it answers
        if asked(served, "runs") == ["one", "two"] and (layout := asked(served, "plugin/custom_scalars/layout")):
            break
    titles = [chart["title"] for category in layout["category"] for chart in category["chart"]]
    assert "label mixture p (1 - p): ◼ offered ◆ kept" in titles and len(titles) == len(set(titles))
    wanted = "(^selection/mixture$)|(^selection/kept_mixture$)|(^selection/share/)"
    found = asked(served, "plugin/custom_scalars/scalars", run="two", tag=wanted)["tag_to_events"]
    assert list(found) == ["selection/mixture", "selection/kept_mixture", "selection/share/total"]
    assert found["selection/mixture"][0][1:] == [1, 0.5]


def test_runs_are_found_in_folders_and_keep_their_names_apart(tmp_path: Path) -> None:
    first, second, third = (a_run(tmp_path / name) for name in ("a/run", "b/run", "b/study/cells/x"))
    assert find_runs([first]) == {"run": first / TENSORBOARD}
    assert list(find_runs([tmp_path / "b"]).values()) == [path / TENSORBOARD for path in (second, third)]
    assert list(find_runs([tmp_path / "b"])) == ["run", "study/cells/x"]
    assert find_runs([first, second, first]) == {"run": first / TENSORBOARD, "run (2)": second / TENSORBOARD}


def test_a_folder_with_too_much_in_it_is_not_walked_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl.instruments.board.MOST_FOLDERS", 3)
    a_run(tmp_path / "run")
    assert find_runs([tmp_path]) == {"run": tmp_path / "run" / TENSORBOARD}
    (tmp_path / "a").mkdir()
    with pytest.raises(ConfigError, match=f"{tmp_path} holds more than 3 folders; name one nearer to the runs"):
        find_runs([tmp_path])


def test_a_run_in_a_run_is_linked_beside_it_and_a_package_is_no_run(tmp_path: Path) -> None:
    outer, inner = a_run(tmp_path / "runs" / "a"), a_run(tmp_path / "runs" / "a" / "b")
    (tmp_path / "runs" / "lib" / TENSORBOARD).mkdir(parents=True)
    (tmp_path / "runs" / "lib" / TENSORBOARD / "__init__.py").touch()
    before = sorted(tmp_path.rglob("*"))
    found = find_runs([tmp_path / "runs"])
    assert found == {"a/b": inner / TENSORBOARD, "a (2)": outer / TENSORBOARD}
    with board(found, port=0) as address:
        for _ in range(50):  # it reads the runs while it answers
            if (shown := asked(address.removesuffix(TAB), "runs")) == ["a (2)", "a/b"]:
                break
    assert shown == ["a (2)", "a/b"] and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["nowhere is no folder", "tensorboard"]),
        (["empty"], ["empty holds no run", "tensorboard"]),
        (["config.yaml"], ["config.yaml is no folder"]),
        (["run", "nowhere"], ["nowhere is no folder"]),
        ([], ["name a run folder"]),
    ],
)
def test_what_holds_no_run_is_refused(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "config.yaml").write_text("{}\n")
    a_run(tmp_path / "run")
    result = CliRunner().invoke(app, ["board", *arguments])
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and result.stdout == ""
    assert all(word in result.stderr for word in words), result.stderr


def test_a_port_that_is_taken_is_named(served: str, tmp_path: Path) -> None:
    port = int(served.rstrip("/").rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"--port {port}: .*{port}"), board(find_runs([a_run(tmp_path)]), port):
        pass
    with pytest.raises(ConfigError, match="--port 70000"), board(find_runs([tmp_path]), 70000):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_where_and_ends_when_it_is_told(number: signal.Signals, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    environment = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    environment["TMPDIR"] = str(tmp_path)
    process = subprocess.Popen(
        [str(SIEVE), "board", str(run), "--port", "0"], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(3)]
    assert told[0].startswith("starting") and told[1].startswith("run: http://") and TAB in told[1]
    assert asked(told[1].split()[1].removesuffix(TAB), "plugins_listing")
    process.send_signal(number)
    assert process.wait(timeout=60) == 0
    process.stdout.close()
    assert not list(tmp_path.glob("sieve-*"))
