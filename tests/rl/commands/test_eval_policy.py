"""``sieve eval policy``: real engines and judges end to end, cut off and gone on with, and refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rewards.measuring.strategies import STRATEGIES
from rewards.outcome.outcome_model import STATE_FILE
from rewards.process_model.mprm import MPRM
from rewards.process_model.saved import MPRM_FILE
from rl.cli import app
from rl.config import Config
from rl.errors import ConfigError
from rl.evaluating.policy import (
    CHUNK,
    EvaluationOrder,
    JudgeOrder,
    evaluate_policy,
    identity,
    open_judge,
)
from rl.evaluating.strategies import Plan
from rl.evaluating.strategy_report import StrategyReport
from rl.files.chunked_file import JOURNAL_SUFFIX
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.monitoring.console import Console
from tests.fixtures.runs import Running, sieve

SMALL = Config.model_validate({"engine": {"kind": "hf"}})
PROMPTS = CHUNK + 4
PLAN = Plan(("greedy", "pass", "majority"), (1, 2))


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StrategyReport]:
    path = tmp_path_factory.mktemp("evaluation") / "records.jsonl"
    return path, evaluate_policy(SMALL, EvaluationOrder(PLAN, (), PROMPTS, path), Console()).report


@pytest.fixture
def copied(evaluation: tuple[Path, StrategyReport], tmp_path: Path) -> Path:
    for file in evaluation[0].parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / evaluation[0].name


def without_seconds(report: StrategyReport) -> list[dict[str, Any]]:
    return [{**row, "seconds": None} for row in report.as_json()["results"]]


def test_every_prompt_is_a_line(evaluation: tuple[Path, StrategyReport]) -> None:
    path, report = evaluation
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["prompt"] for record in records] == [f"grid/heldout/{index}" for index in range(PROMPTS)]
    assert all(len(record["pool"]) == 2 for record in records) and report.prompts == PROMPTS
    assert {(point.strategy, point.n) for point in report.points} == {
        ("greedy", 1), *((strategy, n) for strategy in ("pass", "majority") for n in (1, 2)),
    }  # fmt: skip


@pytest.mark.slow
def test_going_on_gives_the_file_and_the_report_that_would_have_been(
    evaluation: tuple[Path, StrategyReport], copied: Path
) -> None:
    """Cut off in the first chunk, between the two, and in the second."""
    whole, journal = copied.read_bytes(), copied.with_name(copied.name + JOURNAL_SUFFIX).read_bytes()
    first_chunk = sum(map(len, whole.splitlines(keepends=True)[:CHUNK]))
    for end in (0, 100, first_chunk, first_chunk + 100, len(whole)):
        copied.write_bytes(whole[:end])
        copied.with_name(copied.name + JOURNAL_SUFFIX).write_bytes(journal)
        report = evaluate_policy(SMALL, EvaluationOrder(PLAN, (), PROMPTS, copied), Console()).report
        assert copied.read_bytes() == whole, end
        assert without_seconds(report) == without_seconds(evaluation[1])
        assert all(point.seconds > 0 for point in report.points)


def test_more_prompts_and_more_strategies_of_the_same_samples_use_what_is_there(
    evaluation: tuple[Path, StrategyReport], copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = Plan(("greedy", "majority"), (2,))
    evaluate_policy(SMALL, EvaluationOrder(fewer, (), PROMPTS, copied), Console())
    assert "starting" not in capsys.readouterr().out
    evaluate_policy(SMALL, EvaluationOrder(PLAN, (), PROMPTS + 2, copied), Console())
    assert len(copied.read_bytes().splitlines()) == PROMPTS + 2
    kept = copied.read_bytes().splitlines()[:CHUNK]
    assert kept == evaluation[0].read_bytes().splitlines()[:CHUNK]


@pytest.mark.parametrize(
    ("order", "config", "told"),
    [
        ({"plan": Plan(PLAN.strategies, (1, 4))}, SMALL, "samples of a prompt 2, and this is 4"),
        ({"plan": Plan(("pass", "majority"), (1, 2))}, SMALL, "greedy true, and this is false"),
        ({"split": "train"}, SMALL, '--split "heldout", and this is "train"'),
        ({}, SMALL.model_copy(update={"seed": 1}), "seed 0, and this is 1"),
        ({"judges": (JudgeOrder("a", "mprm", "x"),)}, SMALL, 'judge a null, and this is "mprm x"'),
    ],
)
def test_an_evaluation_made_otherwise_is_refused(
    copied: Path, order: dict[str, Any], config: Config, told: str
) -> None:
    before = copied.read_bytes()
    values: dict[str, Any] = {"plan": PLAN, "judges": (), "prompts": PROMPTS, "output": copied} | order
    with pytest.raises(ConfigError, match=rf"records\.jsonl was made with {told}"):
        evaluate_policy(config, EvaluationOrder(**values), Console())
    assert copied.read_bytes() == before
    with pytest.raises(ConfigError, match="has 36 prompts already, more than --prompts 3"):
        evaluate_policy(SMALL, EvaluationOrder(PLAN, (), 3, copied), Console())


def test_where_and_on_what_it_runs_is_no_part_of_the_identity() -> None:
    moved = Config.model_validate({"engine": {"kind": "hf", "count": 2, "num_gpus": 1}, "steps": 3})
    assert identity(SMALL, EvaluationOrder(PLAN, (), 3, Path("a"))) == identity(
        moved, EvaluationOrder(PLAN, (), 9, Path("b"))
    )


def test_a_checkpoint_counts_by_what_is_in_it(tmp_path: Path) -> None:
    """Trained on in place, it is another one; a copy of the shipped policy stands for policy and judge."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(SHIPPED_POLICY, folder)
    config = Config.model_validate({"policy": {"checkpoint": str(folder)}})
    judges = (JudgeOrder("a", "mprm", str(folder)), JudgeOrder("b", "outcome", "owner/name"))
    order = EvaluationOrder(PLAN, judges, 3, tmp_path / "records.jsonl")
    before = identity(config, order)
    assert identity(config, order) == before and before["the digest of judge b"] == "owner/name"
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    after = identity(config, order)
    assert {key for key in before if before[key] != after[key]} == {"the policy's digest", "the digest of judge a"}
    said = config.model_copy(update={"mprm": config.mprm.model_copy(update={"verdicts": ("Yes", "No")})})
    assert {key for key in after if after[key] != identity(said, order)[key]} == {"mprm.verdicts"}


