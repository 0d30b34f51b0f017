"""The rehearsal for GPUs: what its driver says of its checks, and the checks that a CPU has for seconds."""

from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import rehearsal
from benchmarks.gpu import check
from benchmarks.gpu.check import EXPECTED, Check

ALL = {one.name: one for checks in rehearsal.STAGES.values() for one in checks}


def test_a_check_says_what_is_wrong_with_its_numbers() -> None:
    result = doctest.testmod(check)
    assert result.failed == 0 and result.attempted > 0


@pytest.fixture
def checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this test, in the place of those of GPUs; nothing else of what they are run by is."""
    place = tmp_path / "benchmarks" / "gpu"
    place.mkdir(parents=True)
    source = (
        "import sys, time\n"
        "def right(device): print('noise'); return {'difference': 1e-6, 'loss': 1.0}\n"
        "def far(device): return {'difference': 0.5}\n"
        "def raising(device): raise KeyError('weight')\n"
        "def dying(device): sys.exit(3)\n"
        "def hanging(device): time.sleep(600)\n"
    )
    (place / "__init__.py").touch()
    (place / "some.py").write_text(source)
    (place / "check.py").write_text(Path(check.__file__).read_text())
    monkeypatch.setattr(check, "ROOT", tmp_path)
    stage = [Check(f"some.{name}", 60, within=0.01, most={"difference": 1e-3}) for name in ("right", "far", "raising")]
    stage += [Check("some.dying", 60), Check("some.hanging", 0.2), Check("some.right", 60, wants=("no_such_package",))]
    monkeypatch.setattr(rehearsal, "STAGES", {"some": tuple(stage)})


def test_every_check_leaves_a_line_whatever_becomes_of_it(
    checks: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.jsonl"
    assert rehearsal.main(["--device", "cpu", "--results", str(results)]) == 1
    lines: list[dict[str, Any]] = [json.loads(line) for line in results.read_text().splitlines()]
    assert [line["ok"] for line in lines] == [True, False, False, False, False, None]
    assert lines[0]["found"] == {"difference": 1e-6, "loss": 1.0}
    assert lines[1]["why"] == "difference is 0.5, allowed 0.001"
    assert lines[2]["why"].startswith("exit code 1: ") and lines[2]["why"].endswith(" KeyError: 'weight'")
    assert lines[3]["why"].startswith("exit code 3")
    assert lines[4]["why"] == "no answer within 2 s"
    assert lines[5]["why"] == "not installed: no_such_package"
    assert capsys.readouterr().out.endswith("1 as they should be, 4 not, 1 not looked at\n")


def test_what_a_cpu_found_is_what_a_gpu_is_held_against(
    checks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "expected.json"
    monkeypatch.setattr(rehearsal, "EXPECTED", place)
    words = ["--device", "cpu", "--results", str(tmp_path / "results.jsonl")]
    rehearsal.main([*words, "--expect"])
    assert json.loads(place.read_text()) == {"some.right": {"difference": 1e-6, "loss": 1.0}}
    place.write_text(json.dumps({"some.right": {"difference": 1e-6, "loss": 1.1}}))
    (line, *_) = rehearsal.run(["some"], "cpu", json.loads(place.read_text()))
    assert line["why"] == "loss is 1, on a CPU 1.1"


def test_there_is_something_to_hold_every_compared_check_against() -> None:
    assert {*json.loads(EXPECTED.read_text())} == {name for name in ALL if rehearsal.compared(name)}


def test_an_unknown_stage_is_refused() -> None:
    command = [sys.executable, rehearsal.__file__, "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2 and "no stage nothing; allowed are machine, learner" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kernels.fused_head", "kernels.liger", "kernels.sampler", "kernels.adapters"])
def test_it_is_on_a_cpu_as_it_is_to_be_on_a_gpu(name: str) -> None:
    """Triton's kernels by its interpreter against PyTorch; vLLM's second sampler against the learner's numbers."""
    line = ALL[name].run("cpu")
    assert line["ok"], line["why"]


def test_what_is_carried_to_a_machine_without_a_registry_is_pinned() -> None:
    script = Path(check.__file__).with_name("carried.sh")
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    (wanted,) = re.findall(r'^wanted="(.*)"$', script.read_text(), re.MULTILINE)
    pinned = [line.split("==")[0] for line in (check.ROOT / "requirements" / "gpu.txt").read_text().splitlines()]
    assert len(wanted.split()) > 5 and {*wanted.split()} <= {*pinned}
