"""Who sits on which GPU, whether it fits, and what the dry run says of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rl.cli import main
from rl.commands.dry_run import show as dry_run
from rl.config import Config, load_config
from rl.errors import ConfigError
from rl.instruments.planning.gpu_placement import place
from rl.instruments.planning.launch_plan import (
    check_fits,
    estimate,
    needed_on,
    plan_lines,
)
from rl.instruments.planning.memory_estimate import GB
from rl.instruments.planning.model_shape import KNOWN_SHAPES
from rl.workers.ray_cluster import kinds_of_workers
from tests.rl.instruments.test_memory_estimate import a_config

# Of `real`, the checkpoint is made first; tests/rl/real_policy plans that.
CONFIGS = sorted(path for path in (Path(__file__).parents[3] / "configs").glob("*.yaml") if path.stem != "real")


def test_gpus_are_given_out_as_reserved() -> None:
    config = a_config(engine={"count": 3}, learner={"ranks": 8, "sharding": "fsdp2"})
    gpus = place(config, gpus_per_node=8)
    assert [gpu.node for gpu in gpus] == [0] * 8 + [1] * 4
    assert [gpu.workers for gpu in gpus[:2]] == [[("learner", 0)], [("learner", 1)]]
    shared = a_config(engine={"num_gpus": 0.5}, learner={"num_gpus": 0.25})
    assert [gpu.workers for gpu in place(shared)] == [[("learner", 0), ("engine", 0)], [("mprm", 0)]]
    wide = a_config(engine={"tensor_parallel": 4, "num_gpus": 4, "count": 2})
    assert [len(gpu.workers) for gpu in place(wide, gpus_per_node=8)] == [1] * 10
    assert [(gpu.node, gpu.index) for gpu in place(wide) if ("engine", 1) in gpu.workers] == [
        (1, index) for index in range(4)
    ]


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {},
            ("learner on GPU 0 of node 0", "80 GB are there", "learner.ranks", "fsdp2", "adamw_8bit for 49.5 GB less"),
        ),
        ({"engine": {"gpu_memory_utilization": 0.2}, "learner": {"lora_rank": 8}}, ("engine on GPU 1", "raise it")),
        (
            {"learner": {"lora_rank": 8, "gradient_checkpointing": False, "micro_batch": 16}},
            ("learner on GPU 0", "lower learner.micro_batch"),
        ),
        (
            {"engine": {"num_gpus": 0.5, "gpu_memory_utilization": 0.8}, "learner": {"lora_rank": 8, "num_gpus": 0.5}},
            ("engine on GPU 0", "beside learner", "lower engine.gpu_memory_utilization"),
        ),
    ],
    ids=["weights", "engine", "activations", "shared"],
)
def test_what_cannot_fit_is_refused_in_one_line(sections: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        list(plan_lines(a_config(**sections), 80))
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


SMALL = CONFIGS[0].parent / "qwen2_5_vl_3b_1gpu.yaml"


def refusal(gpu_gb: float, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        list(plan_lines(load_config(SMALL, overrides), gpu_gb))
    return str(caught.value)


def test_advice_on_a_share_that_is_too_small_can_be_followed() -> None:
    said = refusal(24)
    assert "raise it" not in said and "take a larger GPU" in said
    found = re.search(r"set engine.num_gpus to 1 .* and engine.gpu_memory_utilization to (0\.\d\d) or more", said)
    assert found, said
    # The engine is satisfied then, and the others are refused for themselves.
    followed = refusal(24, "engine.num_gpus=1", f"engine.gpu_memory_utilization={found[1]}")
    assert followed.startswith("mprm on GPU 0 of node 0") and "beside learner" in followed
    alone = refusal(80, "engine.num_gpus=1", "engine.gpu_memory_utilization=0.1")
    raised = re.search(r"raise it to (0\.\d\d) or more", alone)
    assert raised, alone
    assert list(plan_lines(load_config(SMALL, ["engine.num_gpus=1", f"engine.gpu_memory_utilization={raised[1]}"]), 80))


def test_advice_names_only_what_can_still_be_changed() -> None:
    said = refusal(10, "engine.num_gpus=1", "learner.num_gpus=1", "engine.gpu_memory_utilization=0.9")
    assert said.startswith("learner on GPU") and "raise learner.ranks" in said and "set learner.lora_rank" not in said
    long = ["learner.micro_batch=1", "learner.gradient_checkpointing=true", "engine.max_model_len=65536"]
    said = refusal(20, "engine.num_gpus=1", "learner.num_gpus=1", "engine.gpu_memory_utilization=0.9", *long)
    assert said.startswith("learner on GPU") and said.endswith(
        ": set learner.activation_offload, or lower engine.max_model_len"
    )


def test_an_engine_is_not_spread_over_nodes() -> None:
    wide = a_config(engine={"tensor_parallel": 4, "num_gpus": 4}, learner={"lora_rank": 8})
    with pytest.raises(ConfigError, match=r"^engine.num_gpus is 4: allowed is at most the 2 GPUs of a node$"):
        place(wide, gpus_per_node=2)
    assert len(place(wide, gpus_per_node=4)) == 6


def test_an_engine_that_sleeps_leaves_its_memory_to_the_learner() -> None:
    sections = {
        "max_staleness": 0,
        "learner": {"lora_rank": 8, "num_gpus": 0.5, "gradient_checkpointing": False},
        "mprm": {"num_gpus": 1, "lora_rank": 8, "likelihood": False, "micro_batch_tokens": 4096},
    }
    engine = {"num_gpus": 0.5, "gpu_memory_utilization": 0.6}
    awake, asleep = (a_config(**sections, engine=engine | {"sleep": sleep}) for sleep in (False, True))
    held = {role: estimate(awake, 80 * GB).memory[role] for role in ("learner", "engine")}
    assert needed_on(awake, held) == held["learner"].total + held["engine"].total
    assert needed_on(asleep, held) < needed_on(awake, held)
    small = {**held, "engine": replace(held["engine"], cache=0)}
    stays = held["engine"].other
    assert needed_on(asleep, small) == held["learner"].total + stays > held["learner"].total, "its process sleeps there"
    whole = {**sections, "learner": {"num_gpus": 0.5}}
    by_ipc = a_config(**whole, engine={"num_gpus": 0.5, "sleep": True, "weight_transfer": "ipc"})
    copy = estimate(by_ipc, 80 * GB).memory["learner"].transfer
    assert copy == held["engine"].weights, "of what is handed over, where what learns is float32"
    large = {**held, "engine": replace(held["engine"], cache=80 * GB)}
    handing = {**large, "learner": replace(held["learner"], transfer=copy)}
    assert needed_on(asleep, handing) == needed_on(asleep, large) + copy
    with pytest.raises(ConfigError):
        list(plan_lines(awake, 80))
    assert list(plan_lines(asleep, 80))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_fits_what_it_is_for(path: Path) -> None:
    config = load_config(path)
    gpus = place(config)
    check_fits(config, estimate(config, 80 * GB), gpus)
    wanted = {"1gpu": 1, "8gpu": 8, "2nodes": 16}.get(path.stem.rpartition("_")[2], 0)
    assert len(gpus) == wanted
    assert sum(kind.number for kind in kinds_of_workers(config) if kind.num_gpus == 1) in (0, wanted)


def test_the_dry_run_names_every_gpu_once() -> None:
    lines = list(plan_lines(load_config(CONFIGS[0].parent / "qwen2_5_vl_7b_2nodes.yaml"), 80))
    totals = [line for line in lines if line.endswith("of 80 GB")]
    assert len(totals) == 3 and "node 0, GPUs 0 to 7" in totals[0] and "node 1, GPUs 0 to 5" in totals[1]


@pytest.mark.parametrize("path", [path for path in CONFIGS if "_" in path.stem], ids=lambda path: path.stem)
def test_the_head_of_a_configuration_says_what_the_dry_run_says(path: Path) -> None:
    said = re.findall(r"^#   (node .*?) +(\w+) +(\d+\.\d)   (.*)", path.read_text(encoding="utf-8"), re.M)
    lines = list(plan_lines(load_config(path), 80))
    columns = [*next(line for line in lines if line.startswith("memory, GB")).split()[-8:]]
    shown = [" ".join(line.split()) for line in lines if re.match(r" +node .*: [a-z]", line)]
    assert len(said) == len(shown) > 0
    for (gpus, role, total, parts), line in zip(said, shown, strict=True):
        assert line.startswith(f"{gpus}: {role} ")
        *values, whole = line.split()[-8:]
        assert whole == total
        there = {name: value for name, value in zip(columns, values, strict=False) if value != "0.0"}
        other, transfer = there.pop("other"), float(there.pop("transfer", 0))
        step = sum(float(there.get(name, 0)) for name in ("gradients", "activations"))
        assert transfer < step or role == "engine", "new weights take no more than a step did"
        assert parts == ", ".join(f"{name} {value}" for name, value in there.items()) + f", and {other} of CUDA"
        assert sum(map(float, there.values())) + float(other) == pytest.approx(float(total), abs=0.21)


def test_a_machine_holds_all_of_a_model_for_each_process_whose_gpu_will_have_some_of_it() -> None:
    """In float32, or under adapters in the policy's bfloat16."""
    config = load_config(CONFIGS[0].parent / "qwen2_5_vl_7b_2nodes.yaml")
    billions = KNOWN_SHAPES[config.policy.checkpoint].parameters / GB
    said = [line for line in plan_lines(config, 80) if line.endswith("loaded")]
    assert said == [
        f"  node 0: {8 * 4 * billions:.1f} GB of the machine's own memory while 8 models are loaded",
        f"  node 1: {2 * 2 * billions:.1f} GB of the machine's own memory while 2 models are loaded",
    ]


