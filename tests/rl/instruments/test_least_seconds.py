"""What no GPU of a kind can be faster than, against sums worked out by hand for Qwen2.5-VL-7B on an H100: 989 TFLOP/s,
3,350 GB/s of memory, 450 GB/s to another GPU, 64 GB/s to the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rewards.models.backbone import load_model
from rl.cli import app
from rl.config import Config
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.instruments.planning.least_seconds import Least, least_seconds, model_size
from rl.instruments.planning.model_shape import KNOWN_SHAPES, shape_of
from rl.instruments.planning.stage_seconds import Split, StageSeconds
from rl.learning.flops import HEAD, LANGUAGE, ModelSize
from rl.learning.known_gpus import KNOWN_GPUS, tflops_of

H100 = KNOWN_GPUS["h100"]
QWEN_7B = "Qwen/Qwen2.5-VL-7B-Instruct"
PARAMETERS = 7_615_616_512  # of the language model, of which 152,064 x 3,584 are the table of words
LAYERS, HEADS, ATTENTION, KEYS = 28 * 233_046_016, 152_064 * 3_584, 28 * 3_584, 2 * 28 * 512
ALL = 8_292_166_656  # with the vision tower
ADAPTERS = 28 * (2 * (3_584 + 3_584) + 2 * (3_584 + 512) + 3 * (3_584 + 18_944))  # of rank 1
QWEN = {"policy": {"checkpoint": QWEN_7B, "dtype": "bfloat16"}, "mprm": {"lora_rank": 1}}
CONFIGS = Path(__file__).parents[3] / "configs"


def least(
    stage: str, tokens: float = 1000, prompt: float = 0, engines: int = 1, ranks: int = 1, **sections: Any
) -> Least:
    config = Config.model_validate(QWEN | sections)
    lengths = StageSeconds(rollout=0, tokens=tokens, prompt=prompt, steps=4)
    return least_seconds(config, H100, lengths, Split(engines, ranks, ranks))[stage]


def learner(**section: Any) -> dict[str, Any]:
    return {"learner": {"prompts": 4, "samples": 2, "micro_batch": 1} | section}


def test_a_model_of_7b_multiplies_with_all_its_weights_but_the_table_of_words() -> None:
    size = model_size(KNOWN_SHAPES[QWEN_7B])
    assert size.weights.tolist() == [LAYERS, HEADS, 0, 0]
    assert size.weights.sum() == pytest.approx(PARAMETERS - HEADS, rel=1e-4), "but for biases and norms"


def test_sizes_by_shape_are_those_of_the_model_itself() -> None:
    model = load_model(str(SHIPPED_POLICY))
    shape, size = model_size(shape_of(model.config)), ModelSize.of(model)
    assert shape.weights[HEAD] == size.weights[HEAD] and shape.attention == size.attention
    assert shape.weights[LANGUAGE] == pytest.approx(size.weights[LANGUAGE], rel=0.02), "but for biases and norms"


def test_learning_takes_six_operations_a_weight_and_token_and_eight_where_they_are_computed_again() -> None:
    pairs = 12 * ATTENTION * 1000**2 / 2
    found = least("learn", **learner())
    assert found.compute == pytest.approx(8 * (6 * (LAYERS + HEADS) * 1000 + pairs) / 989e12)
    assert found.bound == "compute" and found.seconds == found.compute and found.link == 0
    again = least("learn", **learner(gradient_checkpointing=True))
    head = 8 * 2 * HEADS * 1000 / 989e12
    assert again.compute == pytest.approx(found.compute * 8 / 6 - head), "the head is in no layer"
    adapted = least("learn", **learner(lora_rank=1)).compute
    assert adapted == pytest.approx(found.compute * 4 / 6, rel=0.01), "nothing but adapters has gradients of its own"
    assert least("learn", **learner(epochs=3)).compute == pytest.approx(3 * found.compute)
    assert least("learn", **learner(correction="token_truncate")).compute == pytest.approx(found.compute * 8 / 6)
    assert least("learn", ranks=4, **learner()).compute == pytest.approx(found.compute / 4)


def test_packed_rollouts_read_their_prompt_once() -> None:
    """It goes through no output layer, and learns nothing there."""
    apart, packed, unpacked = (
        least("learn", prompt=800, **learner(**keys)).compute
        for keys in ({}, {"micro_batch": 8}, {"micro_batch": 8, "pack": False})
    )
    prompt = (6 * LAYERS * 800 + 12 * ATTENTION * 800**2 / 2) / 989e12
    assert unpacked == pytest.approx(apart) and apart - packed == pytest.approx((8 - 4) * prompt)
    assert least("learn", prompt=800, **learner(micro_batch_tokens=4096)).compute == pytest.approx(packed)


def test_learning_reads_weights_once_a_pass_and_moves_an_optimizers_numbers() -> None:
    adam = 7 * 4 * ALL / 3350e9
    found = least("learn", tokens=1, **learner())
    assert found.memory == pytest.approx(8 * 2 * 2 * (LAYERS + HEADS) / 3350e9 + adam) and found.bound == "memory"
    together = least("learn", tokens=1, **learner(micro_batch=8)).memory
    assert found.memory - together == pytest.approx(7 * 2 * 2 * (LAYERS + HEADS) / 3350e9)
    small = least("learn", tokens=1, **learner(optimizer="adamw_8bit")).memory
    assert found.memory - small == pytest.approx((28 - 16) * ALL / 3350e9)


def test_ranks_that_share_weights_send_them_as_often_as_they_are_needed() -> None:
    ddp = least("learn", tokens=1, ranks=4, **learner(mini_batches=2))
    assert ddp.link == pytest.approx(0.75 * 2 * 4 * ALL / 450e9), "gradients, once an optimizer step"
    parts = least("learn", tokens=1, ranks=4, **learner(sharding="fsdp2"))
    assert parts.link == pytest.approx(0.75 * 2 * 4 * ALL / 450e9), "gradients, once each of two micro-batches"
    assert parts.bound == "link"
    read = least("learn", tokens=1, ranks=4, **learner(sharding="fsdp2", kl=0.1, correction="token_truncate"))
    assert read.link == pytest.approx(0.75 * 2 * 4 * 2 * (LAYERS + HEADS) / 450e9), "weights, for each of four passes"


def test_an_engine_reads_all_weights_for_each_token_and_the_keys_before_it() -> None:
    """Two rollouts of one prompt, decoded together."""
    one = {"learner": {"prompts": 1, "samples": 2}}
    found = least("rollout", tokens=100, prompt=1000, **one)
    weights, keys = 2 * (LAYERS + HEADS) * 100, 2 * KEYS * (2 * 100**2 / 2 + 100 * 1000)
    assert found.memory == pytest.approx((weights + keys) / 3350e9) and found.bound == "memory"
    prompt = 2 * LAYERS * 1000 + 4 * ATTENTION * 1000**2 / 2
    answer = 2 * (LAYERS + HEADS) * 100 + 4 * ATTENTION * (1100**2 - 1000**2) / 2
    assert found.compute == pytest.approx((prompt + 2 * answer) / 989e12), "the prompt is read once"
    spread = least("rollout", tokens=100, prompt=1000, engine={"tensor_parallel": 2}, **one)
    assert (spread.compute, spread.memory) == pytest.approx((found.compute / 2, found.memory / 2)) and spread.gpus == 2


def test_more_sequences_than_an_engine_decodes_at_once_read_the_weights_again() -> None:
    batch = {"learner": {"prompts": 4, "samples": 8}}
    wide, narrow = (least("rollout", tokens=100, engine={"max_num_seqs": most}, **batch).memory for most in (32, 8))
    assert narrow - wide == pytest.approx(3 * 100 * 2 * (LAYERS + HEADS) / 3350e9)
    # Of three engines one has two prompts.
    third = least("rollout", tokens=100, engines=3, engine={"max_num_seqs": 8}, **batch)
    assert third.compute == pytest.approx(least("rollout", tokens=100, **batch).compute / 2) and third.gpus == 3


@pytest.mark.parametrize(
    ("annotation", "continuations"),
    [
        ({}, 4 * 8),
        ({"budget": "first_success"}, 4),
        ({"first_error": "search"}, 8),
        ({"budget": "triage", "probe": 2}, 4 * 2),
    ],
)
def test_continuations_are_as_few_as_a_budget_may_be_content_with(
    annotation: dict[str, Any], continuations: int
) -> None:
    labelled = {"share": 0.5, "continuations": 8} | annotation
    found = least("annotate", annotation=labelled, learner={"prompts": 2, "samples": 4})
    one = 2 * (LAYERS + HEADS) * 500 + 4 * ATTENTION * 500**2 / 2
    assert found.compute == pytest.approx(0.5 * 8 * continuations * one / 989e12), "half a rollout, in the mean"


def test_a_reward_model_reads_each_rollout_without_an_output_layer_and_learns_from_a_lesson() -> None:
    mprm = {"lora_rank": 1, "batches": 3, "batch_size": 8, "micro_batch_tokens": 4096}
    score, teach = (least(stage, mprm=mprm, learner={"prompts": 2, "samples": 4}) for stage in ("score", "teach"))
    pairs = 4 * ATTENTION * 1000**2 / 2
    read = 2 * (LAYERS + ADAPTERS) * 1000
    assert score.compute == pytest.approx(8 * (read + pairs) / 989e12)
    assert score.memory == pytest.approx(2 * 2 * (LAYERS + ADAPTERS) / 3350e9), "8,000 tokens are two passes"
    assert teach.compute == pytest.approx(24 * (2 * read + 2 * ADAPTERS * 1000 + 3 * pairs) / 989e12)


@pytest.mark.parametrize(
    ("keys", "part", "seconds"),
    [
        ({}, "link", 2 * 2 * ALL / 64e9),  # off one GPU, and onto the other
        ({"engine": {"weight_transfer": "nccl", "num_gpus": 1}}, "link", 2 * ALL / 450e9),
        ({"engine": {"weight_transfer": "ipc", "num_gpus": 0.5}}, "memory", 2 * 2 * ALL / 3350e9),
        ({"learner": {"lora_rank": 8}}, "link", 4 * 8 * ADAPTERS / 64e9),
    ],
)
def test_new_weights_go_as_fast_as_their_way_allows(keys: dict[str, Any], part: str, seconds: float) -> None:
    ranks = {"learner": {"num_gpus": 0.5 if part == "memory" else 1}} if "engine" in keys else {}
    found = least("sync", **(ranks | keys))
    assert getattr(found, part) == pytest.approx(seconds) and found.bound == part


def test_no_better_gpu_takes_longer_and_every_device_is_known_by_its_own_name() -> None:
    config = Config.model_validate(QWEN)
    lengths, split = StageSeconds(rollout=0, tokens=300, prompt=500), Split(2, 2, 1)
    slower, faster = (least_seconds(config, KNOWN_GPUS[name], lengths, split) for name in ("h100", "b200"))
    assert all(faster[stage].seconds <= slower[stage].seconds for stage in slower) and len(slower) == 6
    for name, tflops in (("NVIDIA H100 PCIe", 756), ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA A10G", 70)):
        assert tflops_of(name) == tflops
    assert tflops_of("NVIDIA L40S") == 362 and tflops_of("NVIDIA L4") == 121 and tflops_of("Tesla T4") is None


def plan(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["plan", str(CONFIGS / "qwen2_5_vl_7b_8gpu.yaml"), "task.name=grid", *arguments])
    return result.exit_code, result.output


def test_the_command_says_what_each_stage_takes_at_least_and_which_times_are_less() -> None:
    code, alone = plan("--gpu", "h100")
    assert code == 0 and "prompts of 1,536 tokens, rollouts of 512" in alone and "s/step" not in alone
    rows = [[part.strip() for part in line.split("│")[1:-1]] for line in alone.splitlines() if line.startswith("│")]
    assert [row[0] for row in rows] == ["rollout", "annotate", "score", "teach", "learn", "sync"]
    assert all(float(row[2]) == max(map(float, row[4:7])) > 0 and row[7] == "-" for row in rows)
    needed = float(rows[4][2])
    code, output = plan("--gpu", "h100", "--seconds", f"rollout=90,learn={needed / 2},score={needed}")
    assert code == 0 and "s/step" in output
    (warning,) = [line for line in output.splitlines() if "is less than" in line]
    assert warning == f"learn {needed / 2:.3g} s is less than H100 can do: {needed:.3g} s, by compute"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--gpu", "h1000"), "--gpu 'h1000': allowed is one of b200, h200"),
        (("--gpu", "h100", "--gpus", "8"), "stage times are needed: name --run RUN or --seconds"),
        (("--gpu", "h100", "policy.checkpoint=me/unseen"), "--gpu: me/unseen: its shape is unknown"),
    ],
)
def test_what_cannot_be_said_is_refused_in_one_line(arguments: tuple[str, ...], words: str) -> None:
    code, output = plan(*arguments)
    assert code == 2 and words in output and len(output.strip().splitlines()) == 1


def test_a_named_gpu_gives_the_dry_run_its_memory() -> None:
    for gpu, size in (("h200", "of 141 GB"), ("b200", "of 180 GB")):
        result = CliRunner().invoke(
            app, ["train", str(CONFIGS / "qwen2_5_vl_7b_8gpu.yaml"), "task.name=grid", "--dry-run", "--gpu", gpu]
        )
        assert result.exit_code == 0 and size in result.output, result.output
