"""Studies as they are written: what ships is right, what is wrong is said in one line, and cells are what was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from rl.cli import app
from rl.config import load_config
from rl.errors import ConfigError
from rl.instruments.study import arms as study_arms
from rl.instruments.study.arms import (
    Arm,
    make_arms,
    make_cells,
    recipe_of,
)
from rl.instruments.study.study_file import load_study
from rl.instruments.study.study_plan import make_plan

CONFIGS = Path(__file__).parents[3] / "configs"
SHIPPED = sorted((CONFIGS / "studies").glob("*.yaml"))
SMALL: dict[str, Any] = {
    "name": "small",
    "question": "Which?",
    "kind": "train",
    "config": str(CONFIGS / "smoke.yaml"),
    "seeds": [0, 1],
    "matrix": {"selection.selector": ["random", "bis"], "selection.keep_ratio": [0.5, 1.0]},
    "outcomes": ["policy/accuracy"],
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(
        yaml.safe_dump({key: value for key, value in (SMALL | changes).items() if value is not ...}, sort_keys=False)
    )
    return path


def arms(folder: Path, **changes: Any) -> dict[str, Arm]:
    return {arm.name: arm for arm in make_arms(load_study(written(folder, **changes)))}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_studies_are_possible(path: Path, tmp_path: Path) -> None:
    # Of reward models that some want to be made first, others see to it.
    plan = make_plan(path, ["seeds=[0]"], tmp_path / path.stem, runs=False)
    assert path.stem == plan.study.name and plan.study.question.endswith("?")
    assert len({cell.name for cell, _ in plan.cells}) == len(plan.cells) == len(plan.arms)
    assert len({job.recipe for _, job in plan.cells}) == len(plan.cells), "two cells are the same experiment"
    assert (len(plan.recordings) == 1) == (plan.study.kind == "replay")


def test_studies_that_record_alike_share_their_runs(tmp_path: Path) -> None:
    paths = [path for path in SHIPPED if path.stem in ("selectors", "refresh", "budgets")]
    plans = [make_plan(path, ["seeds=[0]"], tmp_path / path.stem) for path in paths]
    folders = {job.folder for plan in plans for job in plan.recordings.values()}
    assert len(plans) == 3 and len(folders) == 1
    assert folders.pop().parent == tmp_path / "streams"


def test_every_combination_is_an_arm_with_its_baseline(tmp_path: Path) -> None:
    found = arms(tmp_path, baseline={"selection.selector": "random"})
    assert list(found) == [
        "selector=random,keep_ratio=0.5",
        "selector=random,keep_ratio=1.0",
        "selector=bis,keep_ratio=0.5",
        "selector=bis,keep_ratio=1.0",
    ]
    assert found["selector=bis,keep_ratio=0.5"].baseline == "selector=random,keep_ratio=0.5"
    assert found["selector=random,keep_ratio=1.0"].baseline is None


def test_named_arms_are_combined_with_the_matrix(tmp_path: Path) -> None:
    named = {"often": {"mprm.every": 1}, "never again": {"mprm": {"every": 1, "until": 1}}}
    found = arms(tmp_path, arms=named, matrix={"selection.keep_ratio": [0.5]}, baseline="never again")
    assert list(found) == ["often,keep_ratio=0.5", "never-again,keep_ratio=0.5"]
    assert found["never-again,keep_ratio=0.5"].settings == {
        "selection.keep_ratio": 0.5,
        "mprm.every": 1,
        "mprm.until": 1,
    }
    assert found["often,keep_ratio=0.5"].baseline == "never-again,keep_ratio=0.5"


def test_what_is_left_out_is_no_arm(tmp_path: Path) -> None:
    out = [{"selection.keep_ratio": 1.0, "selection.selector": ["bis", "random"]}]
    assert list(arms(tmp_path, leave_out=out)) == ["selector=random,keep_ratio=0.5", "selector=bis,keep_ratio=0.5"]
    # An arm whose partner is left out stays, and is compared with nothing.
    out = [{"selection.keep_ratio": 1.0, "selection.selector": "random"}]
    found = arms(tmp_path, leave_out=out, baseline={"selection.selector": "random"})
    assert found["selector=bis,keep_ratio=1.0"].baseline is None


def test_arms_that_would_have_one_name_get_two(tmp_path: Path) -> None:
    assert len(arms(tmp_path, matrix={"task.answer_marker": ["a/b", "a b"]})) == 2
    long = arms(tmp_path, matrix={"task.instruction": ["x" * 500, "x" * 501]})
    assert len(long) == 2 and all(len(name) < 200 for name in long)


def test_a_cell_is_the_experiment_with_the_arms_changes(tmp_path: Path) -> None:
    path = written(tmp_path, set={"mprm": {"every": 3}, "learner.learning_rate": 1e-5})
    study = load_study(path)
    cells = make_cells(study, path, make_arms(study))
    assert [cell.seed for cell in cells] == [0] * 4 + [1] * 4, "all arms of a seed before the next"
    config = cells[6].config
    assert (config.seed, config.mprm.every, config.learner.learning_rate) == (1, 3, 1e-5)
    assert (config.selection.selector, config.selection.keep_ratio, config.record) == ("bis", 0.5, False)
    typed = [f"{key}={value}" for key, value in cells[6].changes.items()]
    assert load_config(path.parent / study.config, [*typed, "record=false"]) == config


def test_thousands_of_cells_read_the_experiment_once_and_check_each_arm_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()
    for name in ("read_values", "changed_config"):
        monkeypatch.setattr(study_arms, name, counted(name, getattr(study_arms, name), calls))
    path = written(tmp_path, seeds=list(range(1250)))
    cells = make_cells(study := load_study(path), path, make_arms(study))
    assert len(cells) == 5000 and calls == {"read_values": 1, "changed_config": 4 + 1249}
    assert {cell.config.seed for cell in cells} == set(range(1250))
    with pytest.raises(ConfigError, match=r"seed: 4294967296 is not allowed"):
        make_cells(study := load_study(path, ["seeds=[0,4294967296]"]), path, make_arms(study))


def counted(name: str, function: Callable[..., Any], calls: Counter[str]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        calls[name] += 1
        return function(*arguments)

    return call


def test_a_recipe_changes_with_what_changes_numbers_and_with_nothing_else() -> None:
    def recipe(*overrides: str) -> str:
        return recipe_of(load_config(CONFIGS / "smoke.yaml", overrides))

    assert recipe() == recipe("name=other", "output_dir=elsewhere", "checkpoint_every=0", "record=false")
    assert len({recipe(), recipe("seed=1"), recipe("selection.alpha=0.2"), recipe("task.difficulty=1")}) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outcomes": ...}, ("outcomes", "is missing")),
        ({"colour": "blue"}, ("colour", "no such key", "question")),
        ({"kind": "dream"}, ("kind", "'dream'", "'replay', 'train' or 'twin'")),
        ({"seeds": []}, ("seeds", "at least 1")),
        ({"seeds": [1, 1]}, ("seeds have [1] more than once", "once")),
        ({"seeds": list(range(5000))}, ("make 20,000 cells", "at most 5,000")),
        (
            {"matrix": {key: list(range(1, 101)) for key in ("steps", "mprm.every", "learner.samples", "threads")}},
            ("make 200,000,000 cells", "at most 5,000"),
        ),
        ({"matrix": {"task.system": [date(2020, 1, 1)]}}, ("matrix", "text, in quotes where it looks like a date")),
        ({"set": {"task.system": b"\xff"}}, ("set", "text, in quotes where it looks like a bytes")),
        ({"arms": {"a": {"task.system": {1, 2}}}}, ("arms", "looks like a set")),
        ({"leave_out": [{"steps": date(2020, 1, 1)}]}, ("leave_out", "looks like a date")),
        ({"baseline": {"steps": date(2020, 1, 1)}}, ("baseline", "looks like a date")),
        ({"workers": 0}, ("workers", "0", "greater than or equal to 1")),
        ({"config": "nowhere.yaml"}, ("config", "nowhere.yaml", "no file")),
        ({"matrix": {}}, ("matrix and arms are empty",)),
        ({"matrix": {"selection.selector": []}}, ("matrix.selection.selector", "at least 1")),
        ({"matrix": {"selection.alpha": [0.1, 0.1]}}, ("matrix.selection.alpha", "once")),
        ({"set": {"seed": 3}}, ("set.seed", "study's own")),
        ({"arms": {"a": {"output_dir": "x"}}}, ("arms.a.output_dir", "study's own")),
        ({"arms": {"a": {"selection.selector": "bis"}}}, ("arms.a.selection.selector", "in the matrix")),
        ({"record": {"steps": 3}}, ("record is set", "train")),
        ({"baseline": "random"}, ("baseline", "arm", "selection.selector, selection.keep_ratio")),
        ({"baseline": {"selection.selector": "mixed"}}, ("baseline", "'mixed'", "random, bis")),
        ({"contrast": {"mprm.every": [1, 2]}}, ("contrast", "mprm.every", "selection.selector")),
        ({"leave_out": [{"selection.keep_ratio": 0.7}]}, ("leave_out", "0.7", "0.5, 1.0")),
        ({"leave_out": [{"selection.keep_ratio": [0.5, 1.0]}]}, ("leave_out", "no arm")),
        ({"set": {"selection.temperature": 2}}, ("selector=random", "selection.temperature", "no such key")),
        ({"matrix": {"selection.selector": ["best"]}}, ("selector=best", "'best' is not one of", "bis_posterior")),
        ({"matrix": {"mprm.every": [1, 0]}}, ("every=0", "mprm.every", "greater than or equal to 1")),
        ({"arms": {"none": {"mprm.enabled": False}}}, ("none", "annotation.share", "mprm.enabled false")),
        (
            {"kind": "replay", "set": {"mprm.warm_start": ["a.jsonl"]}},
            ("selector=random", "mprm.warm_start", "allowed"),
        ),
        (
            {"kind": "replay", "set": {"replay.tokens": 99, "annotation.continuations": 16}},
            ("annotation.continuations 16", "recorded, fixed with 4", "at most so many"),
        ),
        (
            {"kind": "replay", "arms": {"fast": {"learner.learning_rate": 0.1}}},
            ("fast", "learner.learning_rate is varied", "nothing in a replay", "mprm, policy, replay, selection"),
        ),
        (
            {"kind": "replay", "matrix": {"selection.prompts": ["uniform", "difficulty"]}},
            ("prompts=uniform", "selection.prompts is varied", "nothing in a replay"),
        ),
        (
            {"kind": "replay", "matrix": {"annotation.budget": ["fixed", "sequential"]}},
            ("budget=fixed", "annotation.budget", "recorded labels unless replay.tokens is set"),
        ),
        (
            {"arms": {"old": {"mprm.checkpoint": "runs/old/mprm"}}},
            ("old", "mprm.checkpoint", "runs/old/mprm is no folder", "allowed"),
        ),
        ({"kind": "replay", "record": {"mprm.checkpoint": "runs/old/mprm"}}, ("record", "runs/old/mprm is no folder")),
        ({"kind": "replay", "record": {"steps": 0}}, ("record", "steps", "greater than or equal to 1")),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        make_plan(path, [], tmp_path / "out")
    message = str(caught.value)
    assert "\n" not in message and "pydantic" not in message
    assert message.startswith(str(path)), message
    for word in words:
        assert word in message, message
    assert [file.name for file in tmp_path.iterdir()] == ["study.yaml"], "nothing is written"


def test_what_a_study_asks_is_printed_as_text(tmp_path: Path) -> None:
    path = written(tmp_path, question="Is it \x1b[2J[/x]?")
    result = CliRunner().invoke(app, ["study", str(path), "--dry-run", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0 and r"small: Is it \x1b[2J[/x]?" in result.stdout


def test_keys_of_the_study_can_be_changed_on_the_command_line(tmp_path: Path) -> None:
    study = load_study(
        written(tmp_path), ["seeds=[4]", "workers=3", "set.mprm.every=5", "matrix.selection.alpha=[0.1]"]
    )
    assert (study.seeds, study.workers, study.set) == ((4,), 3, {"mprm.every": 5})
    assert study.matrix["selection.alpha"] == (0.1,) and len(study.matrix) == 3


@pytest.mark.parametrize(
    ("key", "typed", "baseline"),
    [
        ("learner.learning_rate", "[1e-4, 2e-4]", "1.0e-4"),
        ("learner.learning_rate", "[0.0001, 2e-4]", "1E-4"),
        ("learner.learning_rate", "['1e-4', 2e-4]", "0.0001"),
        ("selection.alpha", "[1, 0.5]", "1.0"),
        ("learner.prompts", "[16, 32]", "1.6e1"),
        ("learner.trl.epsilon_high", "[3e-1, 0.28]", "0.3"),
        ("learner.dynamic_sampling", "[off, drop]", "'off'"),
        ("watch.action", "['off', warn]", "off"),
        ("mprm.until_first_error", "[yes, no]", "true"),
        ("mprm.until_first_error", "[off, on]", "false"),
        ("mprm.class_weights", "[[1, 1], [2, 1]]", "[1.0, 1]"),
    ],
)
def test_a_baseline_is_the_arm_whose_value_it_is(key: str, typed: str, baseline: str, tmp_path: Path) -> None:
    path = written(tmp_path, matrix=...)
    path.write_text(path.read_text() + f"matrix: {{{key}: {typed}}}\nbaseline: {{{key}: {baseline}}}\n")
    first, second = make_arms(load_study(path))
    assert first.baseline is None and second.baseline == first.name
    study = load_study(path)
    cells = make_cells(study, path, [first, second])
    assert len({recipe_of(cell.config) for cell in cells if cell.seed == 0}) == 2


@pytest.mark.parametrize(
    ("key", "typed"),
    [
        ("learner.learning_rate", "[1e-4, 0.0001]"),
        ("learner.learning_rate", "[1e-4, 1.0e-4]"),
        ("learner.learning_rate", "[1e-4, '1e-4']"),
        ("selection.alpha", "[1, 1.0]"),
        ("selection.alpha", "[.5, 5e-1]"),
        ("learner.prompts", "[16, 16.0]"),
        ("learner.prompts", "[10, 010]"),
        ("learner.dynamic_sampling", "[off, 'off']"),
        ("mprm.until_first_error", "[yes, true]"),
        ("learner.trl.epsilon_high", "[3e-1, 0.3]"),
    ],
)
def test_one_value_typed_in_two_ways_is_not_two_arms(key: str, typed: str, tmp_path: Path) -> None:
    path = written(tmp_path, matrix=...)
    path.write_text(path.read_text() + f"matrix: {{{key}: {typed}}}\n")
    with pytest.raises(ConfigError, match="allowed is each value once"):
        load_study(path)


@pytest.mark.parametrize(
    ("key", "typed"),
    [("learner.learning_rate", "[1e-4, 1e-5]"), ("name", "['1', '1.0']"), ("task.instruction", "['1e-4', '0.0001']")],
)
def test_two_values_are_two_arms(key: str, typed: str, tmp_path: Path) -> None:
    path = written(tmp_path, matrix=...)
    path.write_text(path.read_text() + f"matrix: {{{key}: {typed}}}\n")
    if key == "name":
        with pytest.raises(ConfigError, match="study's own"):
            load_study(path)
        return
    assert len(make_arms(load_study(path))) == 2


def test_what_is_left_out_and_contrasted_is_named_as_users_type_it(tmp_path: Path) -> None:
    matrix = {"learner.learning_rate": [1e-4, 2e-4], "selection.selector": ["bis", "random"]}
    path = written(tmp_path, matrix=matrix)
    rest = "leave_out: [{learner.learning_rate: [1.0e-4], selection.selector: bis}]\n"
    path.write_text(path.read_text() + rest + "contrast: {learner.learning_rate: [2.0e-4, 1e-4]}\n")
    assert [arm.levels for arm in make_arms(load_study(path))] == [
        {"learner.learning_rate": 1e-4, "selection.selector": "random"},
        {"learner.learning_rate": 2e-4, "selection.selector": "bis"},
        {"learner.learning_rate": 2e-4, "selection.selector": "random"},
    ]
