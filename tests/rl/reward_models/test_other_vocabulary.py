"""A reward model of another family than the policy's reads what the policy wrote, and scores the policy's own steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rewards.models.encoding import Encoder
from rewards.models.rollout_of_steps import rollout_of_steps
from rewards.process_model.mprm import open_mprm
from rewards.records import Annotated, PromptError, Rollout, StepCounts
from rl.config import Config
from rl.errors import ConfigError
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.reward_models.mprm import build_mprm, check_mprm
from rl.tasks.grid import GridTask
from tests.fixtures.tiny_families import FAMILIES, write_tiny_checkpoint

STEPS = (["1: red 1 0 0 = 1", "2: circle 0 1 0 = 1", "3: 1 * 2 = 2"], ["1: red 0 0 2 = 2"], ["1: red 1 = 1", "2: 3"])
PROMPTS = [GridTask().prompt("train", number) for number in range(len(STEPS))]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    written: dict[str, str] = {}

    def find(family: str) -> str:
        if family not in written:
            written[family] = write_tiny_checkpoint(family, tmp_path_factory.mktemp(family))
        return written[family]

    return find


def written_by(encoder: Encoder) -> list[Rollout]:
    """The same answers, in the tokens of an encoder."""
    return [
        rollout_of_steps(prompt.id, prompt.question, steps, encoder, "\n", True, "\n".join(steps))
        for prompt, steps in zip(PROMPTS, STEPS, strict=True)
    ]


@pytest.fixture(scope="module")
def rollouts() -> list[Rollout]:
    return written_by(Encoder(str(SHIPPED_POLICY)))


def another(checkpoint: str, input_format: str, **keys: object) -> Config:
    return Config.model_validate({"mprm": {"checkpoint": checkpoint, "input_format": input_format, **keys}})


@pytest.mark.parametrize("input_format", ["chat", "inline"])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_scores_and_learns_as_if_the_policy_had_its_vocabulary(
    family: str, input_format: str, checkpoint: Callable[[str], str], rollouts: list[Rollout]
) -> None:
    config = another(checkpoint(family), input_format, learning_rate=1e-3)
    check_mprm(config)
    mprm, own = build_mprm(config), Encoder(checkpoint(family))
    alone = open_mprm(checkpoint(family), own, config.mprm)
    its = written_by(own)
    assert [len(rollout.token_ids) for rollout in its] != [len(rollout.token_ids) for rollout in rollouts]

    def same_scores() -> list[np.ndarray]:
        found, expected = (model.score(PROMPTS, read) for model, read in ((mprm, rollouts), (alone, its)))
        for one, other, rollout in zip(found, expected, rollouts, strict=True):
            assert one.scores.shape == (len(rollout.steps),)
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)
        return [entry.scores for entry in found]

    before = same_scores()
    for model, read in ((mprm, rollouts), (alone, its)):
        ones = [np.ones(len(rollout.steps)) for rollout in read]
        model.train([Annotated(p, r, StepCounts(n, n, 0)) for p, r, n in zip(PROMPTS, read, ones, strict=True)])
    after = same_scores()
    assert all((one > other).all() for one, other in zip(after, before, strict=True))


def test_the_policys_tokens_mean_nothing_to_another_vocabulary(checkpoint: Callable[[str], str]) -> None:
    with pytest.raises(
        ConfigError, match=r"mprm\.checkpoint: .* has another vocabulary .* chat or inline, which read t"
    ):
        check_mprm(another(checkpoint("gemma3"), "rollout"))


def test_a_saved_one_judges_beside_one_of_the_policys_own(
    checkpoint: Callable[[str], str], rollouts: list[Rollout], tmp_path: Path
) -> None:
    folder = checkpoint("internvl")
    saved = open_mprm(folder, Encoder(folder), another(folder, "chat").mprm)
    saved.save(tmp_path)
    config = Config.model_validate({"mprm": {"beside": [str(tmp_path)], "combine": [0, 1]}})
    check_mprm(config)
    expected = saved.score(PROMPTS, written_by(saved.encoder))
    for one, other in zip(build_mprm(config).score(PROMPTS, rollouts), expected, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


def test_a_chat_template_that_cannot_hold_the_format_is_refused_before_anything_starts(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint("qwen2_5_vl", tmp_path)
    (tmp_path / "chat_template.jinja").write_text(
        "{% for m in messages if m.role != 'system' %}{{ m.content[-1].text }}|{% endfor %}"
    )
    with pytest.raises(ConfigError, match=r"mprm\.input_format is 'chat': .* leaves out a system prompt"):
        check_mprm(another(folder, "chat"))


@pytest.mark.parametrize("input_format", ["chat", "inline"])
def test_a_question_that_spells_a_special_token_of_the_reader_is_refused(
    input_format: str, checkpoint: Callable[[str], str], rollouts: list[Rollout]
) -> None:
    mprm = build_mprm(another(checkpoint("gemma3"), input_format))
    forged = PROMPTS[0].__class__(**{**vars(PROMPTS[0]), "question": "Is it <start_of_image> red?"})
    with pytest.raises(PromptError, match="its question holds '<start_of_image>', a special token"):
        mprm.score([forged], rollouts[:1])
