"""A study's report from results that are on disk: tables, figures and every number, also of a study half done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from pyarrow import csv
from typer.testing import CliRunner

from rl.cli import app
from rl.files.folders import only_one
from rl.instruments.replay.measuring import CellResult
from rl.instruments.study.figures import curves_of
from rl.instruments.study.findings import Findings
from rl.instruments.study.results import (
    RESULT_FILE,
    Finished,
    read_result,
    write_result,
)
from rl.instruments.study.study_plan import StudyPlan, make_plan
from rl.instruments.study.tables import arms_table, contrast_table, margins_table, write_numbers

CONFIGS = Path(__file__).parents[3] / "configs"
EFFECT = {"random": 0.0, "bis": 0.1}
STUDY: dict[str, Any] = {
    "name": "known",
    "question": "Does it hold?",
    "kind": "replay",
    "config": str(CONFIGS / "smoke.yaml"),
    "seeds": [0, 1, 2],
    "matrix": {
        "selection.selector": ["random", "bis"],
        "selection.keep_ratio": [0.5, 1.0],
        "replay.order": ["online", "frozen"],
    },
    "leave_out": [{"selection.keep_ratio": 1.0, "selection.selector": "bis"}],
    "baseline": {"selection.selector": "random"},
    "contrast": {"replay.order": ["online", "frozen"]},
    "outcomes": ["auc", "tokens", "unheard_of"],
    "curves": ["auc"],
    "against": ["step", "tokens"],
}


def known_result(levels: dict[str, Any], seed: int) -> CellResult:
    """Of a seed's own height; BIS is higher by 0.1, and twice as much where the corpus is frozen."""
    gain = EFFECT[levels["selection.selector"]] * (2 if levels["replay.order"] == "frozen" else 1)
    end = 0.5 + 0.05 * seed + gain + 0.001 * seed * (gain > 0)
    tokens = 100.0 * (1 + seed)
    curve = [{"step": float(step), "tokens": step * tokens, "auc": 0.5 + step / 2 * (end - 0.5)} for step in range(3)]
    return CellResult(curve, {"auc": end, "tokens": 2 * tokens, "lost": float("nan")})


@pytest.fixture
def plan(tmp_path: Path) -> StudyPlan:
    """A study of which every cell but one is finished."""
    path = tmp_path / "known.yaml"
    path.write_text(yaml.safe_dump(STUDY, sort_keys=False))
    plan = make_plan(path, [], tmp_path / "out")
    for cell, job in plan.cells[:-1]:
        result = known_result(cell.arm.levels, cell.seed)
        write_result(job.folder, Finished(job.name, job.recipe, job.changes, 2.0, result))
    return plan


@pytest.fixture
def findings(plan: StudyPlan) -> Findings:
    cells: dict[str, dict[int, Finished]] = {}
    for cell, job in plan.cells:
        if found := job.finished():
            cells.setdefault(cell.arm.name, {})[cell.seed] = found
    return Findings(plan.study, {arm.name: arm for arm in plan.arms}, cells, {"a cell": "it broke"})


def all_finished(plan: StudyPlan, result: Callable[[dict[str, Any], int], CellResult]) -> Findings:
    """What each cell gives is made up from its levels and its seed."""
    cells: dict[str, dict[int, Finished]] = {}
    for cell, job in plan.cells:
        made_up = result(cell.arm.levels, cell.seed)
        cells.setdefault(cell.arm.name, {})[cell.seed] = Finished(job.name, job.recipe, job.changes, 1.0, made_up)
    return Findings(plan.study, {arm.name: arm for arm in plan.arms}, cells, {})


def reported(folder: Path, *more: str) -> Any:
    return CliRunner().invoke(app, ["study", str(folder / "known.yaml"), "--out", str(folder / "out"), *more])


def rows(table: str | None) -> list[list[str]]:
    assert table is not None
    return [[entry.strip() for entry in line.strip("|").split("|")] for line in table.splitlines()]


def test_a_result_survives_and_other_files_are_none(plan: StudyPlan) -> None:
    cell, job = plan.cells[0]
    found = job.finished()
    assert found is not None and found.result.curve == known_result(cell.arm.levels, cell.seed).curve
    assert found.result.final == {"auc": 0.5, "tokens": 200.0}, "what is not finite is left out"
    for text in ("", "{", "[]", "{}", '{"name": 3}'):
        (job.folder / RESULT_FILE).write_text(text)
        assert read_result(job.folder) is None and job.finished() is None