def test_a_judge_is_its_checkpoint_alone() -> None:
    config = Config.model_validate({"mprm": {"ranks": 2, "beside": ["no/such/mprm"], "combine": [1, 2]}})
    judge = open_judge(config, JudgeOrder("a", "mprm", str(SHIPPED_POLICY)))
    assert isinstance(judge.__self__, MPRM)  # type: ignore[attr-defined]


def test_a_finite_task_is_not_asked_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"Count: red = ? {place}", "answer": "1", "images": None} for place in range(3)]
    for name in ("train.jsonl", "heldout.jsonl"):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("config.yaml").write_text(
        "engine: {kind: hf}\ntask: {name: files, train_files: [train.jsonl], heldout_files: [heldout.jsonl]}\n"
    )
    few = ["config.yaml", "--strategy", "greedy", "--prompts"]
    refused = invoke(*few, "4")
    assert refused.exit_code == 2, refused.output
    assert refused.stderr.endswith("sieve: --prompts 4: heldout has only 3 different prompts\n")
    assert invoke(*few, "3").exit_code == 0


def test_a_judge_that_fails_at_work_ends_it_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its chat template can write other questions than the task's."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("engine: {kind: hf}\n")
    shutil.copytree(SHIPPED_POLICY, "odd")
    template = Path("odd/chat_template.jinja")
    template.write_text(template.read_text() + "{% if 'triangle' in messages | string %}{{ 1 / 0 }}{% endif %}")
    result = invoke("config.yaml", "--prompts", "2", "--n", "1", "--mprm", "odd", "-o", "records.jsonl")
    assert result.exit_code == 1, result.output
    *_, last = result.stderr.splitlines()  # Transformers may show what it loads
    assert last.endswith("what is written stays; the same command goes on")


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["eval", "policy", *arguments])


@pytest.mark.slow
def test_every_strategy_with_two_reward_models_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("engine: {kind: hf}\n")
    arguments = ["config.yaml", "--prompts", "4", "--strategy", "all", "--n", "1,3", "-o", "records.jsonl"]
    arguments += ["--mprm", "untrained=grid_policy", "--outcome-model", str(SHIPPED_POLICY)]
    Path("report.json").write_text("of another day")
    os.link("report.json", "kept.json")
    result = invoke(*arguments, "--json", "report.json", "--plot", "curves.png")
    assert result.exit_code == 0, result.output
    report = json.loads(Path("report.json").read_text())
    assert Path("kept.json").read_text() == "of another day", "replaced as a whole, never half-written"
    assert {row["strategy"] for row in report["results"]} == set(STRATEGIES)
    assert {row["judge"] for row in report["results"]} == {"", "untrained", "outcome"}
    assert report["made_with"]["judge untrained"] == f"mprm {SHIPPED_POLICY}"
    for told in ("N = 1", "N = 3", "one_shot (outcome)", "more than majority", "tokens", "report.json"):
        assert told in result.output
    assert Path("curves.png").read_bytes().startswith(b"\x89PNG")
    # An outcome model's score is that of one step: all its rules agree.
    outcome = [json.loads(line)["step_scores"]["outcome"] for line in Path("records.jsonl").read_text().splitlines()]
    assert all(len(scores) == 1 for group in outcome for scores in group)
    best = {row["accuracy"] for row in report["results"] if row["strategy"].startswith("best_of_n") and row["n"] == 3
            and row["judge"] == "outcome"}  # fmt: skip
    assert len(best) == 1


