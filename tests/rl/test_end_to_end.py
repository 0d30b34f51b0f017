"""The command line on the real parts: Ray, vLLM, TRL and TensorBoard, with the smallest configuration."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from rl.cli import app
from rl.config import load_config
from rl.instruments.replay.relabelling import recorded_labels
from rl.instruments.replay.replayed_lessons import make_learning
from rl.instruments.replay.stream import open_stream
from rl.monitoring.metric_table import METRICS
from rl.monitoring.recording import STREAM, stream_files
from selection.rows import identity
from tests.fixtures.runs import (
    SIEVE,
    SMOKE,
    Running,
    metrics,
    sieve,
    warm_python,
)

pytestmark = pytest.mark.slow
EVERYTHING = (
    "max_staleness=0",
    "steps=4",
    "selection.selector=random",  # seeds are part of what a replay has to get right
    "annotation.share_prefixes=true",
    "evaluation.every=2",
    "outcome_model.reward=hybrid",
    "outcome_model.harvest=true",
    # A judge that nobody answers for: the run goes on without it.
    "judge.endpoint=http://127.0.0.1:9/v1",
    "judge.model=nobody",
    "judge.retries=0",
    "evaluation.strategies=[majority,best_of_n_min]",
    "evaluation.strategy_n=[1,2]",
    "evaluation.strategy_prompts=4",
)


def held_back_rollouts(run: Path) -> int:
    """Annotated rollouts that the MPRM does not learn from, at the end of a run of four steps."""
    return pq.read_metadata(run / "checkpoints" / "step-4" / "held_back.parquet").num_rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One strictly on-policy run to its end, which several tests look at."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    return run, sieve("train", SMOKE, f"output_dir={run}", *EVERYTHING)


def test_a_run_leaves_everything_behind(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    run, process = finished
    assert process.returncode == 0, process.stderr
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    assert summary["steps"] == 4 and summary["wall_seconds"] > 0
    assert 0 <= summary["policy"]["accuracy_start"] <= 1 and 0 <= summary["policy"]["accuracy_end"] <= 1
    assert 0 <= summary["mprm"]["auc_start"] <= 1 and 0 <= summary["mprm"]["auc_end"] <= 1
    assert summary["annotation"]["continuations"] > 0
    assert summary["annotation"]["tokens"] > summary["annotation"]["continuations"]
    assert summary["annotation"]["fixed_tokens"] >= summary["annotation"]["tokens"], "equal beginnings share theirs"
    assert summary["selection"]["seen"] == 4 * 8 - held_back_rollouts(run)
    assert 0 < summary["selection"]["kept"] < summary["selection"]["seen"]
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["step-2", "step-4"]
    assert f"board {run}" in process.stdout and f"report {run}" in process.stdout and "\x1b" not in process.stdout
    assert "accuracy" in process.stdout and "step 4/4" in process.stdout


def test_outcome_model_and_judge_are_part_of_the_run(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    run, process = finished
    found = metrics(run)
    taught = [step for step in found if "reward/model_loss" in found[step]]
    assert taught == [2, 4], "every second step"
    for step in (0, 4):
        assert 0 <= found[step]["policy/strategies/best_of_n_min/2"] <= 1
    for step in (1, 2, 3, 4):
        assert found[step]["reward/outcome"] <= found[step]["reward/answers"] <= 1
        assert found[step]["annotation/judged"] == 0 and found[step]["annotation/judge_failures"] == 8
    assert "the judge has no verdict on any of 8 rollouts: unreachable" in process.stdout


def test_the_finished_run_can_be_evaluated(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """vLLM loads the policy of a checkpoint, and the MPRM beside it judges, with the run's own configuration."""
    strategies = ("--strategy", "greedy,majority,best_of_n_min,guided_greedy", "--n", "1,2", "--prompts", 4)
    process = sieve("eval", "policy", "--run", finished[0], *strategies, "--json", tmp_path / "report.json")
    assert process.returncode == 0, process.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    newest, found = finished[0] / "checkpoints" / "step-4", report["results"]
    assert report["prompts"] == 4 and report["made_with"]["policy.checkpoint"] == str(newest / "policy")
    assert report["made_with"]["judge mprm"] == f"mprm {newest / 'mprm'}"
    assert {(point["strategy"], point["n"]) for point in found} > {("greedy", 1), ("guided_greedy", 2)}
    assert all(0 <= point["accuracy"] <= 1 for point in found)


