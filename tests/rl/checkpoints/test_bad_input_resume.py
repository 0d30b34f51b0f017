"""Runs that cannot be resumed: damaged or foreign checkpoints, and keys that cannot change."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from rl.checkpoints.checkpoint import delete_oldest
from rl.checkpoints.ledger import LEDGER_FILE, Ledger
from rl.checkpoints.manifest import LIST_FILE, list_files
from rl.checkpoints.resumption import check_resumption
from rl.checkpoints.run_folder import choose_run_folder, open_run_folder
from rl.cli import main
from rl.config import Config, load_config, save_config
from rl.errors import ConfigError
from rl.files.folders import only_one
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.files.run_files import checkpoints
from rl.monitoring.metrics_file import forget_after
from tests.fixtures.runs import SMOKE


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with two checkpoints, as far as files go."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (tmp_path / "experiment.yaml").write_text("engine: {kind: hf}\n")
    save_config(load_config(tmp_path / "experiment.yaml"), folder / "config.yaml")
    for step in (2, 10):
        checkpoint = folder / "checkpoints" / f"step-{step}"
        shutil.copytree(SHIPPED_POLICY, checkpoint / "policy")
        shutil.copytree(SHIPPED_POLICY, checkpoint / "mprm")
        shutil.copy(folder / "config.yaml", checkpoint)
        (checkpoint / "progress.json").write_text(json.dumps({"step": step}))
        (checkpoint / "buffer.parquet").write_bytes(b"PAR1" * 1000)
        list_files(checkpoint)
    return folder


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def swap(file: Path) -> None:
    """In the place of a file stands the same one of another checkpoint."""
    shutil.copy(Path(str(file).replace("step-10", "step-2")), file)


def link(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


DAMAGED: list[tuple[str, Callable[[Path], object], str]] = [
    ("policy/model.safetensors", cut, "policy/model.safetensors (4,"),
    ("policy/config.json", flip, "policy/config.json (changed since it was written)"),
    ("mprm/model.safetensors", Path.unlink, "mprm/model.safetensors (missing)"),
    ("progress.json", swap, "progress.json (11 bytes instead of 12)"),
    ("progress.json", flip, "progress.json (changed since it was written)"),
    ("buffer.parquet", cut, "buffer.parquet (3,999 bytes instead of 4,000)"),
    ("buffer.parquet", flip, "buffer.parquet (changed since it was written)"),
    (LIST_FILE, Path.unlink, f"{LIST_FILE} is missing"),
    (LIST_FILE, lambda file: file.write_text(file.read_text()[:-9]), f"{LIST_FILE} is damaged"),
    (LIST_FILE, lambda file: file.write_text("[]"), f"{LIST_FILE} is damaged"),
    (LIST_FILE, lambda file: file.write_text('{"progress.json": 3}'), f"{LIST_FILE} is damaged"),
    (LIST_FILE, lambda file: file.write_text("{}"), f"{LIST_FILE} is damaged"),
    (LIST_FILE, lambda file: file.write_text('{"/dev/zero": {"bytes": 0}}'), f"{LIST_FILE} is damaged"),
    (LIST_FILE, lambda file: file.write_text('{"../step-2/progress.json": {"bytes": 11}}'), f"{LIST_FILE} is damaged"),
    ("buffer.parquet", link, "buffer.parquet (cannot be read: allowed is a regular file, and no link)"),
    ("buffer.parquet", pipe, "buffer.parquet (cannot be read: allowed is a regular file, and no link)"),
    (LIST_FILE, lambda file: file.write_text('{"progress.json": {"ytes": 11}}'), f"{LIST_FILE} is damaged"),
]


@pytest.mark.parametrize(("name", "damage", "told"), DAMAGED, ids=[f"{name} {told[-20:]}" for name, _, told in DAMAGED])
def test_a_damaged_checkpoint_is_refused_with_the_file(
    name: str,
    damage: Callable[[Path], object],
    told: str,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    open_run_folder(run, [])
    damage(run / "checkpoints" / "step-10" / name)
    before = sorted(run.rglob("*"))
    monkeypatch.setattr("sys.argv", ["sieve", "train", "--resume", str(run)])
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")  # it is not to come as far as that
    with pytest.raises(SystemExit) as caught:
        main()
    said = capfd.readouterr().err
    assert caught.value.code == 2 and len(said.splitlines()) == 1
    assert str(run / "checkpoints" / "step-10") in said and told in said
    assert sorted(run.rglob("*")) == before
    shutil.rmtree(run / "checkpoints" / "step-10")
    open_run_folder(run, [])  # from the one before it


def test_every_damaged_file_is_named_and_other_files_do_not_matter(run: Path) -> None:
    checkpoint = run / "checkpoints" / "step-10"
    (checkpoint / "policy" / "notes.txt").write_text("mine")
    open_run_folder(run, [])
    cut(checkpoint / "progress.json")
    flip(checkpoint / "mprm" / "config.json")
    with pytest.raises(ConfigError, match=r"mprm/config.json \(changed .*\), progress.json \(11 bytes instead of 12\)"):
        open_run_folder(run, [])


def test_what_is_no_checkpoint_is_passed_over(run: Path) -> None:
    for name in ("step-latest", "step-", "step-1e9"):
        (run / "checkpoints" / name).mkdir()
    open_run_folder(run, [])
    shutil.rmtree(run / "checkpoints" / "step-2")
    shutil.rmtree(run / "checkpoints" / "step-10")
    with pytest.raises(ConfigError, match="no finished checkpoint"):
        open_run_folder(run, [])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("policy.checkpoint=elsewhere", 'policy.checkpoint is "elsewhere": allowed with --resume .* "grid_policy"'),
        ("learner.lora_rank=4", "learner.lora_rank is 4: allowed with --resume .* 0"),
        ("mprm.head=value", 'mprm.head is "value": allowed with --resume .* "token"'),
        ("mprm.verdicts=[yes, no]", "mprm.verdicts"),
        ("outcome_model.harvest=true", "outcome_model.reward or harvest is true"),
        ("seed=x", "config.yaml: seed: 'x'"),
        ("steps=9", "steps is 9: allowed with --resume is 10"),
    ],
)
def test_what_a_checkpoint_was_made_with_cannot_change(override: str, told: str, run: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        open_run_folder(run, [override])
    assert open_run_folder(run, ["steps=200", "learner.learning_rate=1e-5"]).steps == 200


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda text: "", "config.yaml lacks name, seed, "),
        (lambda text: text[: text.index("\nmprm:")], "config.yaml lacks mprm."),
        (lambda text: text.replace("  lora_rank: 0\n", "", 1), r"config.yaml lacks learner.lora_rank, which "),
        (lambda text: text.replace("head: token", "head: value"), 'mprm.head is "value": allowed with --resume'),
        (lambda text: text.replace("lora_rank: 0", "lora_rank: 4"), "learner.lora_rank is 4: allowed with --resume"),
    ],
)
def test_a_configuration_edited_since_is_held_against_the_checkpoints(
    edit: Callable[[str], str], told: str, run: Path
) -> None:
    path = run / "config.yaml"
    path.write_text(edited := edit(path.read_text()))
    with pytest.raises(ConfigError, match=told):
        open_run_folder(run, [])
    assert path.read_text() == edited
    for checkpoint in (run / "checkpoints").iterdir():  # as an earlier version wrote it
        (checkpoint / "config.yaml").unlink()
        list_files(checkpoint)
    if edited:
        open_run_folder(run, [])


def test_a_run_that_another_process_has_is_left_to_it(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for file in ("policy", "mprm"):
        shutil.rmtree(run / "checkpoints" / "step-10" / file)
        shutil.copytree(SHIPPED_POLICY, run / "checkpoints" / "step-10" / file)
    monkeypatch.setattr("sys.argv", ["sieve", "train", "--resume", str(run)])
    with only_one(run), pytest.raises(SystemExit) as caught:
        main()
    said = capfd.readouterr().err.strip().splitlines()
    assert caught.value.code == 2 and said == [f"sieve: {run} is in use by another process; allowed is one at a time"]
    assert not ray.is_initialized(), "which starts while the command imports"


def test_how_labels_are_made_cannot_change_while_some_are_under_way() -> None:
    late, larger_share = {"annotation": {"delay": 1}}, {"annotation": {"delay": 1, "share": 0.5}}
    check_resumption(Config(), Config.model_validate(larger_share))
    with pytest.raises(ConfigError, match=r"^annotation\.share is 0\.5: allowed with --resume is .*, 0\.25$"):
        check_resumption(Config.model_validate(late), Config.model_validate(larger_share))


def test_a_warm_start_cannot_come_once_a_run_has_started() -> None:
    for changed in ({"warm_start": ["a.jsonl"]}, {"warm_start_kept": True}):
        with pytest.raises(ConfigError, match=rf"^mprm\.{next(iter(changed))} is .* allowed with --resume is "):
            check_resumption(Config(), Config.model_validate({"mprm": changed}))


@pytest.mark.parametrize(
    ("key", "value"), [("task.answer_marker", "So:"), ("task.steps", "sentence"), ("selection.alpha", 0.5)]
)
def test_nor_can_which_steps_there_are_and_which_of_them_are_continued(key: str, value: object) -> None:
    section, _, name = key.partition(".")
    at_once, late = ({"annotation": {"budget": "triage", "share": 0.5, "delay": delay}} for delay in (0, 1))
    check_resumption(*(Config.model_validate(at_once | changed) for changed in ({}, {section: {name: value}})))
    with pytest.raises(ConfigError, match=rf"^{key} is {json.dumps(value)}: allowed with --resume is "):
        check_resumption(*(Config.model_validate(late | changed) for changed in ({}, {section: {name: value}})))


def test_a_run_that_never_had_a_checkpoint_begins_anew(tmp_path: Path) -> None:
    """What stopped it may be mended now, and there is nothing to lose."""
    config = load_config(SMOKE, [f"output_dir={tmp_path}"])
    save_config(config, tmp_path / "config.yaml")
    assert choose_run_folder(config) == tmp_path
    (tmp_path / "checkpoints" / "step-0").mkdir(parents=True)
    with pytest.raises(ConfigError, match="holds a run already; resume it with --resume"):
        choose_run_folder(config)


def test_old_checkpoints_go_and_what_a_link_leads_to_stays(tmp_path: Path) -> None:
    for step in range(1, 5):
        (tmp_path / "run" / "checkpoints" / f"step-{step}" / "policy").mkdir(parents=True)
    first = tmp_path / "run" / "checkpoints" / "step-1"
    first.rename(tmp_path / "elsewhere")
    first.symlink_to(tmp_path / "elsewhere")
    delete_oldest(tmp_path / "run", keep=2)
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step-3", "step-4"]
    assert (tmp_path / "elsewhere" / "policy").is_dir() and not first.is_symlink()


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", "\xff", '{"furthest": "x", "recoveries": 0, "seconds": 1}'),
        f'{{"furthest": 0, "recoveries": 1{"0" * 400}, "seconds": 1}}',
    ],
)
def test_a_damaged_ledger_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=f"{LEDGER_FILE} is damaged: allowed is"):
        Ledger.open(tmp_path)


@pytest.mark.parametrize("line", [b"{\n", b"[1]\n", b"{}\n", b'{"step": null}\n', b"\xff\n"])
def test_a_damaged_line_of_metrics_is_named_and_nothing_is_lost(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    content = b'{"step": 1}\n' + line + b'{"step": 2}\n'
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"metrics.jsonl:2: allowed is an object of numbers"):
        forget_after(path, 1)
    assert path.read_bytes() == content


def test_a_home_is_the_users_and_no_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert choose_run_folder(Config(output_dir="~/runs/a")) == tmp_path / "runs" / "a"