@pytest.mark.parametrize("path", [path for path in CONFIGS if "_" in path.stem], ids=lambda path: path.stem)
def test_rows_of_32k_tokens_are_refused_until_what_they_keep_is_elsewhere(path: Path) -> None:
    longer = ["engine.max_model_len=32768", "engine.max_completion_tokens=8192"]
    refused = r"^(learner .*set learner.activation_offload, |mprm .*)(or )?lower engine.max_model_len[^\n]*$"
    with pytest.raises(ConfigError, match=refused):
        list(plan_lines(load_config(path, longer), 80))
    longer += ["learner.activation_offload=true", "mprm.enabled=false", "annotation.share=0", "learner.credit=outcome"]
    assert list(plan_lines(load_config(path, longer), 80))


@pytest.mark.parametrize("path", [path for path in CONFIGS if "_" in path.stem], ids=lambda path: path.stem)
def test_every_configuration_for_gpus_has_room_on_two_nodes(path: Path) -> None:
    """All weights learn, in parts, and go to the engines by NCCL."""
    engine = ["count=6", "num_gpus=1", "gpu_memory_utilization=0.9", "weight_transfer=nccl"]
    learner = ["ranks=8", "num_gpus=1", "sharding=fsdp2", "lora_rank=0"]
    given = [f"engine.{key}" for key in engine] + [f"learner.{key}" for key in learner]
    config = load_config(path, [*given, "mprm.ranks=2", "mprm.num_gpus=1"])
    assert [gpu.node for gpu in place(config)] == [0] * 8 + [1] * 8
    assert config.weight_route == "nccl" and list(plan_lines(config, 80))


