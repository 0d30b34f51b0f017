"""Before the first policy step: whether engines take the learner's weights, and for what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rewards.models.backbone import LORA_SCALE
from rewards.models.encoding import Encoder
from rewards.records import Completion, SamplingRequest
from rl.config import Config
from rl.engines.adapter_files import PEFT_PREFIX
from rl.engines.hf_engine import HfEngine
from rl.errors import ConfigError
from rl.evaluating.agreement import LIMIT, check_agreement
from rl.learning.learner import PolicyLearner
from rl.tasks.grid import GridTask
from rl.workers.engine_pool import EnginePool
from rl.workers.inline import InlineWorker
from rl.workers.weight_transfer import WeightTransfer
from tests.fixtures.tiny_families import write_tiny_checkpoint

HF: Mapping[str, Any] = {"engine": {"kind": "hf"}}
ADAPTERS: Mapping[str, Any] = {"engine": {"kind": "vllm"}, "learner": {"lora_rank": 4}}


class SwapsLayers(HfEngine):
    """Takes the first layer's weights for the second's."""

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> int:
        swapped = {name: weights.get(name.replace("layers.0.", "layers.1."), value) for name, value in weights.items()}
        return super().load_weights(swapped, version)


class LeavesOutAll(HfEngine):
    """Goes on with what it has read."""

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> int:
        self.version = version
        return version


class LeavesOutNorms(HfEngine):
    """Keeps some of the weights that it has read."""

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> int:
        own = self._model.state_dict()
        return super().load_weights(weights | {name: own[name] for name in weights if "norm" in name}, version)


class TakesAdapters(HfEngine):
    """Adds adapters to what it has read, but for those on layers whose names hold ``unknown``."""

    def __init__(self, checkpoint: str, unknown: str = "nothing") -> None:
        super().__init__(checkpoint)
        self._read = {name: weight.clone() for name, weight in self._model.state_dict().items()}
        self._unknown = unknown

    def load_adapters(self, adapters: Mapping[str, torch.Tensor], version: int) -> int:
        weights = dict(self._read)
        for name, down in adapters.items():
            if "lora_A" in name and self._unknown not in name:
                layer = name.removeprefix(PEFT_PREFIX).replace(".lora_A", "")
                weights[layer] = weights[layer] + LORA_SCALE * adapters[name.replace("lora_A", "lora_B")] @ down
        return self.load_weights(weights, version)


class AnswersNoMore(HfEngine):
    """Takes weights, and cannot compute with them."""

    def sample(self, requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        if self.version:
            raise AttributeError("no such kernel")
        return super().sample(requests)


class WritesPictures(SwapsLayers):
    """Every answer holds a picture's placeholder after so many tokens."""

    def __init__(self, checkpoint: str, after: int) -> None:
        super().__init__(checkpoint)
        self._after = after

    def sample(self, requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        picture = min(self._encoder.placeholders)
        return [
            [
                replace(
                    one, token_ids=(*one.token_ids[: self._after], picture), logprobs=(*one.logprobs[: self._after], 0)
                )
                for one in group
            ]
            for group in super().sample(requests)
        ]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_checkpoint("qwen2_5_vl", tmp_path_factory.mktemp("policy"))


def check(checkpoint: str, engine: HfEngine, sections: Mapping[str, Any] = HF) -> PolicyLearner:
    """With a learner of the checkpoint, both in this process."""
    config = Config.model_validate({**sections, "policy": {"checkpoint": checkpoint}})
    encoder = Encoder(checkpoint)
    made = PolicyLearner(checkpoint, encoder, config)
    before = made.weights()
    learner = InlineWorker("learner", lambda: made)
    engines = EnginePool([InlineWorker("engine 0", lambda: engine)])
    transfer = WeightTransfer(config, learner, engines)
    parts: Any = SimpleNamespace(task=GridTask(), encoder=encoder, engines=engines, learner=learner, transfer=transfer)
    check_agreement(config, parts, 3)
    assert all(torch.equal(weight, before[name]) for name, weight in made.weights().items())
    return made


def test_an_engine_that_has_the_weights_says_what_the_learner_says(checkpoint: str) -> None:
    engine = HfEngine(checkpoint)
    learner = check(checkpoint, engine)
    assert engine.version == 3
    held = engine._model.state_dict()
    assert all(torch.equal(weight, held[name]) for name, weight in learner.weights().items()), "what it is left with"


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


@pytest.mark.parametrize("engine", [LeavesOutAll, LeavesOutNorms])
def test_an_engine_that_keeps_weights_that_it_has_read_ends_the_run_in_one_line(
    checkpoint: str, engine: type[HfEngine]
) -> None:
    """Until the learner's weights have changed it says just what the learner says."""
    with pytest.raises(ConfigError, match=r"leaves out some of the learner's weights of .*; try engine.kind=hf$"):
        check(checkpoint, engine(checkpoint))


def test_an_engine_that_takes_adapters_says_what_the_learner_says(checkpoint: str) -> None:
    engine = TakesAdapters(checkpoint)
    check(checkpoint, engine, ADAPTERS)
    assert engine.version == 3


@pytest.mark.parametrize("unknown", ["", "q_proj", "layers.1.mlp"])
def test_an_engine_that_leaves_out_adapters_ends_the_run_in_one_line(checkpoint: str, unknown: str) -> None:
    """All or some: before they have learned, adapters change nothing, and an engine needs none to agree."""
    with pytest.raises(ConfigError, match=r"leaves out some of the learner's adapters of .*engine.sync_adapters=false"):
        check(checkpoint, TakesAdapters(checkpoint, unknown), ADAPTERS)


def test_an_engine_that_cannot_answer_with_the_weights_ends_the_run_in_one_line(checkpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"or engine.kind=hf: engine 0.sample: AttributeError: no such kernel$"):
        check(checkpoint, AnswersNoMore(checkpoint))


def test_answers_that_stand_for_pictures_are_compared_up_to_there(checkpoint: str) -> None:
    with pytest.raises(ConfigError, match="nats a token else than the learner"):
        check(checkpoint, WritesPictures(checkpoint, after=5))


def test_nothing_to_compare_is_not_taken_for_agreement(checkpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"all answers of .* begin with the placeholder of a picture"):
        check(checkpoint, WritesPictures(checkpoint, after=0))
