"""Which families of models work: a tiny model of each, of its own classes, through all that a run asks of it.

    python benchmarks/families.py --write docs/models.md  # all of them, with vLLM; half an hour on two cores
    python benchmarks/families.py --families gemma3 qwen3 --without-vllm
    python benchmarks/families.py --further --write docs/models.md  # more of them, with Transformers' own engine alone

A cell is the largest difference, in nats, between two ways that must come to the same (see
`tests/fixtures/family_checks.py`), or a dash where it failed; the reasons follow the table. Nothing is downloaded.
A page has a line `BEGIN` or `FURTHER`, and further down `END`, and what is between them is written anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from rl.files.quiet import QUIET_LIBRARIES

ROOT = Path(__file__).parents[1]
HF, VLLM, ADAPTERS = "hf", "vLLM", "vLLM, adapters"
DEADLINE = 1800
BEGIN, END = "<!-- python benchmarks/families.py -->", "<!-- end -->"
FURTHER = "<!-- python benchmarks/families.py --further -->"


def main() -> None:
    """Check every family in processes of its own, the further ones all in this one, and print the table."""
    sys.path.insert(0, str(ROOT))
    from tests.fixtures.tiny_families import ALL_FAMILIES, FURTHER_FAMILIES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", choices=list(ALL_FAMILIES), default=list(ALL_FAMILIES))
    parser.add_argument("--without-vllm", action="store_true", help="Transformers' own engine alone")
    parser.add_argument("--further", action="store_true", help="the second table")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="puts the table into a page, instead of printing it")
    parser.add_argument("--one", nargs=2, metavar=("FAMILY", "ENGINE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        for name, found in checked(*arguments.one):
            print(json.dumps([name, found]), flush=True)
        return
    if arguments.write and (arguments.without_vllm or len(arguments.families) < len(ALL_FAMILIES)):
        parser.error("--write is for the whole table: without --families and --without-vllm")
    engines = [HF] if arguments.without_vllm else [VLLM, ADAPTERS, HF]
    text, rows = machine(), {}
    for family in FURTHER_FAMILIES if arguments.further else arguments.families:
        found = checked(family, HF) if arguments.further else chain(*(in_a_process(family, each) for each in engines))
        rows[family] = dict(found)
        print(f"{family}: {rows[family]}", file=sys.stderr)
    text = f"{text}\n\n{table(rows)}"
    if arguments.write is None:
        print(text)
    else:
        page = put_between(arguments.write.read_text(encoding="utf-8"), text, FURTHER if arguments.further else BEGIN)
        arguments.write.write_text(page, encoding="utf-8")


def checked(family: str, engine: str) -> Iterator[tuple[str, float | str]]:
    """Each check's difference, or in one line why there is none; with one of the engines."""
    import torch

    from tests.fixtures.family_checks import CHECKS, check_vllm, check_vllm_adapters
    from tests.fixtures.tiny_families import write_tiny_checkpoint

    torch.set_num_threads(1)
    checks = {VLLM: {VLLM: check_vllm}, ADAPTERS: {ADAPTERS: check_vllm_adapters}, HF: CHECKS}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_tiny_checkpoint(family, Path(folder) / family)
        for name, check in checks[engine].items():
            try:
                yield name, check(checkpoint, Path(folder) / "saved" / name)
            except Exception as error:  # whatever it is, it is what the table tells
                yield name, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def in_a_process(family: str, engine: str) -> list[tuple[str, float | str]]:
    """`checked`, where nothing that fails takes the rest along."""
    command = [sys.executable, __file__, "--one", family, engine]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | QUIET_LIBRARIES, capture_output=True, text=True, timeout=DEADLINE
        )
    except subprocess.TimeoutExpired:
        return [(engine, f"no answer within {DEADLINE} s")]
    found = [tuple(json.loads(line)) for line in done.stdout.splitlines() if line.startswith('["')]
    last = done.stderr.strip().splitlines()[-1:] or [""]
    return found if done.returncode == 0 else [*found, (engine, f"the process ended with {done.returncode}: {last[0]}")]


def table(rows: dict[str, dict[str, float | str]]) -> str:
    """In Markdown: families by checks, and why cells are empty.

    >>> print(table({"one": {"hf": 1e-6}, "other": {"hf": "KeyError: x"}}))
    | family | hf |
    |---|---|
    | `one` | 1e-06 |
    | `other` | - |
    <BLANKLINE>
    - `other`, hf: KeyError: x
    """
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [_line(["family", *columns]), "|" + "---|" * (1 + len(columns))]
    for family, row in rows.items():
        lines.append(_line([f"`{family}`", *(_cell(row.get(name)) for name in columns)]))
    reasons = [
        f"- `{family}`, {name}: {found}"
        for family, row in rows.items()
        for name, found in row.items()
        if isinstance(found, str)
    ]
    return "\n".join([*lines, *([""] if reasons else []), *reasons])


def machine() -> str:
    """Where it runs, and with what."""
    import torch
    import transformers

    vllm = f", vLLM {import_module('vllm.version').__version__}" if find_spec("vllm") else ""
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}{vllm}"
    return (
        f"On {os.cpu_count()} cores ({platform.machine()}), {where}, with {versions}; in float32, but for `qwen3_5` in "
        "vLLM without a GPU: bfloat16."
    )


def put_between(page: str, text: str, line: str = BEGIN) -> str:
    """A page with something else between a line, `BEGIN` or `FURTHER`, and the next `END`.

    >>> put_between(f"a\\n{BEGIN}\\nold\\n{END}\\nb\\n", "new").splitlines()[2:-2]
    ['', 'new', '']
    """
    before, begin, rest = page.partition(f"{line}\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"the page has no lines {line!r} and {END!r} to write between")
    return f"{before}{line}\n\n{text}\n\n{END}{after}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(found: float | str | None) -> str:
    return f"{found:.0e}" if isinstance(found, float) else "-"


if __name__ == "__main__":
    main()
