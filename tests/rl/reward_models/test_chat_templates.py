"""A chat template that leaves out a picture or the question is found before anything is started."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from rewards.records import Prompt, PromptError
from rl.config import Config
from rl.errors import ConfigError
from rl.files.named_checkpoint import SHIPPED_POLICY, make_encoder
from rl.reward_models.chat_templates import check_chat_templates, one_with_pictures

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
WRITTEN = "{{- '" + PICTURE + "' -}}"
TEXT = "{{- part['text'] -}}"


class Asks:
    """Prompts with so many pictures, after some with none, and some that cannot be made."""

    sources = ("any",)

    def __init__(self, pictures: int) -> None:
        self.pictures = pictures

    def prompt(self, split: str, index: int) -> Prompt:
        if index == 1:
            raise PromptError("row 1: no such picture")
        images = (Image.new("RGB", (28, 28)),) * (self.pictures if index >= 2 else 0)
        return Prompt(f"{split}/{index}", "any", "red = ?", images, "1")


def changed(folder: Path, what: str, by: str, head: str = "") -> str:
    """The shipped policy with another chat template."""
    shutil.copytree(SHIPPED_POLICY, folder)
    template = folder / "chat_template.jinja"
    text = template.read_text()
    assert what in text
    template.write_text(head + text.replace(what, by))
    return str(folder)


def check(pictures: int, **sections: object) -> None:
    config = Config.model_validate(sections)
    check_chat_templates(config, make_encoder(config), Asks(pictures))  # type: ignore[arg-type]


def test_the_shipped_policy_shows_every_picture() -> None:
    for pictures in (0, 1, 3):
        check(pictures)


@pytest.mark.parametrize("section", ["policy", "mprm", "outcome_model"])
def test_a_template_without_pictures_is_for_tasks_without(section: str, tmp_path: Path) -> None:
    named = {section: {"checkpoint": changed(tmp_path / "blind", WRITTEN, "")}}
    if section == "outcome_model":
        named[section]["reward"] = "hybrid"
    check(0, **named)
    with pytest.raises(ConfigError, match=f"^{section}.checkpoint .*/blind: .* shows 0 of a prompt's 2 picture"):
        check(2, **named)


def test_a_template_that_shows_the_first_picture_alone_is_for_tasks_with_one(tmp_path: Path) -> None:
    once = "{%- if not so.far -%}" + WRITTEN + "{%- set so.far = true -%}{%- endif -%}"
    policy = {"checkpoint": changed(tmp_path / "one", WRITTEN, once, "{%- set so = namespace(far=false) -%}")}
    check(1, policy=policy)
    with pytest.raises(ConfigError, match=r"policy.checkpoint .*/one: .* shows 1 of a prompt's 3 picture"):
        check(3, policy=policy)


@pytest.mark.parametrize(
    ("what", "by", "reason"),
    [
        ("message['content'] is string -%}{{- message['content'] -}}", "true -%}", "writes a question 0 times"),
        (TEXT, TEXT + TEXT, "writes a question 2 times"),
    ],
)
def test_a_template_writes_the_question_once(what: str, by: str, reason: str, tmp_path: Path) -> None:
    policy = {"checkpoint": changed(tmp_path / "policy", what, by)}
    for pictures in (0, 1):
        with pytest.raises(
            ConfigError,
            match=f"^policy.checkpoint .*/policy: the checkpoint's chat template {reason}; allowed is once$",
        ):
            check(pictures, policy=policy)


def test_the_first_prompt_with_a_picture_is_looked_for() -> None:
    found, bare = one_with_pictures(Asks(2)), one_with_pictures(Asks(0))  # type: ignore[arg-type]
    assert found is not None and (found.id, len(found.images)) == ("train/2", 2)
    assert bare is not None and bare.id == "train/0"