def test_a_refused_dry_run_prints_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="on GPU 0"):
        dry_run(load_config(SMALL), 24, 8)
    assert capsys.readouterr().out == ""
    with pytest.raises(ConfigError, match="no such file"):
        dry_run(load_config(SMALL), 80, 8)
    assert "name: qwen2_5_vl_3b_1gpu" in capsys.readouterr().out


@pytest.mark.parametrize("gpu_gb", ["inf", "nan", "0", "-1", "x"])
@pytest.mark.parametrize("option", ["--gpu-gb", "--gpus-per-node"])
def test_wrong_options_are_said_in_one_line(
    option: str, gpu_gb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = command(monkeypatch, capsys, "train", str(SMALL), "--dry-run", option, gpu_gb)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("sieve: ") and option in err


def test_how_the_command_ends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = command(monkeypatch, capsys, "--help")
    assert (code, err) == (0, "") and "Usage" in out
    code, out, err = command(monkeypatch, capsys)
    assert code == 2 and "Usage" in out + err
    for arguments in (("bogus",), ("plan",), ("plan", "--bogus"), ("eval", "prm", "--bogus")):
        code, out, err = command(monkeypatch, capsys, *arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1) and err.startswith("sieve: ")
    assert command(monkeypatch, capsys, "train", str(SMALL), "task.name=grid", "--dry-run", "--gpu-gb", "80")[0] == 0


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the entry point."""
    monkeypatch.setattr("sys.argv", ["sieve", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize("name", ["/no/such", "./such", "~/such", "runs/no/such"])
@pytest.mark.parametrize("section", ["policy", "value", "mprm", "beside"])
def test_a_folder_that_is_not_there_is_refused(name: str, section: str) -> None:
    sections: dict[str, Any] = {"learner": {"algorithm": "ppo", "credit": "outcome"}, "value": {"backbone": "own"}}
    if section == "beside":
        sections["mprm"] = {"beside": [name]}
    else:
        sections.setdefault(section, {})["checkpoint"] = name
    key = "mprm.beside" if section == "beside" else f"{section}.checkpoint"
    with pytest.raises(ConfigError, match=rf"^{key} is '{name}': there is no such folder.*allowed is [^\n]*$"):
        list(plan_lines(Config.model_validate(sections), 80))


@pytest.mark.parametrize("gpus", range(1, 9))
def test_gpus_of_an_engine_divide_the_attention_heads(gpus: int) -> None:
    sections = {"engine": {"tensor_parallel": gpus, "num_gpus": gpus}, "learner": {"lora_rank": 8}}
    if gpus in (1, 2, 4):
        assert list(plan_lines(a_config(**sections), 80))
        return
    with pytest.raises(ConfigError, match=f"^engine.tensor_parallel is {gpus}: allowed is 1, 2, 4 or 28.* 28 .* 4 "):
        list(plan_lines(a_config(**sections), 80))
