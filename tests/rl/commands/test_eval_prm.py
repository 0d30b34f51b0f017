"""``sieve eval prm``: on scores made elsewhere, and with real models on a small benchmark in the published format."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from rewards.models.encoding import Encoder
from rewards.outcome.outcome_model import STATE_FILE
from rewards.process_model.config import MPRMConfig
from rewards.process_model.mprm import open_mprm
from rewards.records import Prompt, Rollout
from rl.cli import app
from rl.evaluating.benchmark_scoring import ScoredChunk
from rl.files.chunked_file import ChunkedFile
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.tasks.grid import GridTask
from rl.tasks.grid_steps import demonstrate
from tests.fixtures.builders import an_image
from tests.fixtures.grid_benchmark import write_grid_benchmark, write_lines
from tests.fixtures.runs import Running

SOLUTIONS = 24
SCORES = [
    {"data_source": "a", "labels": [1, 1, -1, 0], "scores": [0.9, 0.4, 0.5, 0.1]},
    {"data_source": "b", "labels": [1, -1], "scores": [0.5, 0.2]},
]


def sieve(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", "prm", *map(str, arguments)])


def report_of(result: Result, path: Path) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grid_benchmark(tmp_path_factory.mktemp("bench"), SOLUTIONS)


@pytest.fixture(scope="module")
def whole(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report and the scores of an evaluation that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    options = ("--path", bench, "--mprm", "grid_policy", "--batch-size", 8)
    result = sieve(*options, "--json", folder / "out.json", "--save-scores", folder / "scores.jsonl")
    assert result.exit_code == 0, result.output
    return folder


def records(bench: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (bench / "test.jsonl").read_text().splitlines()]


def scored_by_hand(bench: Path, mprm: Any, encoder: Encoder) -> list[list[float]]:
    """Without the code under test: the whole text tokenised at once, and cut into steps as a policy's answer is."""
    prompts, rollouts = [], []
    for number, record in enumerate(records(bench)):
        names = record["image"] if isinstance(record["image"], list) else [record["image"]]
        images = tuple(Image.open(bench / name).convert("RGB") for name in names)
        question = record["question"].replace("<image1>", "").replace("<image2>", "")
        prompts.append(Prompt(str(number), "", question, images, ""))
        text = "\n".join(record["response"]["steps"]) + "\n"
        tokens = tuple(encoder.tokens(text))
        steps = encoder.steps(tokens)
        rollouts.append(Rollout("", "", 0, tokens, (0.0,) * len(tokens), text, steps, 0.0, "stop", 0))
    return [entry.scores.tolist() for entry in mprm.score(prompts, rollouts)]


def test_an_example_by_hand(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = sieve(
        "--bench", "visualprocessbench", "--scores", write_lines(tmp_path / "s.jsonl", SCORES), "--json", out
    )
    content = report_of(result, out)
    assert content["per_source"]["a"] | {"steps": 3} == {
        "macro_f1": 0.25,
        "f1_positive": 0.5,
        "f1_negative": 0.0,
        "steps": 3,
    }
    overall = content["overall"]
    assert overall["micro_over_sources"] == pytest.approx(0.55)
    assert overall["macro_f1_pooled"] == pytest.approx(7 / 12)
    assert (overall["auc"], overall["total_steps"], overall["threshold"]) == (0.75, 5, 0.5)
    for told in ("mean, weighted by steps", "0.550", "threshold 0.5, the default", "AUC 0.750", str(out)):
        assert told in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "s.jsonl"]


@pytest.mark.parametrize("name", ["[/x]", "[red]a", "\x1b[2J\nsieve: all is well"])
def test_what_a_file_calls_its_sources_is_text(name: str, tmp_path: Path) -> None:
    """It could be markup, which the terminal's tables would read, or steer the terminal."""
    named = [entry | {"data_source": name, "kinds": [name] * len(entry["labels"])} for entry in SCORES]
    scores = write_lines(tmp_path / "a.jsonl", named)
    for bench in ("visualprocessbench", "processbench"):
        result = sieve("--scores", scores, "--bench", bench)
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.stdout and repr(name)[1:-1] in result.stdout


