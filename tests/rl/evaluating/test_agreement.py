"""Before the first policy step: whether engines take the learner's weights, and for what they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rewards.models.encoding import Encoder
from rl.config import Config
from rl.engines.hf_engine import HfEngine
from rl.errors import ConfigError
from rl.evaluating.agreement import LIMIT, check_agreement
from rl.learning.learner import PolicyLearner
from rl.tasks.grid import GridTask
from rl.workers.engine_pool import EnginePool
from rl.workers.weight_transfer import WeightTransfer
from tests.fixtures.local_workers import LocalWorker
from tests.fixtures.tiny_families import write_tiny_checkpoint


class SwapsLayers(HfEngine):
    """Takes the first layer's weights for the second's."""

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> int:
        swapped = {name: weights.get(name.replace("layers.0.", "layers.1."), value) for name, value in weights.items()}
        return super().load_weights(swapped, version)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_checkpoint("qwen2_5_vl", tmp_path_factory.mktemp("policy"))


def check(checkpoint: str, engine: HfEngine) -> None:
    """With a learner of the checkpoint, both in this process."""
    config = Config.model_validate({"engine": {"kind": "hf"}, "policy": {"checkpoint": checkpoint}})
    encoder = Encoder(checkpoint)
    learner: Any = LocalWorker("learner", PolicyLearner(checkpoint, encoder, config))
    engines = EnginePool([LocalWorker("engine 0", engine)])  # type: ignore[list-item]
    transfer = WeightTransfer(config, learner, engines)
    parts: Any = SimpleNamespace(task=GridTask(), encoder=encoder, engines=engines, learner=learner, transfer=transfer)
    check_agreement(config, parts, 3)


def test_an_engine_that_has_the_weights_says_what_the_learner_says(checkpoint: str) -> None:
    engine = HfEngine(checkpoint)
    check(checkpoint, engine)
    assert engine.version == 3


def test_an_engine_that_knows_the_weights_by_other_names_ends_the_run_in_one_line(
    checkpoint: str, tmp_path: Path
) -> None:
    engine = HfEngine(write_tiny_checkpoint("internvl", tmp_path))
    with pytest.raises(ConfigError) as caught:
        check(checkpoint, engine)
    assert "engine.kind 'hf' does not take the learner's weights of" in str(caught.value)
    assert "engine 0.load_weights: " in str(caught.value) and "\n" not in str(caught.value)


def test_an_engine_that_takes_weights_for_others_ends_the_run_in_one_line(checkpoint: str) -> None:
    with pytest.raises(ConfigError, match=rf"nats a token else than the learner .*allowed are {LIMIT}"):
        check(checkpoint, SwapsLayers(checkpoint))