@pytest.mark.slow
def test_killed_and_given_again_it_ends_with_the_same_bytes(
    evaluation: tuple[Path, StrategyReport], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("engine: {kind: hf}\n")
    path = tmp_path / "records.jsonl"
    command = ["eval", "policy", tmp_path / "config.yaml", "--prompts", PROMPTS, "--n", "1,2"]
    command += ["--strategy", "greedy,pass,majority", "-o", path]
    running = Running(*command)
    journal = path.with_name(path.name + JOURNAL_SUFFIX)
    running.wait_until(lambda: journal.exists() and len(journal.read_bytes().splitlines()) > 1)
    os.kill(running.pid, signal.SIGKILL)
    assert running.end()[0] == -signal.SIGKILL
    assert len(path.read_bytes().splitlines()) < PROMPTS, "it was killed in the middle"
    again = sieve(*command)
    assert again.returncode == 0, again.stderr
    assert path.read_bytes() == evaluation[0].read_bytes()
    assert f"has {CHUNK} of {PROMPTS} prompts already" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["name a configuration", "configs/quickstart.yaml", "--run RUN"]),
        (["no_such.yaml"], ["no_such.yaml"]),
        (["config.yaml", "learner.lr=1"], ["learner.lr", "no such key"]),
        (["config.yaml", "--strategy", "psychic"], ["--strategy 'psychic'", "guided_greedy"]),
        (["config.yaml", "--strategy", "pass,best_of_n"], ["best_of_n_mean needs a judge", "--mprm"]),
        (["config.yaml", "--strategy", "guided_greedy"], ["guided_greedy needs a judge"]),
        (["config.yaml", "--n", "0,2"], ["--n 0,2", "1 to 10,000"]),
        (["config.yaml", "--n", "two"], ["--n 'two'", "1,2,4,8"]),
        (["config.yaml", "--prompts", "0"], ["--prompts 0", "1 to 10,000,000"]),
        (["config.yaml", "--split", "test"], ["'test'", "train, heldout"]),
        (["config.yaml", "--policy", "no/such/folder"], ["--policy no/such/folder is no folder"]),
        (["config.yaml", "--policy", "empty"], ["--policy empty", "no checkpoint"]),
        (["config.yaml", "--mprm", "empty"], ["--mprm empty", "no checkpoint"]),
        (["config.yaml", "--outcome-model", "./no"], ["--outcome-model ./no is no folder"]),
        (["config.yaml", "--mprm", "typo"], ["--mprm typo is no folder"]),
        (["config.yaml", "--mprm", "empty/typo"], ["--mprm empty/typo is no folder"]),
        (["config.yaml", "--mprm", "outcome"], ["--mprm outcome is a saved outcome model", "an MPRM"]),
        (["config.yaml", "--outcome-model", "mprm"], ["--outcome-model mprm is a saved MPRM", "an outcome model"]),
        (["config.yaml", "--mprm", "cut"], ["cut/model.safetensors is damaged"]),
        (["config.yaml", "--mprm", "nonsense"], ["nonsense/model.safetensors is damaged"]),
        (["config.yaml", "--mprm", "grid_policy", "--mprm", "grid_policy"], ["judge 'mprm' already", "NAME=CKPT"]),
        (["config.yaml", "-o", "a.txt"], ["-o a.txt", ".jsonl"]),
        (["config.yaml", "--json", "no/a.json"], ["--json no/a.json", "no folder no"]),
        (["config.yaml", "--plot", "folder.png"], ["--plot folder.png", "is a folder"]),
        (["config.yaml", "-o", "foreign.jsonl"], ["foreign.jsonl is there already"]),
        (["--run", "empty"], ["empty is not a run folder"]),
        (["--run", "unfinished"], ["unfinished has no finished checkpoint"]),
        (["config.yaml", "task.verifier=psychic"], ["task.verifier", "'psychic'"]),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("engine: {kind: hf}\nevaluation: {prompts: 2}\n")
    for folder in ("empty", "folder.png", "unfinished"):
        Path(folder).mkdir()
    Path("unfinished/config.yaml").write_text("{}\n")
    for folder, state in (("nonsense", "other.json"), ("outcome", STATE_FILE), ("mprm", MPRM_FILE)):
        Path(folder).mkdir()
        Path(folder, "model.safetensors").write_bytes(b"nonsense")
        for name in ("config.json", state):
            Path(folder, name).write_text("{}")
    shutil.copytree(SHIPPED_POLICY, "cut")
    weights = Path("cut/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:100_000])
    Path("foreign.jsonl").write_text("precious\n")
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr
    assert Path("foreign.jsonl").read_text() == "precious\n"