def test_cells_are_not_compared_across_recordings(plan: StudyPlan, tmp_path: Path) -> None:
    """The streams are gone, and one cell is to be run: its pairs saw another stream than it would."""
    result = reported(tmp_path)
    assert result.exit_code == 2 and "replayed recorded runs that are gone" in result.stderr
    assert "other finished cells" in result.stderr


def test_a_result_of_another_recipe_is_not_finished(plan: StudyPlan, tmp_path: Path) -> None:
    changed = make_plan(tmp_path / "known.yaml", ["set.selection.alpha=0.3"], tmp_path / "out")
    assert plan.cells[0][1].finished() and not changed.cells[0][1].finished()
    assert plan.cells[0][1].folder == changed.cells[0][1].folder
    recorded_anew = make_plan(tmp_path / "known.yaml", ["record.steps=5"], tmp_path / "out")
    assert not recorded_anew.cells[0][1].finished()


def test_differences_are_paired_by_seed(findings: Findings) -> None:
    table = rows(arms_table(findings, "auc"))
    assert table[0][:5] == ["`selector`", "`keep_ratio`", "`order`", "seeds", "auc"]
    bis = next(row for row in table if row[:3] == ["bis", "0.5", "online"])
    # Seeds differ by 0.05 each, their differences by 0.001.
    assert bis[3:7] == ["3", "0.6510 (0.5243 to 0.7777)", "+0.1010", "+0.0985 to +0.1035"]
    assert bis[8] == "3 of 3" and float(bis[9].strip("<")) <= 0.001
    frozen = next(row for row in table if row[:3] == ["bis", "0.5", "frozen"])
    assert frozen[3] == "2" and frozen[8] == "2 of 2", "the unfinished cell has no pair"
    assert next(row for row in table if row[0] == "random")[5:] == [""] * 6


def test_margins_and_contrast_average_within_seeds(findings: Findings) -> None:
    (_, _, margin) = rows(margins_table(findings, "auc"))
    assert margin[:2] == ["bis", "+0.1505"], "of the two seeds that both orders have"
    (_, _, contrast) = rows(contrast_table(findings, "auc", "replay.order"))
    assert contrast[:4] == ["bis", "+0.1005", "+0.2005", "\N{MINUS SIGN}0.1000"], "of the same two seeds"
    assert contrast[6] == "0 of 2"


def test_a_contrast_is_of_arms_that_differ_in_nothing_else(tmp_path: Path) -> None:
    """What one level alone has, here the smaller ratio with its larger gain, is no difference between the two."""
    path = tmp_path / "uneven.yaml"
    uneven = STUDY | {"leave_out": [{"selection.keep_ratio": 0.5, "replay.order": "frozen"}]}
    path.write_text(yaml.safe_dump(uneven, sort_keys=False))
    plan = make_plan(path, [], tmp_path / "out")

    def smaller_is_better(levels: dict[str, Any], seed: int) -> CellResult:
        gain = EFFECT[levels["selection.selector"]] / levels["selection.keep_ratio"]
        return CellResult([], {"auc": 0.5 + 0.05 * seed + gain + 0.001 * seed * (gain > 0)})

    findings = all_finished(plan, smaller_is_better)
    (_, _, contrast) = rows(contrast_table(findings, "auc", "replay.order"))
    assert contrast[:4] == ["bis", "+0.1010", "+0.1010", "+0.0000"]


def test_a_contrast_of_the_first_factor_is_one_row(tmp_path: Path) -> None:
    path = tmp_path / "turned.yaml"
    orders, others = {"replay.order": STUDY["matrix"]["replay.order"]}, {"selection.selector": ["random", "bis"]}
    turned = STUDY | {"matrix": orders | others, "leave_out": []}
    path.write_text(yaml.safe_dump(turned, sort_keys=False))
    plan = make_plan(path, [], tmp_path / "out")
    (_, _, contrast) = rows(contrast_table(all_finished(plan, known_result), "auc", "replay.order"))
    assert contrast[:4] == ["all", "+0.1010", "+0.2010", "\N{MINUS SIGN}0.1000"]


