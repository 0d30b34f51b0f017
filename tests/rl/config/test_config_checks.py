"""Keys that contradict each other: refused in one line that names the key, its value, and what is allowed instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rl.config import load_config
from rl.config.checks import MOST_RANK
from rl.engines.adapter_files import RANKS
from rl.errors import ConfigError

WITHOUT = {"enabled": False}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"max_staleness": 0, "engine": {"segment_tokens": 8}}, "engine.segment_tokens is 8"),
    ({"engine": {"sleep": True}}, "engine.sleep is true"),
    (
        {"max_staleness": 0, "engine": {"sleep": True, "num_gpus": 0.5}, "annotation": {"delay": 1}},
        "annotation.delay is 1: allowed with engine.sleep is 0",
    ),
    (
        {"learner": {"reuse_continuations": True}, "annotation": {"delay": 2}},
        "annotation.delay is 2: allowed with learner.reuse_continuations is 0",
    ),
    ({"learner": {"activation_offload": True}}, "learner.activation_offload is true: allowed with learner.gradient_c"),
    ({"max_staleness": 0, "engine": {"sleep": True, "kind": "hf", "num_gpus": 1}}, "engine.sleep is true"),
    ({"engine": {"kind": "hf", "tensor_parallel": 2}}, "engine.tensor_parallel is 2"),
    ({"engine": {"tensor_parallel": 2, "num_gpus": 1}}, "engine.num_gpus is 1"),
    ({"engine": {"temperature": 2.5}}, "engine.temperature is 2.5: allowed with engine.kind vllm is 0.01 to 2"),
    ({"engine": {"temperature": 0.001}}, "engine.temperature is 0.001"),
    ({"engine": {"temperature": 0, "kind": "hf"}}, "engine.temperature: 0 is not allowed"),
    ({"engine": {"top_p": 0}}, "engine.top_p: 0 is not allowed"),
    ({"engine": {"top_k": -1}}, "engine.top_k: -1 is not allowed"),
    ({"engine": {"top_k": 2.5}}, "engine.top_k: 2.5 is not allowed"),
    ({"engine": {"min_p": 1}}, "engine.min_p: 1 is not allowed"),
    ({"engine": {"top_p": 0.9}, "learner": {"sharding": "deepspeed"}}, "allowed with engine.top_p, engine.top_k"),
    ({"engine": {"weight_transfer": "nccl"}}, "engine.weight_transfer is 'nccl'"),
    (
        {"engine": {"weight_transfer": "nccl", "kind": "hf", "num_gpus": 1}},
        "allowed with engine.kind hf is object_store",
    ),
    (
        {"engine": {"weight_transfer": "ipc", "num_gpus": 1}, "learner": {"num_gpus": 1}},
        "engine.weight_transfer is 'ipc'",
    ),
    *(
        ({"engine": {"weight_transfer": "ipc"} | engine, "learner": {"num_gpus": 0.6} | learner}, "at most 1 in sum")
        for engine, learner in (
            ({"num_gpus": 0.6}, {}),
            ({"num_gpus": 0.4, "count": 2}, {}),
            ({"num_gpus": 0.4}, {"num_gpus": 0}),
        )
    ),
    (
        {"max_staleness": 0, "engine": {"sleep": True, "num_gpus": 0.6}, "learner": {"num_gpus": 0.6}},
        "engine.num_gpus 0.6 and learner.num_gpus 0.6 are on different GPUs",
    ),
    (
        {
            "engine": {"weight_transfer": "nccl", "num_gpus": 1, "sync_adapters": False},
            "learner": {"num_gpus": 1, "lora_rank": 8},
        },
        "engine.sync_adapters true",
    ),
    (
        {"engine": {"weight_transfer": "nccl", "num_gpus": 1}, "learner": {"num_gpus": 1, "lora_rank": 8}},
        "engine.sync_adapters true with policy.dtype bfloat16",
    ),
    ({"workers": "inline"}, "engine.kind is 'vllm': allowed with workers inline is hf"),
    (
        {"workers": "inline", "engine": {"kind": "hf"}, "mprm": {"ranks": 2}},
        "mprm.ranks is 2: allowed with workers inline is 1",
    ),
    ({"learner": {"num_gpus": 2}}, "learner.num_gpus is 2: allowed is at most 1; for more GPUs raise learner.ranks"),
    ({"mprm": {"num_gpus": 0.5, "ranks": 2}}, "mprm.num_gpus is 0.5"),
    ({"learner": {"num_gpus": 0.5, "ranks": 2}}, "learner.num_gpus is 0.5"),
    ({"outcome_model": {"num_gpus": 3}}, "outcome_model.num_gpus is 3: allowed is at most 1"),
    ({"learner": {"reference_every": 5}}, "learner.reference_every is 5"),
    ({"learner": {"prompts": 1, "samples": 2, "mini_batches": 3}}, "learner.mini_batches is 3"),
    (
        {"learner": {"prompts": 1, "samples": 2, "ranks": 3}},
        "learner.ranks is 3: allowed is one for each rollout of a step, 2",
    ),
    ({"learner": {"trl": {"epsilon": 0.1}}}, "learner.trl.epsilon: no such argument; allowed here: delta"),
    ({"learner": {"trl": {"top_entropy_quantile": 0}}}, "learner.trl.top_entropy_quantile: 0 is not allowed"),
    ({"learner": {"correction": "token_mask", "correction_min": 4}}, "learner.correction_min is 4"),
    ({"learner": {"loss": "vespo", "correction": "sequence_mask"}}, "learner.correction is 'sequence_mask'"),
    ({"learner": {"algorithm": "ppo", "credit": "ps_grpo"}}, "allowed with learner.algorithm ppo is outcome, process"),
    ({"learner": {"algorithm": "ppo", "separator_advantages": False}}, "learner.separator_advantages is false"),
    (
        {"learner": {"algorithm": "ppo", "credit": "outcome", "reuse_continuations": True}},
        "learner.reuse_continuations is true, learner.algorithm 'ppo'",
    ),
    (
        {"learner": {"credit": "outcome", "reuse_continuations": True}, "annotation": {"share": 0}},
        "annotation.share 0: allowed are",
    ),
    ({"learner": {"algorithm": "ppo"}, "value": {"checkpoint": "other"}}, "value.checkpoint is 'other'"),
    (
        {"steps": 40, "learner": {"algorithm": "ppo", "credit": "outcome"}, "value": {"warm_up": 40}},
        "value.warm_up is 40",
    ),
    ({"learner": {"lora_rank": 600}}, "learner.lora_rank is 600"),
    ({"engine": {"num_gpus": 1.5}}, "engine.num_gpus is 1.5"),
    ({"learner": {"credit": "monte_carlo"}, "annotation": {"share": 0}}, "annotation.share is 0"),
    ({"mprm": {"enabled": False}}, "annotation.share is 0.25: allowed with mprm.enabled false is 0"),
    ({"mprm": {"warm_start": ["a.jsonl"]} | WITHOUT, "annotation": {"share": 0}}, "mprm.warm_start is ['a.jsonl']"),
    ({"mprm": {"beside": ["other"]} | WITHOUT, "annotation": {"share": 0}}, "mprm.beside is ['other']"),
    (
        {"mprm": WITHOUT, "annotation": {"share": 0}, "evaluation": {"bench": "processbench", "bench_path": "."}},
        "evaluation.bench is 'processbench'",
    ),
    (
        {"mprm": WITHOUT, "annotation": {"share": 0}, "evaluation": {"strategies": ["majority", "best_of_n_min"]}},
        "evaluation.strategies is ['best_of_n_min']: allowed with mprm.enabled false is greedy, majority, pass",
    ),
    ({"watch": {"action": "shout"}}, "watch.action: 'shout' is not allowed"),
    ({"value": {"gae_lambda": 1.5}}, "value.gae_lambda: 1.5 is not allowed"),
]
ALLOWED: list[dict[str, Any]] = [
    {"engine": {"segment_tokens": 8}},
    {"max_staleness": 0, "engine": {"sleep": True, "num_gpus": 0.5}},
    {"engine": {"tensor_parallel": 2, "num_gpus": 2}},
    {"engine": {"temperature": 2.5, "kind": "hf"}},
    {"engine": {"temperature": 0.01, "top_p": 0.9, "top_k": 40, "min_p": 0.05}},
    {"engine": {"tensor_parallel": 2}},
    {"engine": {"weight_transfer": "nccl", "num_gpus": 1}, "learner": {"num_gpus": 1}},
    {"engine": {"weight_transfer": "ipc", "num_gpus": 0.5}, "learner": {"num_gpus": 0.5}},
    {"max_staleness": 0, "engine": {"sleep": True, "num_gpus": 0.7}, "learner": {"num_gpus": 0.3}},
    {
        "engine": {"weight_transfer": "nccl", "num_gpus": 1},
        "learner": {"num_gpus": 1, "lora_rank": 8},
        "policy": {"dtype": "bfloat16"},
        "mprm": {"lora_rank": 8},
    },
    {"learner": {"kl": 0.1, "reference_every": 5}},
    {"learner": {"trl": {"epsilon_high": 0.28, "importance_sampling_level": "sequence", "delta": None}}},
    {"mprm": WITHOUT, "annotation": {"share": 0}, "evaluation": {"strategies": ["majority"]}},
    {
        "mprm": WITHOUT,
        "annotation": {"share": 0},
        "outcome_model": {"harvest": True},
        "evaluation": {"strategies": ["best_of_n_min"]},
    },
    {"learner": {"algorithm": "ppo", "credit": "my.rules:rule"}, "value": {"backbone": "own", "checkpoint": "other"}},
]


def load(values: dict[str, Any], folder: Path) -> None:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    load_config(path)


@pytest.mark.parametrize(("values", "told"), REFUSED, ids=[told for _, told in REFUSED])
def test_contradictions_are_refused(values: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(values, tmp_path)
    message = str(caught.value)
    assert told in message and "\n" not in message
    assert "allowed" in message


def test_the_largest_adapters_are_vllms() -> None:
    assert RANKS[-1] == MOST_RANK


def test_off_is_off_in_a_file_and_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text("watch: {action: off}\nlearner: {dynamic_sampling: off}\n")
    for config in (load_config(path), load_config(path, ["watch.action=off", "learner.dynamic_sampling=off"])):
        assert (config.watch.action, config.learner.dynamic_sampling) == ("off", "off")


@pytest.mark.parametrize("values", ALLOWED, ids=str)
def test_what_fits_together_is_allowed(values: dict[str, Any], tmp_path: Path) -> None:
    load(values, tmp_path)
