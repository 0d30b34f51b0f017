"""Studies of twins, from file to report; and how many seeds a difference needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats
from typer.testing import CliRunner

from rl.cli import app
from rl.instruments.study.power import effect_shown, power, seeds_needed
from rl.instruments.study.results import RESULT_FILE
from tests.fixtures.runs import ROOT
from tests.rl.instruments.test_twin import SHORT

STUDY: dict[str, Any] = {
    "name": "twins",
    "question": "Which?",
    "kind": "twin",
    "config": "short.yaml",
    "seeds": [0, 1, 2],
    "matrix": {"learner.credit": ["outcome", "progress"], "twin.given_auc": [0.7, 0.95]},
    "baseline": {"learner.credit": "outcome"},
    "outcomes": ["exact_accuracy", "seconds"],
}


def written(folder: Path, **changes: Any) -> str:
    (folder / "short.yaml").write_text(yaml.safe_dump(SHORT), encoding="utf-8")
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY | changes), encoding="utf-8")
    return str(folder / "study.yaml")


def test_a_study_runs_to_its_report_and_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    command = ["study", written(tmp_path), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "12 of 12 cells are finished" in report and "| progress | 0.95 | 3 |" in report
    files = sorted((tmp_path / "out" / "cells").glob(f"*/{RESULT_FILE}"))
    before = [json.loads(file.read_text())["result"] for file in files]
    assert len(files) == 12 and len({json.dumps(found) for found in before}) == 12
    files[4].unlink()
    assert CliRunner().invoke(app, command).exit_code == 0
    assert [json.loads(file.read_text())["result"] for file in files] == before


def test_power_says_how_many_seeds_a_difference_needs_and_runs_nothing(tmp_path: Path) -> None:
    # A study of training runs has a twin as well.
    training = {"kind": "train", "matrix": {"learner.credit": ["outcome", "progress"]}}
    for changes in ({}, training):
        result = CliRunner().invoke(
            app, ["study", written(tmp_path, **changes), "--power", "--out", str(tmp_path / "o")]
        )
        assert result.exit_code == 0, result.output
        assert "| arm | against | difference | standard deviation | seeds |" in result.output
        assert "In the twin there is nothing to compare in seconds." in result.output
        assert not (tmp_path / "o").exists()


def test_power_leaves_out_what_has_no_twin_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl.instruments.study.power.TWIN_SEEDS", 3)
    some = {"a": {}, "b": {"learner.credit": "outcome"}, "c": {"selection": {"half_life": 3}}}
    study = written(tmp_path, kind="train", matrix={}, arms=some, baseline="a")
    result = CliRunner().invoke(app, ["study", study, "--power"])
    assert result.exit_code == 0, result.output
    assert "| b | a |" in result.output and "| c | a |" not in result.output
    assert "`c` has no twin: selection.half_life is 3.0" in result.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"baseline": None}, "--power: baseline is null"),
        ({"matrix": {"learner.credit": ["outcome", "ps_grpo"]}}, "learner.credit is 'ps_grpo': the twin knows"),
        ({"matrix": {"twin.given_auc": [0.2, 0.7]}, "baseline": None}, "twin.given_auc is 0.2: "),
        ({"kind": "train"}, "matrix.twin.given_auc is set: allowed with kind train are the experiment's keys"),
        (
            {"matrix": {"learner.algorithm": ["grpo", "rloo"]}, "baseline": None},
            "learner.algorithm is varied: it changes",
        ),
        (
            {"kind": "train", "matrix": {"selection.capacity": [9, 99]}, "baseline": {"selection.capacity": 9}},
            "selection.capacity is varied: it changes nothing in the twin; allowed are steps,",
        ),
        (
            {"kind": "train", "matrix": {}, "arms": {"a": {}, "b": {"selection": {"half_life": 3}}}, "baseline": "a"},
            "selection.half_life is 3.0: the twin knows 0",
        ),
        ({"record": {"steps": 2}}, "record is set: allowed with kind twin is nothing"),
        ({"twin": {"world": "Q"}}, "twin.world"),
        ({"set": {"learner.dynamic_sampling": "refill"}}, "learner.dynamic_sampling is 'refill': the twin knows off"),
        ({"set": {"selection": {"prompts": "difficulty"}}}, "selection.prompts is 'difficulty': the twin knows unif"),
    ],
)
def test_what_has_no_twin_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    result = CliRunner().invoke(app, ["study", written(tmp_path, **changes), "--power"])
    assert result.exit_code == 2 and told in result.stderr and result.stderr.count("\n") == 1, result.output


def test_replays_have_no_twin() -> None:
    result = CliRunner().invoke(app, ["study", str(ROOT / "configs" / "studies" / "smoke.yaml"), "--power"])
    assert result.exit_code == 2 and "a study of replays has no twin" in result.stderr


def test_what_makes_no_difference_needs_more_seeds_than_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rl.instruments.study.power.TWIN_SEEDS", 3)
    never = {"kind": "train", "matrix": {"mprm.until": [5, 9]}, "baseline": {"mprm.until": 5}}  # of 4 policy steps
    result = CliRunner().invoke(app, ["study", written(tmp_path, **never), "--power", "--out", str(tmp_path / "o")])
    assert result.exit_code == 0, result.output
    assert "| +0.0000 | 0.0000 | over 10,000 |" in result.output


def test_seeds_without_a_number_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two held-out answers, some draws have no wrong step, and so no area."""
    monkeypatch.setattr("rl.instruments.study.power.TWIN_SEEDS", 24)
    few = {
        "set": {"evaluation": {"prompts": 1, "samples": 2}},
        "matrix": {"twin.given_auc": [0.7, 0.95]},
        "baseline": {"twin.given_auc": 0.7},
        "outcomes": ["mprm/auc_weighted_reasoning"],
    }
    for seeds, least in (([0, 1, 2], "| 0."), ([0], "| inf |")):
        result = CliRunner().invoke(app, ["study", written(tmp_path, **few, seeds=seeds), "--power"])
        told = next(line for line in result.output.splitlines() if line.startswith("| given_auc=0.95 |"))
        assert result.exit_code == 0 and "nan" not in told and least in told, told


def test_power_is_that_of_simulated_t_tests() -> None:
    rng = np.random.default_rng(0)
    for effect, seeds in ((0.6, 8), (1.2, 5), (0.0, 6)):
        draws = rng.normal(effect, 1, (4000, seeds))
        share = (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()
        assert power(effect, seeds) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("effect", [0.2, 0.5, 1.0, 3.0])
def test_the_seeds_needed_are_enough_and_one_fewer_is_not(effect: float) -> None:
    seeds = int(seeds_needed(effect))
    assert seeds_needed(-effect) == seeds and power(effect, seeds) >= 0.8
    assert seeds == 2 or power(effect, seeds - 1) < 0.8
    assert effect_shown(seeds) <= effect + 1e-6
