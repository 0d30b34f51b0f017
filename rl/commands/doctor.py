"""``sieve doctor``: what is there, as a table on a terminal, plain lines elsewhere, or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console as Terminal
from rich.table import Table
from rich.text import Text

from rl.commands.ending import FAILURE, one_line
from rl.monitoring.terminal import typed_command

if TYPE_CHECKING:
    from rl.instruments.doctor.examine import Check, Finding

    Report = Sequence[tuple[Check, Finding]]

COLOURS = {"ok": "green", "warning": "yellow", "missing": "bold red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    no_engine: Annotated[bool, typer.Option("--no-engine", help="Start no engine, which takes longest.")] = False,
) -> None:
    """Look at this machine: what is there, whether a run can start, and the command that mends what is missing.

    Versions, cores, memory, disks, limits and GPUs are read; TensorBoard, Ray (on every node of the cluster that
    `RAY_ADDRESS` names) and a vLLM engine with the shipped policy are really started. Every check has a deadline.

    Exit codes: 0 a run can start, 1 something is missing.
    """
    with one_line():
        from rl.instruments.doctor.checks import all_checks

        terminal = Terminal(highlight=False)
        lines = not as_json and not terminal.is_terminal
        report = examine_all(all_checks(not no_engine), lines)
    missing = [check.name for check, finding in report if finding.state == "missing"]
    if as_json:
        checks = [{"name": check.name} | asdict(finding) for check, finding in report]
        print(json.dumps({"can_start": not missing, "checks": checks}, indent=2, ensure_ascii=False))
    else:
        if not lines:
            terminal.print(as_table(report))
        start = f"a run can start: {typed_command('sieve')} train configs/quickstart.yaml"
        print(f"a run cannot start, for want of: {', '.join(missing)}" if missing else start)
    if missing:
        raise typer.Exit(FAILURE)


def examine_all(checks: Sequence[Check], lines: bool) -> Report:
    """Examine one after the other, with a spinner where there is a terminal; if asked for, each as a line at once."""
    from rl.instruments.doctor.examine import examine

    report = []
    with Terminal(stderr=True).status("") as spinner:
        for number, check in enumerate(checks, 1):
            spinner.update(f"{number}/{len(checks)} {check.name} …")
            report.append((check, examine(check)))
            if lines:
                print("\n".join(as_lines(*report[-1])), flush=True)
    return report


def as_lines(check: Check, finding: Finding) -> list[str]:
    """A finding for a file or a pipe: one line, and the command that mends it on another."""
    found = f"{finding.state:8} {check.name:14} {finding.found}"
    return [found, f"{'':23} to mend it: {finding.mend}"] if finding.mend else [found]


def as_table(report: Report) -> Table:
    """All findings for a terminal."""
    table = Table()
    for heading in ("check", "", "found"):
        table.add_column(heading, overflow="fold")
    for check, finding in report:
        found = Text(finding.found)
        if finding.mend:
            found.append(f"\nto mend it: {finding.mend}", "bold")
        table.add_row(check.name, Text(finding.state, COLOURS[finding.state]), found)
    return table