def test_its_report_has_every_rollout(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    run, _ = finished
    process = sieve("report", run)
    assert process.returncode == 0, process.stderr
    assert "64 of 64 rollouts" in process.stdout
    assert (run / "report.html").read_text(encoding="utf-8").count("data:image/webp") == 16


def test_it_recorded_every_rollout_and_every_continuation(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    stream, found = open_stream(finished[0]), metrics(finished[0])
    assert (stream.steps, stream.evaluations) == ((1, 2, 3, 4), (0, 2, 4))
    for step in stream.steps:
        rollouts = stream.step(step)
        assert len(rollouts) == 16 and all(len(r.scores.scores) == len(r.entry.rollout.steps) for r in rollouts)
        offered = recorded_labels(rollouts)
        assert offered.tokens == found[step]["annotation/tokens"]
        assert len(offered.entries) == 8
        assert sum(rollout.entry.rollout.outcome for rollout in rollouts) / 16 == found[step]["reward/outcome"]
    accuracy = sum(rollout.entry.rollout.outcome for rollout in stream.heldout(4)) / 16
    assert accuracy == found[4]["policy/accuracy"]


def test_a_replay_under_the_runs_own_settings_keeps_what_the_run_kept(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    run, _ = finished
    stream = open_stream(run)
    learning = make_learning(load_config(run / "config.yaml"))
    for step in stream.steps:
        rollouts = stream.step(step)
        learning.offer(recorded_labels(rollouts), step)
        kept = {identity(entry) for entry in learning.lessons.buffer.kept()}
        assert [rollout.annotated and identity(rollout.entry) in kept for rollout in rollouts] == [
            rollout.kept for rollout in rollouts
        ]
    assert 0 < len(learning.lessons.buffer) == metrics(run)[4]["selection/size"]
    assert len(learning.lessons.held_back) > 0, "the guard takes its share first"


def test_tensorboard_shows_every_stage_and_some_rollouts(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    run, _ = finished
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    for group in ("reward", "policy", "mprm", "selection", "annotation", "perf"):
        assert any(tag.startswith(f"{group}/") for tag in tags["scalars"]), group
    assert "rollouts/0" in tags["images"]
    assert {"custom_scalars__config__", "mprm/finding_wrong_steps"} <= set(tags["tensors"])
    assert {"mprm/scores_of_right_rollouts", "selection/scores_kept"} <= set(tags["histograms"])
    finer = tuple(f"{name}/" for name in METRICS)
    assert [tag for tag in tags["scalars"] if tag not in METRICS and not tag.startswith(finer)] == []


def test_two_ranks_of_mprm_and_learner_make_the_run_of_one(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """What two processes with half of the weights each find is what one finds, up to rounding."""
    run = tmp_path / "two"
    ranks = [f"{part}.{key}" for part in ("mprm", "learner") for key in ("ranks=2", "sharding=fsdp2", "num_cpus=0.2")]
    process = sieve("train", SMOKE, f"output_dir={run}", *EVERYTHING, *ranks)
    assert process.returncode == 0, process.stderr
    one, two = metrics(finished[0]), metrics(run)
    assert held_back_rollouts(run) > 0 and "mprm/guard_auc_after" in one[4]
    for step in (0, 1):
        assert two[step] == pytest.approx(one[step], rel=1e-3, abs=1e-4)
    for step in (2, 3, 4):
        assert two[step].keys() == one[step].keys()


def test_partial_rollouts_refills_and_credit_from_counts_work_together(tmp_path: Path) -> None:
    """vLLM goes on from prefixes that older weights wrote."""
    run = tmp_path / "partial"
    options = ["max_staleness=2", "steps=4", "evaluation.prompts=4", "engine.segment_tokens=10", "annotation.share=1"]
    options += ["learner.dynamic_sampling=refill", "learner.truncated=penalise", "learner.credit=monte_carlo"]
    options += ["learner.reuse_continuations=true"]
    process = sieve("train", SMOKE, f"output_dir={run}", *options)
    assert process.returncode == 0, process.stderr
    cost = json.loads((run / "summary.json").read_text())["annotation"]
    assert cost["fixed_tokens"] == cost["tokens"], "the fixed budget, and nothing shared"
    found = metrics(run, timed=True)
    steps = [found[step] for step in (1, 2, 3, 4)]
    assert sum(values["perf/rounds"] for values in steps) > 4
    assert max(values["perf/mixed_version_tokens"] for values in steps) > 0
    assert all(values["reward/mixed_groups"] in (0, 1) for values in steps), "groups with a signal, or none at all"
    for values in steps:
        assert 0 <= values["perf/staleness"] <= 2
        assert values["policy/continuation_tokens"] > 0 and 0 < values["policy/continuation_share"] < 1
        assert 0 <= values["perf/engine_idle"] <= 1 and values["perf/tokens_per_second"] > 0
        assert 0 <= values["perf/learner_wait"] < values["perf/step_seconds"]


def test_a_run_that_hacks_its_reward_is_stopped(tmp_path: Path) -> None:
    run = tmp_path / "hacked"
    options = ["engine.kind=hf", "workers=inline", "max_staleness=0", "steps=4", "evaluation.prompts=4"]
    options += ["watch.action=stop", "watch.baseline=1", "watch.window=1"]
    options += ["task.verifier=tests.fixtures.souring_verifier:souring"]
    process = sieve("train", SMOKE, f"output_dir={run}", *options)
    assert process.returncode == 1, process.stderr
    assert "reward hacking" in process.stderr and "watch.gap" in process.stderr and "--resume" in process.stderr
    assert "Traceback" not in process.stderr
    assert max(metrics(run)) == 2 and (run / "checkpoints" / "step-2").is_dir()


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run's like, but for three things: a task that lies about every step, no recording, and a Ctrl-C
    after which it was resumed."""
    run = tmp_path_factory.mktemp("runs") / "cut"
    options = ("task.name=tests.fixtures.lying_task:make", "checkpoint_every=0", "record=false")
    eighth = {"CTRL_C": "7"}  # the last prompt of the second step, four a step from number 0 on
    code, said = Running("train", SMOKE, f"output_dir={run}", *EVERYTHING, *options, own_group=True, **eighth).end()
    assert code == 0 and "--resume" in said and not (run / STREAM).exists()
    assert max(metrics(run)) == 2 and (run / "checkpoints" / "step-2").is_dir()
    assert not (run / "summary.json").exists()

    resumed = sieve("train", "--resume", run)
    assert resumed.returncode == 0, resumed.stderr
    return run


BY_ERRORS = "auc_start", "auc_end", "auc_standard_error_end"
"""Of the summary: their kinds are weighted by what is wrong."""


def against_truth(name: str) -> bool:
    """Whether a metric says how right the MPRM is about steps; the one left out fits its baseline to what it judges."""
    return name.startswith(("mprm/auc", "mprm/macro_f1")) and name != "mprm/auc_index_only"


def test_an_interrupted_run_resumes_as_if_it_had_never_stopped(
    finished: tuple[Path, subprocess.CompletedProcess[str]], cut: Path
) -> None:
    """And true step labels reach nothing but the evaluation: the one run is lied to about every step.

    So the same seed gives the same metrics, and whether a run is recorded changes none of them.
    """
    run, _ = finished
    assert (run / STREAM).exists()
    told, misled = metrics(run), metrics(cut)
    assert misled.keys() == told.keys()
    for step, values in told.items():
        # Learner and MPRM sum floats in the same order, so nothing needs a tolerance.
        trained = {name: value for name, value in values.items() if not against_truth(name)}
        found = {name: value for name, value in misled[step].items() if not against_truth(name)}
        index_only = "mprm/auc_index_only"
        assert found.pop(index_only, 0) == pytest.approx(trained.pop(index_only, 0))
        assert found == trained
    ended, whole = (json.loads((path / "summary.json").read_text()) for path in (cut, run))
    for key in ("policy", "annotation", "selection", "steps"):
        assert ended[key] == whole[key]


def test_a_task_that_lies_about_steps_turns_the_evaluation_round(
    finished: tuple[Path, subprocess.CompletedProcess[str]], cut: Path
) -> None:
    told, misled = metrics(finished[0]), metrics(cut)
    judged = [(step, name) for step, values in told.items() for name in values if against_truth(name)]
    assert {step for step, _ in judged} == {0, 2, 4}
    for step, name in judged:
        if "weighted" in name or "standard_error" in name:
            continue  # by errors, of which there are others now
        if name.startswith("mprm/macro_f1"):
            assert misled[step][name] != told[step][name]
        else:
            assert misled[step][name] == pytest.approx(1 - told[step][name])
    lie, truth = (json.loads((run / "summary.json").read_text())["mprm"] for run in (cut, finished[0]))
    assert lie.keys() == truth.keys()
    for name, value in truth.items():
        if name in BY_ERRORS:
            continue
        assert lie[name] == pytest.approx(value if name.startswith("auc_index_only") else 1 - value), name


def run_stream(run: Path) -> dict[tuple[int, str], list[dict[str, Any]]]:
    """Of each policy step and evaluation that is recorded: the prompt and the tokens of each rollout, and whether it
    was annotated."""
    columns = ["prompt_id", "token_ids", "annotated"]
    files = stream_files(run / STREAM).items()
    return {key: pq.read_table(path, columns=columns).to_pylist() for key, path in files}


def test_asynchronous_resume_keeps_the_rollouts_under_way(tmp_path: Path) -> None:
    """With max_staleness above 0 a checkpoint holds the next batch, sampled by weights that are gone after it.

    Everything that selection and annotation can do is switched on: labels in rounds, and a step late, a user's selector
    that looks at images and scores, scores that fade, draws that remember who was drawn. Rollouts come in segments, so
    that some are only half written, and groups without a signal are left out. It goes on in one process, which has to
    find the same.
    """
    run = tmp_path / "run"
    options = ["engine.kind=hf", "max_staleness=2", "evaluation.prompts=4"]
    options += ["engine.segment_tokens=10", "learner.dynamic_sampling=drop", "learner.truncated=mask"]
    options += [
        "annotation.share=1",
        "annotation.delay=1",
        "annotation.budget=triage",
        "annotation.triage_ratio=0.5",
        "annotation.probe=1",
        "annotation.continuations=2",
    ]
    options += [
        "annotation.triage_policy=first_success",
        "annotation.first_error=search",
        "annotation.outcome_weight=1",
    ]
    options += ["annotation.share_prefixes=true", "selection.selector=tests.fixtures.own_selector:LongAndFull"]
    options += ["selection.half_life=2", "selection.capacity=12", "selection.draw=proportional", "selection.fresh=0.5"]
    assert sieve("train", SMOKE, f"output_dir={run}", "steps=3", "checkpoint_every=2", *options).returncode == 0
    expected, recorded = metrics(run), run_stream(run)
    (run / "summary.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step-3")
    assert sieve("train", "--resume", run, "workers=inline").returncode == 0
    got = metrics(run)
    assert run_stream(run) == recorded
    assert expected.keys() == got.keys()
    for step, values in expected.items():
        assert got[step].keys() == values.keys()
        for name, value in values.items():
            assert np.isclose(got[step][name], value, rtol=1e-5, atol=1e-7), (step, name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "configs/no_such.yaml"], ["no_such.yaml", "No such file"]),
        (["train", SMOKE, "engine.count=1000"], ["1001 CPUs", "engine.count"]),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    process = subprocess.run(
        [warm_python(), str(SIEVE), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert process.returncode == 2, process.stderr
    message = process.stderr.strip()
    assert "Traceback" not in message and len(message.splitlines()) == 1, message
    for word in words:
        assert word in message
    assert list(tmp_path.rglob("summary.json")) == []


def test_dry_run_prints_configuration_and_placement() -> None:
    result = CliRunner().invoke(app, ["train", str(SMOKE), "--dry-run", "learner.samples=6"])
    assert result.exit_code == 0, result.output
    assert "samples: 6" in result.output and "placement:" in result.output and "engine: 1 x" in result.output
