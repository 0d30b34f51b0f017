"""The order of the folders: each imports only from rows below its own, wherever in a file the import stands."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = """
    rl.cli
    rl.commands
    rl.train
    rl.loop rl.publishing
    rl.checkpoints rl.evaluating
    rl.parts rl.instruments
    rl.annotating
    rl.reward_models rl.rollouts rl.real_policy
    rl.learning rl.workers rl.tiny_policy
    rl.engines rl.monitoring
    rl.files rl.tasks
    rl.config
    selection
    rewards rl.errors
"""
LONGEST_CHAIN = 15
"""Folders, one above the other, that the longest chain of imports goes through."""


def modules() -> dict[str, Path]:
    """Every module of the three packages but the packages' own `__init__`, by its dotted name."""
    files = [path for name in ("rl", "selection", "rewards") for path in (ROOT / name).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imported(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules that a file imports: at its top, inside functions, and for type checkers alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in known else node.module
                for alias in node.names
            }
    return found & set(known)


MODULES = modules()
IMPORTS = {name: imported(path, MODULES) - {name} for name, path in MODULES.items()}
ROW = {place: row for row, line in enumerate(reversed(ROWS.split("\n"))) for place in line.split()}


def place(module: str) -> str:
    """Which place of the rows a module belongs to."""
    (found,) = [place for place in ROW if module == place or module.startswith(f"{place}.")]
    return found


def folder(module: str) -> str:
    """The folder that a module lies in; a file in `rl/` is a folder of its own."""
    is_package = MODULES[module].name == "__init__.py"
    parent = module if is_package else module.rpartition(".")[0]
    return module if parent == "rl" else parent


def between_folders() -> dict[str, set[str]]:
    """Which folders each folder imports from."""
    folders: dict[str, set[str]] = {folder(name): set() for name in MODULES}
    for name, others in IMPORTS.items():
        folders[folder(name)] |= {folder(other) for other in others} - {folder(name)}
    return folders


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"rl"}))
def test_a_module_imports_only_from_rows_below_its_own(name: str) -> None:
    mine = place(name)
    for other in IMPORTS[name]:
        assert place(other) == mine or ROW[place(other)] < ROW[mine], f"{name} imports {other}"


def test_files_and_folders_import_each_other_in_no_circle() -> None:
    TopologicalSorter(IMPORTS).prepare()
    TopologicalSorter(between_folders()).prepare()


def test_no_chain_of_folders_is_longer_than_a_reader_can_follow() -> None:
    below = between_folders()
    height: dict[str, int] = {}
    for name in TopologicalSorter(below).static_order():
        height[name] = 1 + max((height[other] for other in below[name]), default=0)
    assert max(height.values()) <= LONGEST_CHAIN, max(height, key=lambda name: height[name])


def test_errors_import_nothing() -> None:
    assert IMPORTS["rl.errors"] == set()


def test_the_root_shows_the_loop() -> None:
    shown = {path.name for path in (ROOT / "rl").glob("*.py")} - {"__init__.py"}
    assert shown == {"cli.py", "errors.py", "loop.py", "parts.py", "train.py"}


def test_instruments_stand_behind_one_door() -> None:
    users = {name for name, others in IMPORTS.items() if any(other.startswith("rl.instruments") for other in others)}
    assert {place(name) for name in users} <= {"rl.commands", "rl.instruments"}
