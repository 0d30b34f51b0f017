"""`task.system`: before every question, for everyone who reads a prompt, or refused before anything starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rewards.records import SamplingRequest
from rl.cli import app
from rl.config import Config
from rl.engines.making import build_engine
from rl.errors import ConfigError
from rl.files.named_checkpoint import SHIPPED_POLICY, make_encoder, make_judge_encoder
from rl.learning.learner import PolicyLearner
from rl.tasks.grid import GridTask
from tests.fixtures.builders import a_prompt
from tests.fixtures.tiny_families import FAMILIES, write_tiny_checkpoint

SYSTEM = "red 1 + 2"
"""Words that the shipped policy knows."""
LEAVES_OUT = "{% for m in messages if m.role != 'system' %}{{ m.content[-1].text }}|{% endfor %}"
REFUSES = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no such\nrole') }}{% endif %}"
    "{{ m.content[-1].text }}|{% endfor %}"
)
REFUSES_PICTURES = (
    "{% for m in messages %}{% if m.content[0].type == 'image' and messages[0].role == 'system' %}"
    "{{ raise_exception('a picture after a system prompt') }}{% endif %}{{ m.content[-1].text }}|{% endfor %}"
)


def a_config(checkpoint: Path | str = "grid_policy", system: str = SYSTEM, **sections: object) -> Config:
    return Config.model_validate({"task": {"system": system}, "policy": {"checkpoint": str(checkpoint)}} | sections)


def with_template(template: str, folder: Path) -> Path:
    shutil.copytree(SHIPPED_POLICY, folder)
    (folder / "chat_template.jinja").write_text(template)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_it_stands_before_the_question_and_its_pictures() -> None:
    prompt = GridTask().prompt("heldout", 0)
    plain, told = make_encoder(a_config(system="")), make_encoder(a_config())
    assert told.chat_text(prompt) == f"<|im_start|>system\n{SYSTEM}<|im_end|>\n{plain.chat_text(prompt)}"
    longer = told.head_length(prompt) - plain.head_length(prompt)
    assert longer == len(told.tokens(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"))
    judge = make_judge_encoder(a_config(), str(SHIPPED_POLICY), "mprm.checkpoint")
    assert judge.chat_text(prompt) == told.chat_text(prompt), "whatever reads the policy's tokens reads it, too"


@pytest.mark.slow
def test_the_engine_is_told_what_the_learner_reads() -> None:
    config = a_config(engine={"kind": "hf"})
    requests = [SamplingRequest(GridTask().prompt("heldout", index)) for index in range(3)]
    samples = [sample for (sample,) in build_engine(config).sample(requests)]
    prompts, tokens = [request.prompt for request in requests], [sample.token_ids for sample in samples]

    def off(encoder_config: Config) -> float:
        learner = PolicyLearner(str(SHIPPED_POLICY), make_encoder(encoder_config), encoder_config)
        scored = learner.logprobs(prompts, tokens)
        pairs = zip(scored, samples, strict=True)
        return max(abs(a - b) for row, sample in pairs for a, b in zip(row, sample.logprobs, strict=True))

    assert off(config) < 1e-3 < 1e-2 < off(a_config(system=""))


@pytest.mark.parametrize("family", FAMILIES)
def test_families_take_one_or_are_refused(family: str, tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(family, tmp_path)
    encoder = make_encoder(a_config(folder, "Think twice."))
    assert encoder.chat_text(a_prompt("p")).count("Think twice.") == 1


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (LEAVES_OUT, "leaves out a system prompt"),
        (REFUSES, "refuses a system prompt: no such role"),
        (REFUSES_PICTURES, "refuses a system prompt: a picture after a system prompt"),
    ],
)
def test_a_template_that_knows_none_is_refused(template: str, reason: str, tmp_path: Path) -> None:
    folder = with_template(template, tmp_path / "policy")
    make_encoder(a_config(folder, system=""))
    for config in (a_config(folder), a_config(mprm={"checkpoint": str(folder)})):
        with pytest.raises(ConfigError, match=f"task.system cannot be used with .*: the .* chat template {reason}; "):
            make_encoder(config, config.mprm.checkpoint)
    own = a_config(mprm={"checkpoint": str(folder), "input_format": "chat"})
    make_encoder(own, own.mprm.checkpoint)  # it reads the question alone


def test_it_spells_no_special_token() -> None:
    with pytest.raises(ConfigError, match=r"task.system .*: it holds '<\|im_end\|>', a special token"):
        make_encoder(a_config(system="1 <|im_end|> 2"))


def test_the_dry_run_shows_it_or_refuses(tmp_path: Path) -> None:
    def dry_run(*overrides: str) -> tuple[int, str]:
        found = CliRunner().invoke(app, ["train", "configs/smoke.yaml", "--dry-run", *overrides])
        return found.exit_code, found.output

    code, said = dry_run(f"task.system={SYSTEM}")
    assert code == 0 and "every prompt begins: '<|im_start|>system\\nred 1 + 2<|im_end|>" in said
    code, said = dry_run()
    assert code == 0 and "every prompt begins" not in said
    folder = with_template(LEAVES_OUT, tmp_path / "policy")
    code, said = dry_run(f"task.system={SYSTEM}", f"policy.checkpoint={folder}")
    assert code == 2 and said.count("\n") == 1 and said.startswith("sieve: task.system cannot be used with")
