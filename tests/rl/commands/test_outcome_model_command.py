"""``sieve train-outcome``: from preference pairs to a saved model, and what it says of input that is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rewards.models.encoding import Encoder
from rewards.outcome.outcome_model import open_outcome_model
from rewards.outcome.preferences import pair_accuracy
from rl.cli import app
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.reward_models.warm_start import index_preferences, preference_batches
from tests.fixtures.preference_pairs import write_preferences

RUN = ["outcome_model.batch_size=8", "outcome_model.learning_rate=1e-3", "outcome_model.pairs_epochs=2"]


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text("task: {name: grid}\n")
    return str(path)


def sieve(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["train-outcome", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def write_broken_checkpoints(folder: Path) -> None:
    """Both have a processor: `bert` is of a kind that reads no images, and of `cut` most weights are gone."""
    for name in ("bert", "cut"):
        shutil.copytree(SHIPPED_POLICY, folder / name)
    (folder / "bert" / "config.json").write_text('{"model_type": "bert"}')
    weights = folder / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])


@pytest.mark.slow
def test_it_trains_measures_and_saves(config: str, tmp_path: Path) -> None:
    pairs, folder = write_preferences(tmp_path, range(24)), tmp_path / "model"
    code, said, _ = sieve(config, *RUN, "--pairs", pairs, "-o", folder, "--held-out", 0.3)
    assert code == 0, said
    report = json.loads((folder / "training.json").read_text())
    encoder = Encoder(str(folder))
    corpus = index_preferences("", [str(pairs)])
    held_out = [
        pair for batch in preference_batches(corpus, encoder, 8, 0, part="held out", held_out=0.3) for pair in batch
    ]
    model = open_outcome_model(str(folder), encoder)
    accuracy = pair_accuracy(model.margins(held_out))
    assert report["held_out"] == {"pairs": len(held_out), "accuracy_before": 0.5, "accuracy_after": accuracy}
    updates = 2 * int(np.ceil((24 - len(held_out)) / 8))
    assert report["updates"] == len(report["losses"]) == updates == model.version
    learned = 2 * (24 - len(held_out))
    assert f"training pairs {learned}/{learned}\n" in said
    assert f"{len(held_out)} pairs, in the right order 0.500 -> {accuracy:.3f}" in said
    assert f"outcome_model.checkpoint={folder}" in said
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []

    further = tmp_path / "further"
    goes_on = [f"outcome_model.checkpoint={folder}", f"outcome_model.pairs=[{pairs}]", *RUN]
    code, said, _ = sieve(config, *goes_on, "-o", further, "--held-out", 0.3)
    assert code == 0 and f"in the right order {accuracy:.3f} ->" in said
    assert json.loads((further / "outcome_model.json").read_text())["version"] == 2 * updates


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name the preference pairs with --pairs FILE.jsonl"),
        (["--pairs", "{pairs}"], "name the new model's folder with -o FOLDER"),
        (["--pairs", "{pairs}", "-o", "{folder}"], "is there already; name another folder"),
        (["--pairs", "{pairs}", "-o", "{folder}/no/new"], "there is no folder"),
        (["--pairs", "{pairs}", "-o", "{folder}/new", "--held-out", "1"], "--held-out 1: allowed is a share above 0"),
        (["--pairs", "{pairs}", "-o", "{folder}/new", "--held-out", "1e-9"], "holds out none of 3 pairs"),
        (["--pairs", "{pairs}", "-o", "{folder}/new", "--held-out", "0.999999"], "holds out all 3 pairs"),
        (
            ["--pairs", "{folder}/none.jsonl", "-o", "{folder}/new"],
            "--pairs: {folder}/none.jsonl cannot be read: No such",
        ),
        (["--pairs", "{config}", "-o", "{folder}/new"], "has no usable record: {config}:1: not JSON"),
        (
            ["outcome_model.checkpoint={folder}", "--pairs", "{pairs}", "-o", "{folder}/new"],
            "outcome_model.checkpoint: {folder} holds no *.safetensors",
        ),
        (
            ["outcome_model.checkpoint={folder}/bert", "--pairs", "{pairs}", "-o", "{folder}/new"],
            "outcome_model.checkpoint: '{folder}/bert' cannot be opened: ",
        ),
        (
            ["outcome_model.checkpoint={folder}/cut", "--pairs", "{pairs}", "-o", "{folder}/new"],
            "outcome_model.checkpoint: {folder}/cut/model.safetensors is damaged: ",
        ),
        (
            ["outcome_model.learning_rate=0", "--pairs", "{pairs}", "-o", "{folder}/new"],
            "outcome_model.learning_rate: 0",
        ),
        (["outcome_model.combine=[1, 2]"], "outcome_model.combine: [1, 2] is not allowed: weights"),
        (["outcome_model.reward=model"], "outcome_model.reward is 'model': an outcome model that has learned nothing"),
    ],
)
def test_input_that_is_wrong_is_named_in_one_line(config: str, tmp_path: Path, arguments: list[str], told: str) -> None:
    names = {"pairs": write_preferences(tmp_path, range(3)), "folder": tmp_path, "config": config}
    write_broken_checkpoints(tmp_path)
    code, _, error = sieve(config, *(argument.format(**names) for argument in arguments))
    *_, last = error.splitlines()  # Transformers may show what it loads
    assert code == 2 and last.startswith("sieve: ") and told.format(**names) in last
    assert "Traceback" not in error
    assert not (tmp_path / "new").exists() and not (tmp_path / ".new.partial").exists()


def test_a_model_that_fails_at_work_ends_it_in_one_line(config: str, tmp_path: Path) -> None:
    """Its chat template can write other questions than the pairs'."""
    pairs, odd = write_preferences(tmp_path, range(24)), tmp_path / "odd"
    shutil.copytree(SHIPPED_POLICY, odd)
    template = odd / "chat_template.jinja"
    template.write_text(template.read_text() + "{% if 'Total' in messages | string %}{{ 1 / 0 }}{% endif %}")
    code, _, error = sieve(config, f"outcome_model.checkpoint={odd}", "--pairs", pairs, "-o", tmp_path / "model")
    *_, last = error.splitlines()
    assert code == 1 and last.startswith("sieve: ") and last.endswith("; nothing was written")
    assert not (tmp_path / "model").exists()


def test_a_loss_that_explodes_stops_it_and_writes_nothing(config: str, tmp_path: Path) -> None:
    pairs = write_preferences(tmp_path, range(24))
    wild = [*RUN, "outcome_model.learning_rate=1e30"]
    code, _, error = sieve(config, *wild, "--pairs", pairs, "-o", tmp_path / "model")
    assert code == 1 and "is not finite; nothing was written" in error
    assert not (tmp_path / "model").exists()
