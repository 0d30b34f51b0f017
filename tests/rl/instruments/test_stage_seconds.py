"""Stage times that a forecast starts from: given, measured by a run, scaled to another batch; and the command."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from rl.cli import app
from rl.config import Config, load_config, save_config
from rl.errors import ConfigError
from rl.instruments.planning.engine_work import EngineWork
from rl.instruments.planning.other_batch import scaled_to
from rl.instruments.planning.simulation import Simulation
from rl.instruments.planning.stage_seconds import (
    Split,
    StageSeconds,
    given_seconds,
    measured_seconds,
    stage_medians,
)

ONE = Split(1, 1, 1)
QUICKSTART = Path(__file__).parents[3] / "configs" / "quickstart.yaml"


def a_config(staleness: int = 0, **sections: Any) -> Config:
    return Config.model_validate({"max_staleness": staleness, "mprm": {"every": 1}} | sections)


def test_given_stage_times_take_the_place_of_measured_ones() -> None:
    assert given_seconds("rollout=2, learn=1.5") == StageSeconds(rollout=2, learn=1.5)
    measured = StageSeconds(rollout=3, learn=2)
    assert given_seconds("sync=0.5", measured) == StageSeconds(rollout=3, learn=2, sync=0.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learn=2", "rollout=SECONDS is needed"),
        ("rollout=0", "rollout is '0'; allowed is a number above 0, up to 1,000,000,000"),
        ("rollout=nan", "rollout is 'nan'; allowed is a number above 0"),
        ("rollout=1e20", "rollout is '1e20'; allowed is a number above 0, up to 1,000,000,000"),
        ("rollout=2,tokens=1e8", "tokens is '1e8'; allowed is a number above 0, up to 10,000,000"),
        ("rollout=inf", "above 0"),
        ("rollout=x", "rollout is 'x'"),
        ("rollout=2,learn=-1", "learn is '-1'; allowed is a number from 0 to 1,000,000,000"),
        ("rollout=2,rounds=0", "allowed is a whole number from 1"),
        ("rollout=2,rounds=2.5", "allowed is a whole number from 1"),
        ("rollout=2,steps=0", "steps is '0'"),
        ("rollout=2,rollout=3", "'rollout=2,rollout=3': allowed is STAGE=NUMBER,…, each once"),
        ("rollout=3,", "'rollout=3,': allowed is STAGE=NUMBER"),
        ("rollouts=3", "rollout, annotate, score"),
        ("", "allowed is STAGE=NUMBER"),
    ],
)
def test_given_stage_times_are_checked(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=r"^--seconds '") as caught:
        given_seconds(text)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def rows(config: Config, truth: StageSeconds, number: int = 8) -> list[dict[str, float]]:
    """Metrics of a strictly on-policy run in which every stage takes as long as it should."""
    step = truth.rollout + truth.score + max(truth.annotate, truth.learn) + truth.other
    first = {"perf/step_seconds": 60.0, "perf/rollout_seconds": 50.0, "perf/learner_seconds": 40.0}
    steady = {
        "perf/step_seconds": step,
        "perf/rollout_seconds": truth.rollout,
        "perf/score_seconds": truth.score,
        "perf/annotate_seconds": truth.annotate,
        "perf/learn_seconds": max(0.0, truth.learn - truth.annotate),
        "perf/learner_seconds": truth.learn,
        "annotation/rounds": truth.rounds,
        "reward/tokens": truth.tokens,
        "reward/steps": truth.steps,
    }
    return [first, *(dict(steady) for _ in range(number))]


def a_run(folder: Path, config: Config, truth: StageSeconds) -> None:
    """A run folder, as far as a plan reads it."""
    save_config(config, folder / "config.yaml")
    taken = rows(config, truth)
    lines = [json.dumps({"step": step} | row) for step, row in enumerate([*taken, {"policy/accuracy": 0.5}], 1)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_a_run_says_how_long_its_stages_take(tmp_path: Path) -> None:
    truth = StageSeconds(rollout=3, annotate=1, score=0.5, learn=2, other=0.2, rounds=3, tokens=40, steps=4)
    config = a_config()
    a_run(tmp_path, config, truth)
    found, then = measured_seconds(tmp_path)
    assert then == config
    for name, value in vars(truth).items():
        assert getattr(found, name) == pytest.approx(value), name
    measured = rows(config, truth)[1]["perf/step_seconds"]
    # Lengths are drawn: what the engines take in twelve steps is near what was said, not equal to it.
    assert Simulation(config, found, ONE, ONE).run().step_seconds == pytest.approx(measured, rel=0.04)


def test_where_rollouts_hide_behind_the_learner_the_engines_say_what_they_worked() -> None:
    row = {
        "perf/step_seconds": 5.0,
        "perf/rollout_seconds": 0.0,
        "perf/annotate_seconds": 4.0,
        "perf/engine_idle": 0.2,
        "reward/tokens": 30.0,
        "annotation/tokens": 128 * 10.0,
    }
    late = a_config(0, annotation={"delay": 1})
    for config in (a_config(1), late):
        found = stage_medians([row, row], config)
        assert (found.rollout, found.annotate) == pytest.approx((3.0, 1.0))


def test_steps_before_the_first_late_labels_do_not_count(tmp_path: Path) -> None:
    truth = StageSeconds(rollout=3, annotate=1, score=0.5, learn=2, teach=1.5, rounds=3, tokens=40)
    delay = 4
    config = a_config(annotation={"delay": delay})
    taken = rows(config, truth, number=2 * delay)
    for row in taken[: 1 + delay]:
        row |= {"annotation/rounds": 0.0, "perf/annotate_seconds": 0.0}
    for row in taken[1 + delay :]:
        row |= {"mprm/loss": 0.3, "perf/mprm_update_seconds": truth.teach}
    save_config(config, tmp_path / "config.yaml")
    lines = [json.dumps({"step": step} | row) for step, row in enumerate(taken, 1)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    found, _ = measured_seconds(tmp_path)
    assert (found.rounds, found.annotate, found.teach) == (3, 1, 1.5)


def test_what_a_killed_run_tore_does_not_count_and_other_broken_lines_are_named(tmp_path: Path) -> None:
    truth = StageSeconds(rollout=3, learn=2, tokens=40)
    a_run(tmp_path, a_config(), truth)
    whole, expected = (tmp_path / "metrics.jsonl").read_bytes(), measured_seconds(tmp_path)
    for torn in (b'{"step": 9, "perf/st', b'{"step": 9, "perf/st\n', b"{", b'{"a": "\xc3'):
        (tmp_path / "metrics.jsonl").write_bytes(whole + torn)
        assert measured_seconds(tmp_path) == expected
    for broken in (b'{"step": 9, "perf/st', b"[1]", b'{"step": 9, "perf/step_seconds": "5"}', b"{}", b"null"):
        (tmp_path / "metrics.jsonl").write_bytes(whole + broken + b"\n" + whole)
        with pytest.raises(ConfigError, match=f"metrics.jsonl:{len(whole.splitlines()) + 1}: .*allowed is an object"):
            measured_seconds(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("annotation/rounds", 1e12, "1e+12 for rounds"),
        ("reward/tokens", math.nan, "nan for tokens"),
        ("reward/tokens", math.inf, "inf for tokens"),
        ("reward/tokens", -3.0, "-3 for tokens"),
        ("perf/score_seconds", 1e300, "1e+300 for score"),
        ("perf/rollout_seconds", 1e300, "1e+300 for rollout"),
    ],
)
def test_numbers_that_no_run_measures_are_refused(tmp_path: Path, key: str, value: float, named: str) -> None:
    a_run(tmp_path, a_config(), StageSeconds(rollout=3, learn=2, tokens=40))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    changed = [line | {key: value} if "perf/step_seconds" in line else line for line in lines]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, changed)))
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path}: its policy steps have {named}; allowed is")):
        measured_seconds(tmp_path)


def test_a_wait_for_new_weights_is_a_stage_and_the_asking_is_not() -> None:
    row = {"perf/step_seconds": 5.0, "perf/rollout_seconds": 3.0, "reward/tokens": 30.0}
    for waited, expected in ((0.002, 0.0), (0.5, 0.5)):
        found = stage_medians([row | {"perf/sync_seconds": waited}], a_config())
        assert found.sync == expected and found.other == pytest.approx(2 - waited)


def test_another_batch_scales_what_a_run_took() -> None:
    then = a_config(learner={"prompts": 16, "samples": 8})
    seconds = StageSeconds(rollout=8, annotate=4, score=1, learn=5, teach=3, sync=0.5, other=0.2, tokens=40)
    assert scaled_to(then, seconds, then, Path("run")) is seconds
    double = scaled_to(a_config(learner={"prompts": 32, "samples": 8}), seconds, then, Path("run"))
    assert (double.score, double.learn, double.other) == (2, 10, 0.4)
    assert (double.teach, double.sync, double.tokens) == (3, 0.5, 40)
    # Twice the tokens, and the longest answer of more: less than twice the time, as a batch is decoded at once.
    assert 8 < double.rollout < 16 and 4 < double.annotate < 8
    # Twice the prompts on twice the engines take what they took, but for the longest of more answers.
    wide = EngineWork(a_config(learner={"prompts": 32, "samples": 8}), double, 1)
    assert np.mean([wide.step(step, 2)[0].max() for step in range(32)]) == pytest.approx(8, rel=0.1)
    other = a_config(annotation={"continuations": 16}, learner={"epochs": 2}, mprm={"every": 1, "batches": 4})
    more = scaled_to(other, seconds, then, Path("run"))
    assert (more.rollout, more.learn, more.teach) == (8, 10, 1.5)
    assert 4 < more.annotate < 8


def test_ranks_take_whole_rows_of_another_batch() -> None:
    then = a_config(learner={"prompts": 2, "samples": 2, "ranks": 3})
    config = a_config(learner={"prompts": 3, "samples": 2, "ranks": 3})
    # Two rows on the fullest rank either way.
    assert scaled_to(config, StageSeconds(rollout=1, learn=5), then, Path("run")).learn == 5


@pytest.mark.parametrize(
    ("then", "config", "key"),
    [
        ({}, {"policy": {"checkpoint": "Qwen/Qwen2.5-VL-3B-Instruct"}}, "policy.checkpoint"),
        ({}, {"annotation": {"budget": "first_success"}}, "annotation.budget"),
        ({}, {"engine": {"max_completion_tokens": 32}}, "engine.max_completion_tokens"),
        ({"annotation": {"share": 0}}, {}, "annotation.share"),
        (
            {"annotation": {"budget": "sequential"}},
            {"annotation": {"budget": "sequential", "continuations": 16}},
            "annotation.continuations",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_stage_times_cannot_be_scaled_to_is_refused(then: dict, config: dict, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--run run: {key} was .* there and is .* here.*allowed is [^\n]*$"):
        scaled_to(a_config(**config), StageSeconds(rollout=1, annotate=1), a_config(**then), Path("run"))


def call(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["plan", *arguments])
    return result.exit_code, result.output


def test_the_command_prints_a_row_for_the_configuration_and_for_each_number_of_gpus() -> None:
    code, output = call(str(QUICKSTART), "--seconds", "rollout=2,learn=1,annotate=1", "--gpus", "4,16")
    assert code == 0, output
    found = [line for line in output.splitlines() if line.startswith("│")]
    assert len(found) == 3
    assert float(found[0].split("│")[5]) > float(found[2].split("│")[5])


def test_the_command_says_whose_batch_it_scaled(tmp_path: Path) -> None:
    truth = StageSeconds(rollout=3, annotate=1, score=0.5, learn=2, tokens=40)
    a_run(tmp_path, load_config(QUICKSTART), truth)
    code, output = call(str(QUICKSTART), "--run", str(tmp_path))
    assert code == 0 and output.splitlines()[0] == f"stages of {tmp_path}" and "sync not measured" in output
    samples = load_config(QUICKSTART).learner.samples
    code, output = call(
        str(QUICKSTART), f"learner.samples={2 * samples}", "--run", str(tmp_path), "--seconds", "sync=0.25,learn=4"
    )
    assert code == 0, output
    said, stages, *_ = output.splitlines()
    assert (
        said
        == f"stages of {tmp_path}, scaled by {tmp_path / 'config.yaml'}: learner.samples {samples} to {2 * samples}"
    )
    assert "sync 0.25" in stages and "learn 8" in stages and "score 1," in stages


def test_the_help_names_every_stage() -> None:
    text = CliRunner().invoke(app, ["plan", "--help"], env={"COLUMNS": "200"}).output
    assert all(name in text for name in vars(StageSeconds(rollout=1)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--run RUN or --seconds"),
        (("--seconds", "rollout=2", "--run", "nowhere"), "metrics.jsonl"),
        (("--run", "nowhere"), "metrics.jsonl"),
        (("--seconds", "rollout=2", "--gpus", "2"), "--gpus 2: allowed is 3 or more"),
        (("--seconds", "rollout=2", "--gpus", "many"), "whole numbers"),
        (("--seconds", "rollout=2", "--gpus", ""), "--gpus '': allowed are whole numbers"),
        (("--seconds", "rollout=2", "learner.prompts=0"), "learner.prompts"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: tuple[str, ...], words: str) -> None:
    code, output = call(str(QUICKSTART), *arguments)
    assert code == 2
    assert words in output and len(output.strip().splitlines()) == 1