def test_curves_against_what_differs_between_seeds_are_read_where_all_have_been(findings: Findings) -> None:
    arm = findings.arms["selector=bis,keep_ratio=0.5,order=online"]
    by_step, by_tokens = (curves_of(findings, arm, "auc", against) for against in ("step", "tokens"))
    assert by_step is not None and by_tokens is not None
    assert by_step.x.tolist() == [0, 1, 2] and by_step.arm.shape == (3, 3)
    # The seeds spend 200, 400 and 600 tokens: what all three have seen ends at 200.
    assert (by_tokens.x[0], by_tokens.x[-1]) == (0, 200)
    assert by_tokens.arm[:, -1] == pytest.approx([0.6, 0.5 + 0.151 / 2, 0.5 + 0.202 / 3])
    assert by_tokens.baseline is not None and by_tokens.baseline[:, 0] == pytest.approx(np.full(3, 0.5))


@pytest.mark.slow
def test_the_command_reports_a_study_half_done(plan: StudyPlan, tmp_path: Path) -> None:
    result = reported(tmp_path, "--report")
    assert result.exit_code == 0, result.output
    assert "17 of 18 cells are finished" in result.output and str(plan.folder / "report.md") in result.output
    text = (plan.folder / "report.md").read_text()
    assert text.startswith("# known: Does it hold?") and "sieve study" in text
    assert "unheard_of\n\nNo cell has this number; there are: auc, tokens" in text
    pictures = {line.rpartition("(")[2].strip(")") for line in text.splitlines() if line.startswith("![")}
    assert {"figures/auc.png", "figures/tokens.png"} < pictures
    assert pictures == {f"figures/{path.name}" for path in (plan.folder / "figures").iterdir()}
    for picture in pictures:
        with Image.open(plan.folder / picture) as image:
            assert image.width > 600 and len(image.convert("RGB").getcolors(image.width * image.height) or []) > 10


def test_every_number_is_in_both_tables(findings: Findings, tmp_path: Path) -> None:
    write_numbers(findings, tmp_path)
    table = pq.read_table(tmp_path / "results.parquet")
    types = csv.ConvertOptions(column_types=table.schema)
    assert table.equals(csv.read_csv(tmp_path / "results.csv", convert_options=types))
    assert table.num_rows == 17 * (3 * 2 + 2)
    where = {"selection.selector": "bis", "selection.keep_ratio": "0.5", "replay.order": "online", "seed": 2}
    found = [row for row in table.to_pylist() if where.items() <= row.items() and row["metric"] == "auc"]
    assert [(row["step"], row["value"]) for row in found][-2:] == [(2, 0.702), (None, 0.702)]
    cells = csv.read_csv(tmp_path / "outcomes.csv").to_pylist()
    assert len(cells) == 17 and 0.702 in [row["auc"] for row in cells if row["seed"] == 2]
    assert all("unheard_of" in row and row["unheard_of"] is None for row in cells)


def test_a_dry_run_lists_cells_and_writes_nothing(plan: StudyPlan, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = reported(tmp_path, "--dry-run", "seeds=[2]", "cell_seconds=90")
    assert result.exit_code == 0 and sorted(tmp_path.rglob("*")) == before
    assert "6 cells, 5 of them finished" in result.output and "1 recordings, 0 of them finished" in result.output
    assert (
        result.output.count("\nfinished ") == 5
        and "to do    selector=bis,keep_ratio=0.5,order=frozen,seed=2" in result.output
    )


def test_wrong_input_is_one_line_and_exit_code_2(plan: StudyPlan, tmp_path: Path) -> None:
    result = reported(tmp_path, "workers=none")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "known.yaml: workers: 'none' is not allowed" in result.stderr


def test_a_folder_in_use_or_out_of_reach_is_refused(plan: StudyPlan, tmp_path: Path) -> None:
    with only_one(plan.folder):
        result = reported(tmp_path)
    assert result.exit_code == 2 and f"{plan.folder} is in use by another process" in result.stderr
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["study", str(tmp_path / "known.yaml"), "--out", str(tmp_path / "file")])
    assert result.exit_code == 2 and "name another folder" in result.stderr
