"""``sieve train --dry-run``: what a run would open is opened, and what would keep it from starting is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rl.cli import app
from rl.files.named_checkpoint import SHIPPED_POLICY
from tests.fixtures.builders import an_image
from tests.fixtures.runs import SMOKE
from tests.fixtures.tiny_families import write_tiny_checkpoint

FILES = ("task.name=files", "task.train_files=[train.csv]", "task.heldout_files=[heldout.csv]")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With tables that can be read, and a checkpoint whose chat template knows of no pictures."""
    an_image(size=(84, 84)).save(tmp_path / "a.png")
    for split in ("train", "heldout"):
        (tmp_path / f"{split}.csv").write_text(f"question,answer,images\n{split} = ?,1,\nred = ?,{len(split)},a.png\n")
    shutil.copytree(SHIPPED_POLICY, tmp_path / "blind")
    template = tmp_path / "blind" / "chat_template.jinja"
    blind = template.read_text().replace("<|vision_start|><|image_pad|><|vision_end|>", "")
    assert blind != template.read_text()
    template.write_text(blind)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def dry_run(*overrides: str) -> tuple[int, str, str]:
    """The exit code, what it prints, and the line of what it refuses."""
    result = CliRunner().invoke(app, ["train", str(SMOKE), "--dry-run", *overrides])
    assert len(result.stderr.splitlines()) <= 1
    return result.exit_code, result.stdout, result.stderr


def test_the_parts_are_opened_and_the_ends_of_an_answer_said(folder: Path) -> None:
    code, said, refused = dry_run(*FILES)
    assert (code, refused) == (0, "")
    assert "an answer ends with <|im_end|>" in said
    assert "prompt train.csv:1: " in said and "of 1 picture(s)" in said, "the first one with a picture"
    assert dry_run()[0] == 0


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["task.train_files=[gone.csv]"], "gone.csv: no such file"),
        (["task.columns.question=q"], "no column 'q' for question"),
        (
            ["policy.checkpoint=blind"],
            "blind: the checkpoint's chat template shows 0 of a prompt's 1 picture(s)",
        ),
        (["policy.checkpoint=absent"], "policy.checkpoint: absent is no folder"),
        (["engine.max_model_len=20", "engine.max_completion_tokens=8"], "allowed with engine.max_model_len 20"),
        (["mprm.checkpoint=absent"], "mprm.checkpoint: absent is no folder"),
        (["value.checkpoint=nobody/no-critic", "value.backbone=own", "learner.algorithm=ppo"], "nobody/no-critic"),
    ],
)
def test_what_would_keep_a_run_from_starting_is_refused(overrides: list[str], words: str, folder: Path) -> None:
    code, _, refused = dry_run(*FILES, *overrides)
    assert code == 2 and words in refused


def test_rows_that_cannot_be_read_are_refused_after_they_are_counted(folder: Path) -> None:
    (folder / "train.csv").write_text("question,answer,images\nred = ?,1,a.png\nred = ?,2,gone.png\n")
    code, said, refused = dry_run(*FILES)
    assert code == 2 and "placement:" in said and "unreadable" in said
    assert refused.startswith("sieve: 1 rows of the tables are refused; the first: train.csv: row 1")


def test_a_model_of_text_alone_is_for_tasks_without_pictures(folder: Path) -> None:
    write_tiny_checkpoint("qwen3", folder / "text")
    code, said, refused = dry_run(*FILES, "policy.checkpoint=text")
    assert code == 2 and "placement:" in said
    assert refused.startswith(
        "sieve: 2 rows of the tables are refused; the first: train.csv:1: the policy's checkpoint"
    )
    for split in ("train", "heldout"):
        (folder / f"{split}.csv").write_text(f"question,answer\n{split} = ?,1\n")
    code, said, refused = dry_run(*FILES, "policy.checkpoint=text")
    assert (code, refused) == (0, "") and "0 of them of 0 picture(s)" in said
