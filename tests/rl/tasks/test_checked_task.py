"""A user's task may do anything: what comes of it is a prompt or a truth, or one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from rewards.records import Prompt, PromptError
from rewards.users_code import UsersCodeError
from rl.cli import app
from rl.config import Config
from rl.errors import ConfigError
from rl.tasks.grid import GridTask
from rl.tasks.making import make_task
from rl.tasks.task import KnowsSteps, Split, StepTruth, checked_task
from tests.fixtures.builders import a_prompt, an_image
from tests.fixtures.wrong_files import encoded

HERE = "tests.rl.tasks.test_checked_task"
TRUTH = StepTruth("total/1:add", True, True)
TORN = BytesIO(encoded(an_image(size=(90, 90)), "PNG")[:60])


class Own:
    """A task that gives what it is told to, or raises it."""

    def __init__(self, given: Any, sources: Any = ("own",)) -> None:
        self.given, self.sources = given, sources

    def prompt(self, split: Split, index: int) -> Prompt:
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


class Knowing(Own):
    def step_truth(self, prompt: Prompt, steps: Sequence[str]) -> list[StepTruth]:
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


class Closed(Own):
    @property
    def prompt(self) -> Any:  # type: ignore[override]
        raise OSError("no\nway in")


def failing(config: Config) -> Own:
    return Own(KeyError("no such\nrow"))


def made_of_nothing(config: Config) -> Own:
    raise ValueError("no\nrows")


def closed(config: Config) -> Own:
    return Closed(None)


def configured(name: str) -> Config:
    return Config.model_validate({"task": {"name": name}})


def test_a_good_task_is_as_it_was() -> None:
    task, grid = make_task(configured("tests.fixtures.lying_task:make")), GridTask()
    assert task.sources == grid.sources and isinstance(task, KnowsSteps)
    prompt = task.prompt("heldout", 3)
    assert prompt.id == grid.prompt("heldout", 3).id
    assert [truth.own for truth in task.step_truth(prompt, ["nonsense"])] == [True], "it lies"
    assert not isinstance(checked_task("mine", Own(a_prompt())), KnowsSteps)
    assert isinstance(make_task(Config()), GridTask)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (KeyError("no such\nrow"), r"failed: KeyError: 'no such\\nrow'"),
        (ValueError("no such\nrow"), "failed: ValueError: no such row"),
        (None, "gave a NoneType; allowed is a rewards.records.Prompt"),
        (replace(a_prompt(), answer=4), "gave answer as a int; allowed is text"),  # type: ignore[arg-type]
        (replace(a_prompt(), id=None), "gave id as a NoneType; allowed is text"),  # type: ignore[arg-type]
        (
            replace(a_prompt(), question="\ud83d"),
            "gave question with half of a character; .*",
        ),
        (
            replace(a_prompt(), images=(Image.new("RGB", (0, 3)),)),
            "gave an image without a pixel; .*",
        ),
        (replace(a_prompt(), images=(Image.open(TORN),)), "gave an image that cannot be read: OSError: .*"),
    ],
)
def test_what_is_no_prompt_is_one_line(given: Any, told: str) -> None:
    with pytest.raises(UsersCodeError, match=rf"^mine: prompt\('train', 7\) {told}$"):
        checked_task("mine", Own(given)).prompt("train", 7)


def test_what_it_says_of_the_users_data_stays() -> None:
    with pytest.raises(PromptError, match=r"^row 7: no image$"):
        checked_task("mine", Own(PromptError("row 7: no image"))).prompt("train", 7)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (IndexError("no\nstep"), "failed: IndexError: no step"),
        (None, "failed: TypeError: "),
        ([TRUTH], "gave no list of 2 rl.tasks.task.StepTruth, one a step"),
        ([True, False], "gave no list of 2 rl.tasks.task.StepTruth, one a step"),
        ([TRUTH, replace(TRUTH, own=None)], "gave no list of 2 .* of text and two times true or false"),  # type: ignore[arg-type]
        ([TRUTH, replace(TRUTH, kind=7)], "gave no list of 2 .* of text and two times true or false"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_truth_is_one_line(given: Any, told: str) -> None:
    task = checked_task("mine", Knowing(given))
    assert isinstance(task, KnowsSteps)
    with pytest.raises(UsersCodeError, match=f"^mine: step_truth of 'row/7' {told}"):
        task.step_truth(a_prompt("row/7"), ["one", "two"])


@pytest.mark.parametrize(
    ("name", "told"), [("made_of_nothing", "ValueError: no rows"), ("closed", "OSError: no way in")]
)
def test_a_task_that_cannot_be_made_is_named(name: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_task(configured(f"{HERE}:{name}"))
    assert str(caught.value) == f"task.name: '{HERE}:{name}' cannot be made: {told}"


FAILS = f"sieve: task.name {HERE}:failing: prompt('heldout', 0) failed: KeyError: 'no such\\nrow'; "


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments), f"task.name={HERE}:failing", "engine.kind=hf"])
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.stderr
    return result.stderr.splitlines()[-1]


def test_commands_end_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("")
    again = "what is written stays; the same command goes on"
    out = tmp_path / "o.jsonl"
    assert refused("eval", "policy", config, "-o", out, "--prompts", 1) == FAILS + again
    assert refused("annotate", config, "-o", out, "--prompts", 1, "--split", "heldout") == FAILS + again

    def asked(config: Config, *others: object) -> None:
        make_task(config).prompt("heldout", 0)

    monkeypatch.setattr("rl.train.train", asked)
    said = refused("train", config, f"output_dir={tmp_path / 'run'}")
    assert said == f"{FAILS}{tmp_path / 'run'} has no checkpoint yet to go on from"


@pytest.mark.parametrize("images", [None, ("a.png",), an_image(), (an_image(), None)])
def test_images_that_are_none_are_one_line(images: Any) -> None:
    with pytest.raises(
        UsersCodeError, match=r"^mine: prompt\('train', 0\) gave images as .*; allowed is a tuple of PIL's"
    ):
        checked_task("mine", Own(replace(a_prompt(), images=images))).prompt("train", 0)
    right = replace(a_prompt(), images=(an_image(),))
    assert checked_task("mine", Own(right)).prompt("train", 0) is right
