"""What `sieve export` writes: a folder that others load as it was, with its card, and nothing of the machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForImageTextToText, AutoProcessor
from typer.testing import CliRunner

from rewards.models.encoding import Encoder
from rewards.models.rollout_of_steps import rollout_of_steps
from rewards.process_model.mprm import open_mprm
from rl.cli import app
from rl.config import Config
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.publishing.model_card import Subject, license_of, model_card
from rl.tasks.grid import GridTask
from tests.fixtures.saved_run import write_saved_run

PROMPTS = [GridTask().prompt("heldout", index) for index in range(3)]


def export(*arguments: object) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["export", *map(str, arguments)])
    return found.exit_code, found.output


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 4])
def test_transformers_loads_the_policy_with_the_logits_that_it_had(rank: int, tmp_path: Path) -> None:
    learner = write_saved_run(tmp_path / "run", learner={"lora_rank": rank, "learning_rate": 0.01})
    code, said = export(tmp_path / "run", tmp_path / "policy")
    assert code == 0, said
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "policy").eval()
    encoder = Encoder(str(tmp_path / "policy"))
    tokens = [encoder.tokens("1: red 1 0 1 = 2\nAnswer: 2")] * len(PROMPTS)
    batch = encoder.batch(PROMPTS, tokens)
    with torch.no_grad():
        logits = model(**batch.model_inputs()).logits[:, -len(tokens[0]) - 1 : -1].log_softmax(-1)
    found = logits.gather(2, torch.tensor(tokens).unsqueeze(2)).squeeze(2)
    np.testing.assert_allclose(found, learner.logprobs(PROMPTS, tokens), atol=1e-4, rtol=1e-5)
    start = AutoModelForImageTextToText.from_pretrained(SHIPPED_POLICY).state_dict()
    moved = [name for name, weight in model.state_dict().items() if not torch.equal(weight, start[name])]
    assert moved, "it has learned something"
    AutoProcessor.from_pretrained(tmp_path / "policy")
    there = {path.name for path in (tmp_path / "policy").iterdir()}
    assert "model.safetensors" in there and not there & {"optimizer", "adapters", "critic"}


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 4])
def test_an_exported_reward_model_scores_as_it_did(rank: int, tmp_path: Path) -> None:
    write_saved_run(tmp_path / "run", mprm={"lora_rank": rank, "head": "value"})
    saved = tmp_path / "run" / "checkpoints" / "step-2" / "mprm"
    code, said = export(tmp_path / "run", tmp_path / "mprm", "--part", "mprm")
    assert code == 0, said
    encoder = Encoder(str(SHIPPED_POLICY))
    steps = ["1: red 1 = 1", "2: 1 * 4 = 4"]
    rollouts = [rollout_of_steps(p.id, p.question, steps, encoder, "\n", False, "\n".join(steps)) for p in PROMPTS]
    was, found = (open_mprm(str(folder), encoder).score(PROMPTS, rollouts) for folder in (saved, tmp_path / "mprm"))
    for one, other in zip(was, found, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    assert not list((tmp_path / "mprm").glob("adapters")) and "model.safetensors" in {
        path.name for path in (tmp_path / "mprm").iterdir()
    }
    AutoModelForImageTextToText.from_pretrained(tmp_path / "mprm")
    for file in (tmp_path / "mprm").glob("*.json"):
        assert str(tmp_path) not in file.read_text() and str(SHIPPED_POLICY) not in file.read_text()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    files = {"train_files": ["/home/me/secret/train.csv", "hub:owner/table:train"], "heldout_files": ["held.csv"]}
    write_saved_run(
        run,
        task=files | {"name": "files", "system": "red 1", "instruction": "Think."},
        engine={"temperature": 0.8, "top_p": 0.9},
        judge={"endpoint": "http://10.0.0.7:8000/v1", "model": "m"},
        mprm={"enabled": False},
        annotation={"share": 0.0},
        learner={"credit": "outcome"},
    )
    return run


def test_the_card_says_where_it_comes_from_and_what_was_measured(run: Path, tmp_path: Path) -> None:
    code, said = export(run, tmp_path / "policy", "--license", "mit")
    assert code == 0, said
    card = (tmp_path / "policy" / "README.md").read_text()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["license"] == "mit" and metadata["datasets"] == ["owner/table"]
    (result,) = metadata["model-index"][0]["results"]
    assert result["metrics"][0] == {
        "type": "accuracy",
        "value": 0.625,
        "name": "share of right answers to held-out prompts",
    }
    for words in (
        "base model: `grid_policy`, licence apache-2.0",
        "| share of right answers to held-out prompts | 0.500 | 0.625 (0.500 to 0.750) | 2 |",
        "| AUC of step scores, over all steps | 0.400 | 0.875 | 2 |",
        "| the same of reasoning steps |  | 0.750 ± 0.031 | 2 |",
        "after 2 policy steps",
        "`train.csv`, `hub:owner/table:train`; held out: `held.csv`",
        "top_p: 0.9",
        '{"type": "text", "text": \'red 1\'}',
        "temperature=0.8, top_p=0.9",
    ):
        assert words in card, words
    assert "0.99" not in card, "that was later"
    for private in (str(run), "/home/me", "10.0.0.7", str(tmp_path)):
        assert private not in card, private
    asked = {"endpoint": "http://10.0.0.7", "api_key_env": "SIEVE_OUR_KEY", "model": "m"}
    elsewhere = Config.model_validate({"judge": asked, "served": asked, "mprm": {"until": 0}})
    told = model_card(Subject("served", "policy", run, 1, elsewhere))
    assert "10.0.0.7" not in told and "SIEVE_OUR_KEY" not in told and "until: 0" in told
    early = model_card(Subject("early", "policy", run, 1, Config()))
    assert "0.750 | 1 |" in early, "of which nobody knows the interval"
    late = model_card(Subject("late", "mprm", run, 9, Config()))
    assert "0.875 | 2 |" in late and "model-index" not in late, "measured before it became what it is"
    never = (tmp_path / "never", {"step": 0, "policy/accuracy": 0.5})
    never[0].mkdir()
    (never[0] / "metrics.jsonl").write_text(json.dumps(never[1]) + "\n")
    untold = model_card(Subject("untold", "policy", never[0], 4, Config()))
    assert "| 0.500 | not measured | |" in untold and "model-index" not in untold
    (code_block,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    compile(code_block, "card", "exec")


def test_what_a_link_leads_to_is_not_exported(run: Path, tmp_path: Path) -> None:
    """A stranger's run would have it published."""
    secret, link = tmp_path / "secret", run / "checkpoints" / "step-2" / "policy" / "notes.txt"
    secret.write_text("mine")
    link.symlink_to(secret)
    code, said = export(run, tmp_path / "policy")
    link.unlink()
    assert code == 0, said
    assert "notes.txt" not in {path.name for path in (tmp_path / "policy").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{run}", "{new}", "--step", "7"], "--step 7: .* allowed is 2"),
        (["{run}", "{new}", "--part", "mprm"], "--part mprm: .*without a reward model"),
        (["{run}", "{new}", "--part", "critic"], "--part 'critic': allowed is one of policy, mprm"),
        (["{run}", "{run}"], "is there already"),
        (["{new}", "{new}"], "is not a run folder"),
    ],
)
def test_what_cannot_be_exported(arguments: list[str], said: str, run: Path, tmp_path: Path) -> None:
    code, output = export(*(word.format(run=run, new=tmp_path / "new") for word in arguments))
    assert code == 2 and output.count("\n") == 1 and re.search(said, output), output
    assert list(tmp_path.iterdir()) == []


def test_a_licence_is_the_base_models_own_where_it_says_so(tmp_path: Path) -> None:
    assert license_of(str(tmp_path)) is None
    (tmp_path / "README.md").write_text("---\nlicense: gemma\n---\n# A model\n")
    assert license_of(str(tmp_path)) == "gemma"
    (tmp_path / "README.md").write_text("---\n- [\n---\n")
    assert license_of(str(tmp_path)) is None
    assert json.dumps(license_of("grid_policy")) == '"apache-2.0"'