def test_thresholds_are_given_or_tuned_and_said(tmp_path: Path) -> None:
    scores, out = write_lines(tmp_path / "s.jsonl", SCORES), tmp_path / "out.json"
    given = sieve("--scores", scores, "--threshold", 0.4, "--json", out)
    overall = report_of(given, out)["overall"]
    assert (overall["threshold"], overall["threshold_from"], overall["f1_positive"]) == (0.4, "given", 6 / 7)
    assert "threshold 0.4, as given" in given.stdout
    tuned = sieve("--scores", scores, "--tune-on", "source=b", "--json", out)
    content = report_of(tuned, out)
    assert list(content["per_source"]) == ["a"]
    assert content["overall"] | {"threshold": 0.5, "threshold_from": "tuned", "total_steps": 3} == content["overall"]
    assert (content["overall"]["tuned_on"], content["overall"]["tuned_solutions"]) == ("source=b", 1)
    assert "the best one on 1 solutions (source=b), which are not reported" in tuned.stdout


def test_processbench_scores(tmp_path: Path) -> None:
    lines = [{"label": 1, "scores": [0.9, 0.2]}, {"label": -1, "scores": [0.5, 0.9]}, {"label": 0, "scores": [0.9]}]
    out = tmp_path / "out.json"
    result = sieve("--bench", "processbench", "--scores", write_lines(tmp_path / "math.jsonl", lines), "--json", out)
    content = report_of(result, out)
    assert content["per_source"]["math"]["accuracy_with_error"] == 0.5
    assert content["overall"]["first_error_f1"] == content["per_source"]["math"]["f1"] == pytest.approx(2 / 3)
    assert "mean of subsets" in result.stdout


def test_one_class_alone_has_no_area_and_is_no_failure(tmp_path: Path) -> None:
    scores = write_lines(tmp_path / "s.jsonl", [{"data_source": "a", "labels": [1, 1], "scores": [0.9, 0.4]}])
    result = sieve("--scores", scores, "--json", tmp_path / "out.json", "--plots", tmp_path / "plots")
    overall = report_of(result, tmp_path / "out.json")["overall"]
    assert (overall["auc"], overall["f1_positive"], overall["f1_negative"]) == (None, pytest.approx(2 / 3), 0.0)
    assert "AUC -" in result.stdout


def test_plots_are_pictures_with_something_in_them(tmp_path: Path) -> None:
    result = sieve("--scores", write_lines(tmp_path / "s.jsonl", SCORES), "--plots", tmp_path / "plots")
    assert result.exit_code == 0, result.output
    for name in ("roc.png", "reliability.png"):
        with Image.open(tmp_path / "plots" / name) as picture:
            assert picture.width > 500 and len(picture.convert("RGB").getcolors(10**6)) > 50
    assert len(list((tmp_path / "plots").iterdir())) == 2


