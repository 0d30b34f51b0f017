"""The tiny policy: its tokenizer, its recipe, and the checkpoint that ships."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from transformers import AutoProcessor
from typer.testing import CliRunner

from rl.cli import app
from rl.files.named_checkpoint import SHIPPED as SHIPPED_BY_NAME
from rl.tasks.beliefs import BeliefsTask
from rl.tasks.grid import GridTask
from rl.tasks.grid_steps import demonstrate
from rl.tasks.worlds import World
from rl.tiny_policy.architecture import make_processor
from rl.tiny_policy.make_believer import Recipe as LessonRecipe
from rl.tiny_policy.make_believer import make_believer
from rl.tiny_policy.make_policy import SHIPPED, Recipe, make_policy
from rl.tiny_policy.measure import (
    chat_text,
    mark,
    measure,
    write_answers,
)
from rl.tiny_policy.tokenizer import UNKNOWN

SLIPS = {"count": 0.3, "multiply": 0.3, "add": 0.3, "modulo": 0.3, "compare": 0.3}


@pytest.mark.parametrize("difficulty", [1, 2, 3])
def test_text_survives_the_tokenizer_byte_for_byte(difficulty: int) -> None:
    tokenizer = make_processor().tokenizer
    task, rng = GridTask(difficulty), np.random.default_rng(0)
    for index in range(1500):
        puzzle = task.puzzle("train", index)
        text = f"{puzzle.question}\n{demonstrate(puzzle, SLIPS, rng)}"
        tokens = tokenizer(text)["input_ids"]
        assert tokenizer.decode(tokens) == text
        assert tokenizer.unk_token_id not in tokens
        assert not {"+", "-"} & set(tokenizer.convert_ids_to_tokens(tokens))  # kept for a reward model's verdicts


def test_verdicts_and_breaks_are_single_tokens() -> None:
    tokenizer = make_processor().tokenizer
    assert all(len(tokenizer(text)["input_ids"]) == 1 for text in ("+", "-", "\n", " 199", "Answer:"))
    assert tokenizer.decode(tokenizer("zebra")["input_ids"]) == UNKNOWN


def test_a_chat_holds_one_placeholder_an_image_and_one_token_a_cell() -> None:
    processor = make_processor()
    prompt = GridTask().prompt("train", 0)
    text = chat_text(processor, prompt.question)
    assert text.count("<|image_pad|>") == 1
    inputs = processor(text=[text], images=list(prompt.images), return_tensors="pt")
    assert (inputs["input_ids"] == processor.image_token_id).sum() == 9


@pytest.mark.slow
def test_a_short_recipe_runs_and_a_seed_repeats_it(tmp_path: Path) -> None:
    recipe = Recipe(cells=2, counting=2, solving=2, batch=4)
    lines: list[str] = []
    for run, seed, prompts in (("a", 0, 8), ("b", 0, 0), ("c", 1, 0)):
        make_policy(tmp_path / run, seed=seed, recipe=recipe, measured_prompts=prompts, report=lines.append)
    weights = {run: (tmp_path / run / "model.safetensors").read_bytes() for run in "abc"}
    assert weights["a"] == weights["b"] != weights["c"]
    assert any("solving: step 2 of 2" in line for line in lines)
    assert any("right on its own" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("error", [OSError("no space\nleft"), SafetensorError("no space\nleft")])
def test_a_policy_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    short = partial(make_policy, recipe=Recipe(cells=1, counting=1, solving=1, batch=2), measured_prompts=0)
    monkeypatch.setattr("rl.tiny_policy.make_policy.make_policy", short)

    def full(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(type(make_processor()), "save_pretrained", full)  # the weights are written before
        result = CliRunner().invoke(app, ["make-policy", str(tmp_path / "mine")])
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    said = result.stderr.splitlines()[-1]
    assert said.startswith("sieve: ") and said.endswith("no space left; nothing was written")
    assert list(tmp_path.iterdir()) == []

    (tmp_path / ".mine.partial").mkdir()  # of one that was killed
    (tmp_path / ".mine.partial" / "torn").touch()
    assert CliRunner().invoke(app, ["make-policy", str(tmp_path / "mine")]).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    made = sorted(path.name for path in (tmp_path / "mine").iterdir())
    assert "model.safetensors" in made and "torn" not in made
    again = CliRunner().invoke(app, ["make-policy", str(tmp_path / "mine")])
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1) and "is there already" in again.stderr
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == made


@pytest.mark.slow
def test_the_shipped_policy_solves_about_half_of_the_heldout_prompts() -> None:
    assert (SHIPPED / "model.safetensors").stat().st_size <= 10e6
    processor = AutoProcessor.from_pretrained(SHIPPED)
    assert processor.tokenizer.get_vocab() == make_processor().tokenizer.get_vocab()
    task = GridTask()
    prompts = [task.prompt("heldout", index) for index in range(512)]
    marked = mark(task, [prompt for prompt in prompts for _ in range(4)], write_answers(SHIPPED, prompts, 4))
    assert 0.35 < np.mean([answer.right for answer in marked]) < 0.65
    verdicts: dict[str, list[bool]] = defaultdict(list)
    for answer in marked:
        for step in answer.steps:
            verdicts[step.kind.partition(":")[2]].append(step.own)
    rates = {operation: np.mean(owns) for operation, owns in verdicts.items() if operation != "surplus"}
    assert rates.keys() == SLIPS.keys()
    assert all(0.50 < rate < 0.95 for rate in rates.values()), rates


@pytest.mark.slow
def test_the_shipped_policy_needs_the_picture_and_is_sure_of_its_best_answers() -> None:
    measured = measure(SHIPPED, GridTask(), prompts=64)
    sampled, greedy, blind = (
        np.mean([answer.right for answer in answers]) for answers in (measured.sampled, measured.greedy, measured.blind)
    )
    assert (len(measured.sampled), len(measured.greedy), len(measured.blind)) == (8 * 64, 64, 64)
    assert blind < 0.4 < sampled < 0.75 < greedy


@pytest.mark.slow
def test_a_short_lesson_teaches_a_worlds_beliefs_and_a_seed_repeats_it(tmp_path: Path) -> None:
    short = LessonRecipe(steps=2, batch=4)
    for run, world, seed in (("a", World("C"), 0), ("b", World("C"), 0), ("c", World("C", 1), 0), ("d", World("C"), 1)):
        make_believer(tmp_path / run, world, seed, short, report=lambda line: None)
    weights = {run: (tmp_path / run / "model.safetensors").read_bytes() for run in "abcd"}
    assert weights["a"] == weights["b"] and len(set(weights.values())) == 3
    result = CliRunner().invoke(app, ["make-policy", str(tmp_path / "x"), "--world", "Q"])
    assert result.exit_code == 2 and "--world 'Q': allowed is one of N, H, C" in result.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_the_shipped_believer_is_wrong_with_confidence() -> None:
    """Greedily it is no better than at temperature 1, and another try is often right."""
    measured = measure(SHIPPED_BY_NAME["beliefs_policy"], BeliefsTask(), prompts=48)
    right = np.array([answer.right for answer in measured.sampled]).reshape(48, -1)
    greedy = np.mean([answer.right for answer in measured.greedy])
    assert 0.15 < greedy < 0.5 and 0.2 < right.mean() < 0.45 and right.any(1).mean() > 0.6
