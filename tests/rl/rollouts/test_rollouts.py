"""Rollouts from completions: what is dropped, and what each record says."""

from __future__ import annotations

import pytest

from rewards.models.encoding import Encoder
from rewards.records import Completion
from rewards.verification.verifiers import exact
from rl.errors import UnreadableRolloutsError
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.rollouts.making import make_rollouts, rollout_requests
from rl.tasks.grid import GridTask
from rl.tasks.grid_steps import demonstrate

ENCODER = Encoder(str(SHIPPED_POLICY))
TASK = GridTask()


def written(text: str, version: int = 3) -> Completion:
    tokens = tuple(ENCODER.tokenizer(text, add_special_tokens=False)["input_ids"])
    return Completion((*tokens, ENCODER.end_token), (-0.5,) * (len(tokens) + 1), "stop", version)


def test_a_right_and_a_wrong_answer() -> None:
    prompt = TASK.prompt("train", 0)
    right = demonstrate(TASK.puzzle("train", 0))
    wrong = right.rpartition(" ")[0] + " 199"
    rollouts = make_rollouts([prompt], [[written(right), written(wrong)]], ENCODER, exact, first_group=7)
    assert [rollout.outcome for rollout in rollouts] == [1.0, 0.0]
    assert [rollout.group for rollout in rollouts] == [7, 7]
    for rollout in rollouts:
        assert (rollout.prompt_id, rollout.source, rollout.policy_version) == (prompt.id, prompt.source, 3)
        lines = [ENCODER.decode(rollout.token_ids[span.start : span.end]) for span in rollout.steps]
        assert "".join(lines) + f"Answer: {rollout.text.rpartition(' ')[2]}" == rollout.text
        assert len(lines) == len(right.splitlines()) - 1


def test_a_rollout_with_an_image_placeholder_is_dropped() -> None:
    prompt = TASK.prompt("train", 1)
    unreadable = Completion((*written("1:").token_ids[:-1], min(ENCODER.placeholders)), (-0.5, -9.0), "length", 0)
    assert len(make_rollouts([prompt], [[unreadable, written("Answer: 1")]], ENCODER, exact)) == 1
    with pytest.raises(UnreadableRolloutsError, match="1 prompts"):
        make_rollouts([prompt], [[unreadable, unreadable]], ENCODER, exact)


def test_seeds_depend_on_the_prompt_and_the_step() -> None:
    prompts = [TASK.prompt("train", index) for index in range(4)]
    seeds = [request.seed for step in range(3) for request in rollout_requests(prompts, 2, 0, "rollout", step)]
    assert len(set(seeds)) == 12