@pytest.mark.slow
def test_scores_need_no_model(tmp_path: Path) -> None:
    write_lines(tmp_path / "s.jsonl", SCORES)
    code = (
        "import sys; from typer.testing import CliRunner; from rl.cli import app; "
        f"assert CliRunner().invoke(app, ['eval', 'prm', '--scores', {str(tmp_path / 's.jsonl')!r}]).exit_code == 0; "
        "print({'torch', 'transformers', 'ray', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_model_scores_what_it_would_score_as_a_policys_answers(bench: Path, whole: Path) -> None:
    encoder = Encoder(str(SHIPPED_POLICY))
    expected = scored_by_hand(bench, open_mprm(str(SHIPPED_POLICY), encoder, MPRMConfig(likelihood=False)), encoder)
    found = [json.loads(line) for line in (whole / "scores.jsonl").read_text().splitlines()]
    assert len(found) == SOLUTIONS
    for line, scores, record in zip(found, expected, records(bench), strict=True):
        np.testing.assert_allclose(line["scores"], scores, atol=1e-5)
        assert line["labels"] == record["response"]["process_correctness"]
        assert line["data_source"] == record["data_source"]
    assert np.std([score for scores in expected for score in scores]) > 0.01


def test_its_saved_scores_give_the_same_report(whole: Path, tmp_path: Path) -> None:
    for options in ((), ("--tune-on", 0.4)):
        again = sieve("--scores", whole / "scores.jsonl", "--json", tmp_path / "again.json", *options)
        report = report_of(again, tmp_path / "again.json")
        assert (report == json.loads((whole / "out.json").read_text())) == (not options)


def test_a_saved_mprm_brings_its_own_head_and_format(bench: Path, tmp_path: Path) -> None:
    encoder = Encoder(str(SHIPPED_POLICY))
    mprm = open_mprm(str(SHIPPED_POLICY), encoder, MPRMConfig(input_format="inline"))
    expected = scored_by_hand(bench, mprm, encoder)
    mprm.save(tmp_path / "mprm")
    scores = tmp_path / "scores.jsonl"
    result = sieve("--path", bench, "--mprm", tmp_path / "mprm", "--save-scores", scores)
    assert result.exit_code == 0, result.output
    for line, by_hand in zip(scores.read_text().splitlines(), expected, strict=True):
        np.testing.assert_allclose(json.loads(line)["scores"], by_hand, atol=1e-5)
    refused = sieve("--path", bench, "--mprm", tmp_path / "mprm", "--head", "value")
    assert refused.exit_code == 2 and "--head value" in refused.stderr and "saved MPRM" in refused.stderr


def test_processbench_with_a_model_and_no_images(tmp_path: Path) -> None:
    task, lines = GridTask(), []
    for index in range(6):
        steps = demonstrate(task.puzzle("heldout", index)).split("\n")[:-1]
        question = task.prompt("heldout", index).question
        lines.append({"id": f"grid-{index}", "problem": question, "steps": steps, "label": -1 if index % 2 else 1})
    (tmp_path / "bench").mkdir()
    write_lines(tmp_path / "bench" / "grid.jsonl", lines)
    out = tmp_path / "out.json"
    result = sieve("--bench", "processbench", "--path", tmp_path / "bench", "--mprm", "grid_policy", "--json", out)
    grid = report_of(result, out)["per_source"]["grid"]
    assert (grid["with_error"], grid["without_error"]) == (3, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench", "out.json"], "nothing else stays"


def test_tagged_steps_are_reported_by_kind(bench: Path, tmp_path: Path) -> None:
    lines = records(bench)[:4]
    for line in lines:
        line["image"] = ["0.png"]
        first, second, *rest = line["response"]["steps"]
        line["response"]["steps"] = [f"[Visual Elements] {first}", second, *(f"[Reasoning] {step}" for step in rest)]
    (tmp_path / "bench").mkdir()
    shutil.copy(bench / "images" / "0.png", tmp_path / "bench")
    write_lines(tmp_path / "bench" / "test.jsonl", lines)
    saved, out = tmp_path / "scores.jsonl", tmp_path / "out.json"
    result = sieve("--path", tmp_path / "bench", "--mprm", "grid_policy", "--save-scores", saved, "--json", out)
    kinds = report_of(result, out)["per_kind"]
    labels = [label for line in lines for label in line["response"]["process_correctness"][:2]]
    assert kinds["perception"]["steps"] == sum(label != 0 for label in labels)
    assert "perception: AUC" in result.stdout
    assert json.loads(saved.read_text().splitlines()[0])["kinds"][:3] == ["perception", "perception", "reasoning"]


def test_cut_off_anywhere_it_goes_on_to_the_same_report(bench: Path, whole: Path, tmp_path: Path) -> None:
    scores, journal = (whole / name for name in ("scores.jsonl", "scores.jsonl.progress"))
    lines = scores.read_bytes().splitlines(keepends=True)
    for kept in (lines[:8], lines[:19], [*lines[:16], lines[16][:30]]):
        (tmp_path / "scores.jsonl").write_bytes(b"".join(kept))
        (tmp_path / "scores.jsonl.progress").write_bytes(journal.read_bytes())
        options = ("--path", bench, "--mprm", "grid_policy", "--batch-size", 8)
        again = sieve(*options, "--save-scores", tmp_path / "scores.jsonl", "--json", tmp_path / "out.json")
        assert again.exit_code == 0, again.output
        assert (tmp_path / "out.json").read_bytes() == (whole / "out.json").read_bytes()
        assert (tmp_path / "scores.jsonl").read_bytes() == scores.read_bytes()


@pytest.mark.parametrize(
    ("changes", "appended", "told"),
    [
        (["--head", "value"], "", 'scores.jsonl was made with --head null, and this is "value"'),
        (["--dtype", "bfloat16"], "", 'with --dtype "float32", and this is "bfloat16"'),
        (["--separator", " "], "", "with --separator"),
        ([], "{}\n", "3 bytes are not from this command"),
    ],
)
def test_scores_of_something_else_are_not_gone_on_with(
    changes: list[str], appended: str, told: str, bench: Path, whole: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "scores.jsonl"
    for name in ("scores.jsonl", "scores.jsonl.progress"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    with saved.open("a") as file:
        file.write(appended)
    refused = sieve("--path", bench, "--mprm", "grid_policy", "--save-scores", saved, *changes)
    assert refused.exit_code == 2 and told in refused.stderr
    assert saved.read_bytes() == (whole / "scores.jsonl").read_bytes() + appended.encode()


def test_scores_of_another_benchmark_are_not_gone_on_with(bench: Path, whole: Path, tmp_path: Path) -> None:
    """Another picture under the same name."""
    shutil.copytree(bench, tmp_path / "bench")
    an_image(size=(84, 84)).save(tmp_path / "bench" / "images" / "3.png")
    for name in ("scores.jsonl", "scores.jsonl.progress"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    saved = tmp_path / "scores.jsonl"
    refused = sieve("--path", tmp_path / "bench", "--mprm", "grid_policy", "--save-scores", saved)
    assert refused.exit_code == 2 and "was made with the benchmark's digest" in refused.stderr


CHANGES: dict[str, Callable[[list[bytes]], tuple[list[bytes], int]]] = {
    "reversed": lambda lines: (lines[::-1], len(lines)),
    "shorter": lambda lines: (lines[:-1], len(lines)),
    "longer": lambda lines: ([*lines, lines[-1]], len(lines)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_scores_of_other_solutions_are_refused_though_the_journal_knows_them(
    change: Callable[[list[bytes]], tuple[list[bytes], int]], bench: Path, whole: Path, tmp_path: Path
) -> None:
    heading = json.loads((whole / "scores.jsonl.progress").read_bytes().splitlines()[0])
    saved = tmp_path / "scores.jsonl"
    file = ChunkedFile(saved, heading, ScoredChunk)
    rows, number = change((whole / "scores.jsonl").read_bytes().splitlines(keepends=True))
    file.append(b"".join(rows), ScoredChunk(number))
    file.close()
    refused = sieve("--path", bench, "--mprm", "grid_policy", "--save-scores", saved)
    assert refused.exit_code == 2 and f"{saved} holds scores of other solutions" in refused.stderr
    assert saved.read_bytes() == b"".join(rows)


@pytest.mark.slow
def test_killed_and_given_again_it_ends_with_the_same_report(bench: Path, tmp_path: Path) -> None:
    """Without --save-scores: what was scored is found again by the report's name."""
    (tmp_path / "run").mkdir()
    out = tmp_path / "run" / "out.json"
    options = ["--path", str(bench), "--mprm", "grid_policy", "--batch-size", "1"]
    undisturbed = sieve(*options, "--json", tmp_path / "out.json")
    assert undisturbed.exit_code == 0, undisturbed.output
    running = Running("eval", "prm", *options, "--json", out)
    running.wait_until(lambda: any(path.stat().st_size for path in out.parent.glob(".*.partial")))
    os.kill(running.pid, signal.SIGKILL)
    assert running.end()[0] == -signal.SIGKILL
    assert not out.exists()
    assert len(list(out.parent.iterdir())) == 2, "the scores so far, and their journal"
    result = sieve(*options, "--json", out)
    assert result.exit_code == 0, result.output
    resumed, expected = json.loads(out.read_text()), json.loads((tmp_path / "out.json").read_text())
    assert resumed.keys() == expected.keys()
    assert resumed["per_source"] == expected["per_source"], "the same decisions on every step"
    assert resumed["overall"].pop("threshold_from") == expected["overall"].pop("threshold_from")
    # Another process may sum in another order, with other threads: the last digits of a score are its own.
    assert resumed["overall"] == pytest.approx(expected["overall"], rel=1e-5)
    assert [path.name for path in out.parent.iterdir()] == ["out.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--path DIR", "--scores FILE.jsonl"]),
        (["--path", "bench"], ["--mprm CKPT"]),
        (["--bench", "other", "--scores", "s.jsonl"], ["--bench 'other'", "visualprocessbench, processbench"]),
        (["--scores", "no.jsonl"], ["no.jsonl cannot be read"]),
        (["--scores", "folder"], ["folder cannot be read"]),
        (["--scores", "broken.jsonl"], ["broken.jsonl:2: not JSON"]),
        (["--scores", "neutral.jsonl"], ["no step is labelled 1 or -1"]),
        (["--scores", "s.jsonl", "--threshold", "1.5"], ["--threshold 1.5", "0 to 1"]),
        (["--scores", "s.jsonl", "--threshold", "nan"], ["--threshold nan", "0 to 1"]),
        (["--scores", "s.jsonl", "--threshold", "0.5", "--tune-on", "0.5"], ["--threshold and --tune-on"]),
        (["--scores", "s.jsonl", "--tune-on", "2"], ["--tune-on 2", "share"]),
        (["--scores", "s.jsonl", "--tune-on", "source=c"], ["--tune-on source=c", "sources are a, b"]),
        (["--scores", "s.jsonl", "--mprm", "grid_policy"], ["--scores and --mprm"]),
        (["--scores", "s.jsonl", "--json", "no/out.json"], ["--json no/out.json", "no folder no"]),
        (["--scores", "s.jsonl", "--json", "folder"], ["--json folder exists and is no file"]),
        (["--scores", "s.jsonl", "--json", "s.jsonl"], ["--json s.jsonl is one of the inputs"]),
        (["--scores", "s.jsonl", "--plots", "s.jsonl"], ["--plots s.jsonl exists and is no folder"]),
        (["--path", "no", "--mprm", "grid_policy"], ["no does not exist"]),
        (["--path", "folder", "--mprm", "grid_policy"], ["folder has no *.jsonl"]),
        (["--path", "bench", "--mprm", "grid_policy"], ["bench/test.jsonl:2", "bench/gone.png", "No such file"]),
        (["--path", "text", "--mprm", "grid_policy"], ["text/test.jsonl:1", "it is of no known format"]),
        (["--path", "fine", "--mprm", "folder/no"], ["--mprm folder/no is no folder"]),
        (["--path", "fine", "--mprm", "/no/such/run"], ["--mprm /no/such/run is no folder"]),
        (["--path", "fine", "--mprm", "typo"], ["--mprm typo is no folder", "hub name"]),
        (["--path", "fine", "--mprm", "folder"], ["--mprm folder: the folder holds no checkpoint"]),
        (["--path", "fine", "--mprm", "nonsense"], ["--mprm: nonsense/model.safetensors is damaged"]),
        (["--path", "fine", "--mprm", "outcome"], ["--mprm outcome is a saved outcome model", "an MPRM"]),
        (["--path", "fine", "--mprm", "grid_policy", "--head", "other"], ["--head 'other'", "token, value, beta"]),
        (["--path", "fine", "--mprm", "grid_policy", "--format", "x"], ["--format 'x'", "rollout, chat, inline"]),
        (["--path", "fine", "--mprm", "grid_policy", "--batch-size", "0"], ["--batch-size 0", "1 or more"]),
        (["--path", "fine", "--mprm", "grid_policy", "--save-scores", "fine/s.jsonl"], ["part of the benchmark"]),
        (["--path", "fine", "--mprm", "grid_policy", "--save-scores", "s.jsonl"], ["s.jsonl is there already"]),
        (["--path", "placeholder", "--mprm", "grid_policy"], ["placeholder/test.jsonl:1", "image placeholder"]),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lines(Path("s.jsonl"), SCORES)
    Path("broken.jsonl").write_text(json.dumps(SCORES[0]) + "\n{\n")
    write_lines(Path("neutral.jsonl"), [{"data_source": "a", "labels": [0], "scores": [0.5]}])
    good = {"image": "a.png", "question": "Count: red = ?", "data_source": "a"}
    good["response"] = {"steps": ["1: red 1 0 1 = 2"], "process_correctness": [1]}  # type: ignore[assignment]
    spelled = good | {"question": "<|image_pad|> Count: red = ?"}
    for name, lines in {
        "folder": None,
        "bench": [good, good | {"image": ["a.png", "gone.png"]}],
        "text": [good | {"image": "test.jsonl"}],
        "fine": [good],
        "placeholder": [spelled],
    }.items():
        Path(name).mkdir()
        if lines is not None:
            an_image(size=(84, 84)).save(f"{name}/a.png")
            write_lines(Path(name, "test.jsonl"), lines)
    for name, state in (("nonsense", "other.json"), ("outcome", STATE_FILE)):
        Path(name).mkdir()
        Path(name, "model.safetensors").write_bytes(b"nonsense")
        for file in ("config.json", state):
            Path(name, file).write_text("{}")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    more = ["--json", "out.json"] if "--json" not in arguments else []
    result = sieve(*arguments, *more)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
