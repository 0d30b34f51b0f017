"""What a report says of runs, before a browser draws it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from typer.testing import CliRunner

from rl.cli import app
from rl.files.run_files import CONFIG_FILE, METRICS_FILE, SUMMARY_FILE
from rl.instruments.report.comparison import final_numbers, settings_table, stages
from rl.instruments.report.curves import MOST_POINTS, answer_questions, thinned
from rl.instruments.report.page import embedded_json, report_page
from rl.instruments.report.questions import QUESTIONS
from rl.instruments.report.rollouts import LONGEST_TEXT, choose, disagreement, fair_shares, sample_rollouts, shortened
from rl.instruments.report.runs import read_runs
from rl.monitoring.metric_table import METRICS
from tests.fixtures.report_runs import STEPS, a_run

disputes = st.lists(arrays(float, st.integers(0, 12), elements=st.floats(0, 1) | st.just(np.nan)), min_size=1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: two recorded ones, one of them without a reward model and unfinished, and one that is not."""
    folder = tmp_path_factory.mktemp("runs")
    a_run(folder / "bis")
    a_run(folder / "bare", "seed=1", judged=False, finished=False)
    a_run(folder / "unrecorded", "seed=2", "selection.selector=random", recorded=False)
    return folder


def test_every_curve_is_of_a_metric_that_is_written() -> None:
    charts = [chart for question in QUESTIONS for chart in question.charts]
    names = {name.removesuffix("/*") for chart in charts for name in (*chart.metrics, *(chart.interval or ()))}
    assert names - METRICS.keys() == set()


def report(*arguments: object) -> tuple[int, str]:
    """Exit code, and what the command printed."""
    result = CliRunner().invoke(app, ["report", *map(str, arguments)])
    return result.exit_code, result.output


