"""``sieve select``: what it refuses, in one line, and what it says."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rl.cli import app

RECORD = {"image": "a.png", "question": "q", "steps_with_score": [{"step": "s", "score": 1}, {"step": "t", "score": 0}]}
LINE = json.dumps(RECORD) + "\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "corpus").mkdir()
    for name in ("b", "a", "c"):
        (tmp_path / "corpus" / f"{name}.jsonl").write_text(LINE.replace("a.png", f"{name}.png"))
    (tmp_path / "corpus" / "notes.txt").write_text("no annotations")
    (tmp_path / "empty").mkdir()
    (tmp_path / "z.jsonl").write_text(LINE)
    return tmp_path


def sieve(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["select", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["corpus", "-o", "out", "--ratio", "0"], "--ratio 0: allowed is above 0 and at most 1"),
        (["corpus", "-o", "out", "--ratio", "1.5"], "--ratio 1.5: allowed is above 0 and at most 1"),
        (["corpus", "-o", "out", "--ratio", "nan"], "--ratio nan: allowed is above 0 and at most 1"),
        (["corpus", "-o", "out", "--alpha", "-0.1"], "--alpha -0.1: allowed is 0 or more"),
        (["corpus", "-o", "out", "--alpha", "inf"], "--alpha inf: allowed is 0 or more"),
        (["corpus", "-o", "out", "--workers", "0"], "--workers 0: allowed is 1 or more"),
        (["corpus", "-o", "out", "--seed", "-1"], "--seed -1: allowed is 0 or more"),
        (["corpus", "-o", "out", "--format", "csv"], "--format 'csv': allowed is one of jsonl, parquet"),
        (["corpus", "-o", "out", "--selector", "best"], "--selector: 'best' is not one of bis, bis_posterior, random"),
        (["corpus", "-o", "out", "--selector", "hard"], "--selector hard needs an MPRM's step scores"),
        (["corpus", "-o", "out", "--selector", "uncertain"], "allowed are bis, bis_posterior, random, mixed, reliable"),
        (["corpus", "-o", "out", "--selector", "bis_visual"], "--selector bis_visual needs the images' entropy"),
        (["corpus", "-o", "out", "--selector", "nowhere:at_all"], "--selector: 'nowhere:at_all' cannot be imported"),
        (["corpus", "-o", "out", "--selector", "builtins:property"], "allowed is what can be called"),
        (["corpus", "-o", "out", "--selector", "builtins:memoryview"], "'builtins:memoryview' cannot be made: Type"),
        (["corpus", "-o", "out", "--selector", "json:__name__"], "--selector: 'json:__name__' is a str"),
        ([], "name annotation files, or folders with *.jsonl files"),
        (["-o", "out"], "name annotation files, or folders with *.jsonl files"),
        (["corpus"], "name the output with -o OUT"),
        (["corpus", "gone.jsonl", "-o", "out"], "gone.jsonl does not exist"),
        (["empty", "-o", "out"], "empty has no *.jsonl files"),
        (["/dev/null", "-o", "out"], "/dev/null is no file that can be read twice"),
        (["corpus", "corpus/../corpus/a.jsonl", "-o", "out"], "corpus/../corpus/a.jsonl is given twice"),
        (["corpus", "-o", "corpus/b.jsonl"], "-o corpus/b.jsonl is one of the inputs"),
        (["corpus", "-o", "nowhere/out"], "-o nowhere/out: there is no folder nowhere"),
        (["corpus", "-o", "empty"], "-o empty exists and is no file"),
        (["corpus", "-o", "/dev/null"], "-o /dev/null exists and is no file"),
        (["corpus", "-o", "/proc/out"], "-o /proc/out: the folder /proc cannot be written to"),
        (["corpus", "-o", "out", "--plot", "empty"], "--plot empty exists and is no file"),
        (["corpus", "-o", "out", "--plot", "./out"], "--plot out is the output, too"),
        (["corpus", "-o", "out", "--plot", "corpus/a.jsonl"], "--plot corpus/a.jsonl is one of the inputs"),
    ],
)
def test_wrong_options_are_refused_in_one_line(folder: Path, arguments: list[str], told: str) -> None:
    before = sorted(folder.rglob("*"))
    result = sieve(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("sieve: ") and result.stderr.count("\n") == 1
    assert told in result.stderr
    assert sorted(folder.rglob("*")) == before
    assert (folder / "corpus" / "a.jsonl").read_text() == LINE


def test_folders_stand_for_their_files_in_name_order(folder: Path) -> None:
    result = sieve("z.jsonl", "corpus", "-o", "out.jsonl", "--ratio", 1)
    assert result.exit_code == 0, result.output
    images = [json.loads(line)["image"] for line in (folder / "out.jsonl").read_text().splitlines()]
    assert images == ["a.png", "a.png", "b.png", "c.png"]
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[1:6] == [
        [name, "1", "1", "1", "1", "0", "0"]
        for name in ("z.jsonl", "corpus/a.jsonl", "corpus/b.jsonl", "corpus/c.jsonl")
    ] + [["4", "files", "4", "4", "4", "4", "0", "0"]]
    assert "written  out.jsonl" in result.stdout
    assert result.stderr == ""


def test_broken_lines_are_named_and_the_rest_is_selected(folder: Path) -> None:
    (folder / "z.jsonl").write_text(LINE + "{\n" * 15 + LINE)
    result = sieve("z.jsonl", "-o", "out", "--ratio", 1)
    assert result.exit_code == 0
    told = result.stderr.splitlines()
    assert [line.split(": ")[1] for line in told[:10]] == [f"z.jsonl:{number}" for number in range(2, 12)]
    assert told[10:] == ["sieve: and 5 more broken lines"]
    assert (folder / "out").read_text().count("\n") == 2
    strict = sieve("z.jsonl", "-o", "out_strict", "--strict")
    assert strict.exit_code == 2
    assert strict.stderr.startswith("sieve: z.jsonl:2: not JSON: ") and strict.stderr.count("\n") == 1
    assert not (folder / "out_strict").exists()


@pytest.mark.parametrize("name", ["score", "Score"])
def test_a_selector_of_ones_own_comes_from_the_current_folder(folder: Path, name: str) -> None:
    """A function, or a class made without arguments."""
    (folder / "first_steps.py").write_text(
        "def score(candidates):\n    return candidates.per_rollout(candidates.sampled)\n"
        "class Score:\n    def __call__(self, candidates):\n        return score(candidates)\n"
    )
    (folder / "z.jsonl").write_text(
        LINE + LINE.replace("a.png", "long.png").replace("[{", '[{"step": "r", "score": 0}, {')
    )
    result = sieve("z.jsonl", "-o", "out", "--selector", f"first_steps:{name}", "--ratio", 0.5)
    assert result.exit_code == 0, result.output
    assert json.loads((folder / "out").read_text())["image"] == "long.png"


def test_an_old_output_is_replaced_only_by_a_whole_one(folder: Path) -> None:
    (folder / "out").write_text("old")
    (folder / "broken.jsonl").write_text(LINE + "{")
    assert sieve("broken.jsonl", "-o", "out", "--strict").exit_code == 2
    assert (folder / "out").read_text() == "old"
    assert sieve("broken.jsonl", "-o", "out").exit_code == 0
    assert json.loads((folder / "out").read_text())["image"] == "a.png"


def test_a_lost_worker_ends_in_one_line(folder: Path) -> None:
    (folder / "deadly.py").write_text("import os\ndef end(candidates):\n    os._exit(9)\n")
    result = sieve("corpus", "-o", "out", "--selector", "deadly:end", "--workers", 2)
    assert result.exit_code == 1
    assert result.stderr == "sieve: a worker process died, perhaps for want of memory; nothing was written\n"
    assert not list(folder.glob("*out*"))


def test_nothing_heavy_is_imported(folder: Path) -> None:
    script = (
        "import sys\nfrom rl.cli import app\n"
        "try: app(['select', 'z.jsonl', '-o', 'out'])\nexcept SystemExit: pass\n"
        "print({'torch', 'vllm', 'ray', 'transformers', 'matplotlib', 'pyarrow'} & set(sys.modules))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=folder
    ).stdout
    assert printed.endswith("set()\n")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, workers: int) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(LINE)
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\ndef wait(candidates):\n    pathlib.Path('begun').touch()\n"
        "    while not pathlib.Path('go_on').exists():\n        time.sleep(0.01)\n"
        "    return candidates.lengths\n"
    )
    command = [str(Path(sys.executable).parent / "sieve"), "select", "a.jsonl", "b.jsonl", "-o", "out"]
    process = subprocess.Popen(
        [*command, "--selector", "slow:wait", "--workers", str(workers)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # What runs in the background, as a test run may, has Ctrl-C switched off, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    (tmp_path / "go_on").touch()  # a worker that is busy is waited for
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "sieve: stopped; nothing was written\n")
    assert not list(tmp_path.glob("*out*")) and not list(tmp_path.glob(".*"))
