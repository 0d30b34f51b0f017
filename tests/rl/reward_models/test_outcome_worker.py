"""The outcome model made from a configuration: alone, beside others, and where it runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewards.models.encoding import Encoder
from rewards.models.runtime import Runtime
from rewards.outcome.config import OutcomeModelConfig
from rewards.outcome.outcome_model import OutcomeModel
from rewards.process_model.config import MPRMConfig
from rewards.process_model.mprm import MPRM, open_mprm
from rewards.verification.checked import CheckedVerifier
from rewards.verification.verifiers import exact, numeric
from rl.config import Config
from rl.errors import ConfigError
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.reward_models.mprm import check_mprm
from rl.reward_models.outcome import (
    build_outcome_model,
    check_outcome_model,
    make_outcome_runtime,
    open_configured_model,
    start_outcome_model,
)
from rl.tasks.making import make_verifier
from rl.workers.ray_cluster import Kind, kinds_of_workers
from tests.fixtures.builders import a_rollout
from tests.fixtures.preference_pairs import grid_preferences

CHECKPOINT = str(SHIPPED_POLICY)


def configured(**outcome_model: Any) -> Config:
    return Config.model_validate({"outcome_model": outcome_model})


def test_it_has_a_place_only_in_a_run_that_uses_it() -> None:
    assert "outcome_model" not in {kind.role for kind in kinds_of_workers(Config())}
    assert start_outcome_model(Config()) is None
    for used in (
        {"harvest": True},
        {"reward": "hybrid", "pairs": ["pairs.jsonl"]},
        {"reward": "model", "checkpoint": "x"},
    ):
        kinds = kinds_of_workers(configured(**used, num_cpus=2, num_gpus=1))
        assert kinds[-1] == Kind("outcome_model", 1, 2, 1)


def test_settings_reach_the_model() -> None:
    config = configured(learning_rate=3e-6, weight_decay=0.1, batch_size=7, freeze_vision=True, num_cpus=2)
    model = open_configured_model(config)
    assert model.settings == config.outcome_model
    assert [model._optimizer.defaults[key] for key in ("lr", "weight_decay")] == [3e-6, 0.1]
    vision = [p for name, p in model._scorer.named_parameters() if ".visual." in name]
    assert vision and not any(parameter.requires_grad for parameter in vision)
    assert make_outcome_runtime(config) == Runtime("float32", threads=2)


def test_saved_models_judge_beside_it(tmp_path: Path) -> None:
    encoder = Encoder(CHECKPOINT)
    pairs = grid_preferences(encoder, "train", range(4))
    other = OutcomeModel(CHECKPOINT, encoder, OutcomeModelConfig(learning_rate=5e-3, batch_size=64))
    other.train(pairs)
    other.save(tmp_path / "other")
    mprm = open_mprm(CHECKPOINT, encoder, MPRMConfig(likelihood=False))
    mprm.save(tmp_path / "mprm")
    beside = [str(tmp_path / "other"), str(tmp_path / "mprm")]
    config = configured(harvest=True, beside=beside, combine=[1, 2, 1])
    together = build_outcome_model(config)
    rollouts = [a_rollout([3, 4], tokens=pair.chosen) for pair in pairs]
    prompts = [pair.prompt for pair in pairs]
    process = [said.scores.mean() for said in mprm.score(prompts, rollouts)]
    expected = 0.25 * 0.5 + 0.5 * other.score(prompts, rollouts) + 0.25 * np.array(process)
    assert together.score(prompts, rollouts) == pytest.approx(expected, abs=1e-5)
    assert together.train(pairs)["loss"] == pytest.approx(np.log(2)) and together.version == 1
    with pytest.raises(ConfigError, match=r"outcome_model\.beside: '/no/such' is not the folder of a saved"):
        check_outcome_model(configured(harvest=True, beside=["/no/such"]))


def test_a_checkpoint_with_another_vocabulary_is_refused(tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINT, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    words = [word for word in vocabulary if word.isalpha()][:2]
    vocabulary[words[0]], vocabulary[words[1]] = vocabulary[words[1]], vocabulary[words[0]]
    path.write_text(json.dumps(content))
    with pytest.raises(
        ConfigError, match=r"outcome_model\.checkpoint: .* has another vocabulary than policy\.checkpoint"
    ):
        check_outcome_model(configured(harvest=True, checkpoint=str(tmp_path)))


def test_the_verifier_knows_the_tolerance() -> None:
    def verdict(**task: Any) -> bool:
        return make_verifier(Config.model_validate({"task": task}))("Answer: 104", "100")

    assert not verdict(verifier="numeric") and verdict(verifier="numeric", tolerance=0.05)
    assert verdict(verifier="numeric", absolute_tolerance=4) and not verdict(verifier="numeric", absolute_tolerance=3)
    assert make_verifier(Config()) is exact
    own = make_verifier(Config.model_validate({"task": {"verifier": "rewards.verification.verifiers:numeric"}}))
    assert isinstance(own, CheckedVerifier) and own.verifier is numeric
    with pytest.raises(
        ConfigError, match=r"task\.verifier: 'fuzzy' is not one of exact, boxed, numeric, multiple_choice"
    ):
        verdict(verifier="fuzzy")
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        Config.model_validate({"task": {"tolerance": -1}})


def test_a_reward_model_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mprm.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"outcome_model\.checkpoint: .* is a saved MPRM; allowed is an"):
        check_outcome_model(configured(harvest=True, checkpoint=str(tmp_path)))
    (tmp_path / "mprm.json").rename(tmp_path / "outcome_model.json")
    with pytest.raises(ConfigError, match=r"mprm\.checkpoint: .* is a saved outcome model; allowed is an MPRM"):
        check_mprm(Config.model_validate({"mprm": {"checkpoint": str(tmp_path)}}))


def test_a_saved_mprm_is_what_it_was(tmp_path: Path) -> None:
    MPRM(str(SHIPPED_POLICY), Encoder(str(SHIPPED_POLICY)), settings=MPRMConfig(head="value", likelihood=False)).save(
        tmp_path
    )
    with pytest.raises(ConfigError, match=r"mprm\.head: 'token', but .* was saved with 'value'; allowed is the same"):
        check_mprm(Config.model_validate({"mprm": {"checkpoint": str(tmp_path)}}))
    check_mprm(Config.model_validate({"mprm": {"checkpoint": str(tmp_path), "head": "value", "likelihood": False}}))