def embedded(page: Path) -> dict:
    """The data in a page, as its script reads them."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    return dict(json.loads(text))


@given(sizes=st.lists(st.integers(0, 40), max_size=8), most=st.integers(0, 200))
def test_shares_use_up_what_there_is_and_none_is_small_while_another_could_give(sizes: list[int], most: int) -> None:
    shares = fair_shares(sizes, most)
    assert all(share <= size for share, size in zip(shares, sizes, strict=True))
    assert sum(shares) == min(most, sum(sizes))
    short = [share for share, size in zip(shares, sizes, strict=True) if share < size]
    assert not short or max(shares) - min(short) <= 1


@given(disagreements=disputes, most=st.integers(0, 60))
def test_as_many_rollouts_are_chosen_as_are_wanted_and_none_twice(disagreements: list[np.ndarray], most: int) -> None:
    chosen = choose(disagreements, most)
    assert sum(map(len, chosen)) == min(most, sum(map(len, disagreements)))
    for places, values in zip(chosen, disagreements, strict=True):
        assert (np.diff(places) > 0).all()
        assert set(places.tolist()) <= set(range(len(values)))


def test_every_stretch_of_a_run_shows_its_most_disputed_rollouts() -> None:
    disagreements = [np.full(20, 0.1) for _ in range(20)]
    for step, values in enumerate(disagreements):
        values[step] = 0.9
    chosen = choose(disagreements, 40)
    assert all(step in places for step, places in enumerate(chosen))
    assert all(len(before) + len(after) == 4 for before, after in zip(chosen[::2], chosen[1::2], strict=True))


def test_disagreement_is_that_of_the_worst_step_with_both() -> None:
    assert disagreement([0.9, 0.2, 0.5], [4, 4, 0], [4, 8, 0]) == pytest.approx(0.3)
    assert np.isnan(disagreement([], [4], [4]))
    assert np.isnan(disagreement([0.5], [], []))


def test_a_long_curve_is_averaged_and_a_short_one_is_not() -> None:
    measured = [(step, float(step % 2)) for step in range(10 * MOST_POINTS)]
    points = thinned(measured)
    assert len(points) == MOST_POINTS
    assert points[-1] == (measured[-1][0], 0.5)
    assert thinned(measured[:7]) == measured[:7]


def test_curves_stand_beside_what_was_spent(runs: Path) -> None:
    policy, reward_model, selection = answer_questions(read_runs([runs / "bis", runs / "unrecorded"]))
    accuracy = policy.charts[0]
    assert [line.run for line in accuracy.lines] == [0, 1]
    assert accuracy.lines[0].points[0] == (0, 0, 0, 0.6)
    assert accuracy.lines[0].points[-1] == pytest.approx((STEPS, 8000 * STEPS, 3 * STEPS / 60, 0.72))
    assert accuracy.lines[0].interval[0] == pytest.approx((0.56, 0.65))
    assert all(len(line.interval) == len(line.points) for line in accuracy.lines)
    assert [chart.title for chart in policy.charts[1:5]] == [
        f"Held-out accuracy by source: {source}" for source in ("chain", "compare", "modulo", "total")
    ]
    assert selection.charts[0].against == "tokens"
    assert {chart.title for chart in reward_model.charts} == {
        "Telling right steps from wrong ones",
        "Error on annotated steps",
    }


def test_sources_of_one_run_share_a_chart(runs: Path) -> None:
    (policy, *_) = answer_questions(read_runs([runs / "bis"]))
    assert [line.label for line in policy.charts[1].lines] == ["chain", "compare", "modulo", "total"]


def test_final_numbers_and_settings_that_differ(runs: Path) -> None:
    read = read_runs([runs / "bis", runs / "bare", runs / "unrecorded"])
    final = final_numbers(read)
    rows = [dict(zip(final.columns, row, strict=True)) for row in final.rows]
    assert rows[0]["held-out accuracy"] == "0.600 → 0.720"
    assert rows[0]["AUC within a step kind, by errors"] == "0.500 → 0.860 ± 0.020"
    assert (rows[0]["points"], rows[0]["peak GiB"], rows[0]["policy steps"]) == ("+12.0", "5.5", "6 of 6")
    assert (rows[1]["policy steps"], rows[1]["peak GiB"]) == ("3 of 6, unfinished", "—")
    assert "macro-F1, perception" not in final.columns
    found = settings_table(read)
    assert found.columns == ["setting", "bis", "bare", "unrecorded"]
    assert found.rows == [["seed", "0", "1", "2"], ["selection.selector", "bis", "bis", "random"]]


def test_of_one_run_settings_are_compared_with_the_defaults(runs: Path) -> None:
    found = settings_table(read_runs([runs / "unrecorded"]))
    assert ["seed", "0", "2"] in found.rows
    assert all(default != own for _, default, own in found.rows)


def test_stages_add_up_to_the_step(runs: Path) -> None:
    (run,) = read_runs([runs / "bis"])
    found = {stage.name: stage.seconds for stage in stages(run)}
    assert (found["annotate"], found["teach"], found["other"]) == pytest.approx((2.0, 0.0, 0.25))
    assert sum(found.values()) == pytest.approx(3.0)


def test_runs_are_called_by_as_much_of_their_path_as_tells_them_apart(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "unrecorded", tmp_path / "other" / "unrecorded")
    names = [run.name for run in read_runs([runs / "unrecorded", tmp_path / "other" / "unrecorded"])]
    assert names == [f"{runs.name}/unrecorded", "other/unrecorded"]


def test_a_sample_says_of_how_many_and_holds_what_was_recorded(runs: Path) -> None:
    sample = sample_rollouts(read_runs([runs / "bis", runs / "bare", runs / "unrecorded"]), 40)
    assert sample.recorded == [16 * STEPS, 16 * STEPS, 0]
    assert [sum(rollout.run == run for rollout in sample.rollouts) for run in (0, 1, 2)] == [20, 20, 0]
    assert len(set(sample.images)) == len(sample.images) <= 8 * STEPS
    assert {place for rollout in sample.rollouts for place in rollout.images} == set(range(len(sample.images)))
    bare = [step for rollout in sample.rollouts if rollout.run == 1 for step in rollout.steps]
    assert all(step.score is None and step.sampled == 0 for step in bare)
    assert {rollout.selected for rollout in sample.rollouts if rollout.run == 1} == {"not annotated"}
    judged = [step for rollout in sample.rollouts if rollout.run == 0 for step in rollout.steps]
    assert all(step.score is not None and step.truth is not None for step in judged)
    assert {rollout.selected for rollout in sample.rollouts} == {"kept", "passed over", "not annotated"}


def test_a_run_that_has_just_begun_has_no_rollouts_yet(runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "bis", run)
    for path in (run / "stream").glob("step-*.parquet"):
        path.unlink()
    assert sample_rollouts(read_runs([run]), 10).recorded == [0]


def test_one_run_has_its_report_beside_it_and_several_have_theirs_here(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed = report(runs / "bis", "--rollouts", "10")
    assert (code, (runs / "bis" / "report.html").exists()) == (0, True)
    assert "1 run, 10 of 96 rollouts" in printed
    code, printed = report(runs / "bis", runs / "unrecorded", "--rollouts", "0")
    assert (code, (tmp_path / "sieve-report.html").exists()) == (0, True)
    assert report(runs / "bis", "-o", "deep/in/page.html")[0] == 0
    assert len(embedded(tmp_path / "deep" / "in" / "page.html")["sample"]["rollouts"]) == 96
    assert not list(tmp_path.rglob("*.partial"))


def test_what_a_run_says_cannot_leave_the_data() -> None:
    evil = "</script><script>alert(1)</script><!-- & \u2028"
    text = embedded_json({"text": evil})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"text": evil}


@pytest.mark.parametrize(
    ("spoil", "arguments", "said"),
    [
        (None, [], "name a run folder"),
        (None, ["nowhere"], "not a run folder"),
        (None, ["RUN", "RUN"], "named twice"),
        (None, ["RUN", "--rollouts", "-1"], "--rollouts -1: allowed is 0 or more"),
        (None, ["RUN", "-o", "RUN"], "is a folder"),
        ((CONFIG_FILE, b"steps: many"), ["RUN"], "steps: 'many' is not allowed"),
        ((METRICS_FILE, b'{"step": 1}\nnonsense\n{"step": 2}\n'), ["RUN"], "metrics.jsonl:2: not JSON"),
        ((METRICS_FILE, b'{"a": 1}\n'), ["RUN"], "allowed is an object of numbers with a step"),
        ((METRICS_FILE, b'{"step": 1, "a": 1' + b"0" * 400 + b'}\n{"step": 2}\n'), ["RUN"], "an object of numbers"),
        ((METRICS_FILE, b'{"step": NaN}\n{"step": 2}\n'), ["RUN"], "an object of numbers"),
        ((METRICS_FILE, b"[" * 100_000 + b'\n{"step": 2}\n'), ["RUN"], "metrics.jsonl:1: not JSON"),
        ((SUMMARY_FILE, b"[" * 100_000), ["RUN"], "brackets are too deep"),
        ((SUMMARY_FILE, b'{"peak_memory_gib": ' + b"9" * 5000 + b"}"), ["RUN"], "digits"),
        ((METRICS_FILE, b""), ["RUN"], "has measured nothing yet"),
        ((SUMMARY_FILE, b"[]"), ["RUN"], "not the summary of a run"),
        ((SUMMARY_FILE, b"{"), ["RUN"], "not JSON"),
        (("stream/step-000002.parquet", b"PAR1 nonsense"), ["RUN"], "step-000002.parquet: holds no recorded rollouts"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_the_report_that_is_there(
    runs: Path, tmp_path: Path, spoil: tuple[str, bytes] | None, arguments: list[str], said: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "bis", run)
    (run / "report.html").write_text("as it was")
    if spoil:
        (run / spoil[0]).write_bytes(spoil[1])
    code, printed = report(*(str(run) if argument == "RUN" else argument for argument in arguments))
    assert code == 2
    assert said in printed
    assert printed.count("\n") == 1
    assert (run / "report.html").read_text() == "as it was"


def test_a_missing_image_is_named(runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "bis", run)
    shutil.rmtree(run / "stream" / "images")
    code, printed = report(run)
    assert (code, printed.count("\n")) == (2, 1)
    assert ".png cannot be read: No such file" in printed


def test_numbers_whose_sum_is_none_are_left_out(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "bis", tmp_path / "odd")
    rows = [json.loads(line) for line in (tmp_path / "odd" / METRICS_FILE).read_text().splitlines()]
    changed = [row | {"perf/step_seconds": 1e308} for row in rows] + [{"step": 1e308, "policy/accuracy": 0.5}]
    (tmp_path / "odd" / METRICS_FILE).write_text("".join(json.dumps(row) + "\n" for row in changed))
    found = read_runs([tmp_path / "odd", runs / "bare"])
    assert report_page(found, sample_rollouts(found, 0)) and stages(found[0]) == []


def test_a_torn_last_line_does_not_count(runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "unrecorded", run)
    with (run / METRICS_FILE).open("a") as file:
        file.write('{"step": 99, "poli')
    assert read_runs([run])[0].step == STEPS


def test_long_texts_are_cut_and_say_so() -> None:
    assert shortened("short") == "short"
    assert shortened("x" * (LONGEST_TEXT + 1)) == "x" * LONGEST_TEXT + f" … ({LONGEST_TEXT + 1:,} characters)"
