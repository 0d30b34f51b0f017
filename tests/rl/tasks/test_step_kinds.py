"""The embedded task's markers: what its own policy writes is of the kind that it should be of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import rl
from rl.config import load_config
from rl.engines.making import build_engine
from rl.files.named_checkpoint import make_encoder
from rl.rollouts.making import make_rollouts, rollout_requests
from rl.tasks.making import make_task
from rl.tasks.task import KnowsSteps

CONFIGS = Path(rl.__file__).parent.parent / "configs"


@pytest.mark.parametrize("name", ["quickstart", "smoke"])
def test_counting_is_perception_and_the_rest_is_reasoning(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml", ["engine.kind=hf"])
    encoder, task = make_encoder(config), make_task(config)
    prompts = [task.prompt("train", index) for index in range(48)]
    samples = build_engine(config).sample(rollout_requests(prompts, 4, config.seed, name))
    rollouts = make_rollouts(prompts, samples, encoder, lambda text, answer: True)

    assert isinstance(task, KnowsSteps)
    kinds: Counter[tuple[str, str]] = Counter()
    for rollout in rollouts:
        steps = [encoder.decode(rollout.token_ids[span.start : span.end]).strip() for span in rollout.steps]
        truths = task.step_truth(prompts[rollout.group], steps)
        for span, truth in zip(rollout.steps, truths, strict=True):
            operation = truth.kind.partition(":")[2]
            kinds[("perception" if operation == "count" else "reasoning", span.kind)] += 1
    # What the policy writes in another order than it should is of the kind that it reads like; that is rare.
    assert kinds["perception", "perception"] > 300 and kinds["reasoning", "reasoning"] > 300
    astray = kinds.total() - kinds["perception", "perception"] - kinds["reasoning", "reasoning"]
    assert astray <= 0.01 * kinds.total()


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("1: red 1 0 1 = 2\n2: square 0 1 1 = 2\n3: 2 * 4 = 8\n4: 2 + 1 = 3\n5: 8 vs 3 = A\nAnswer: A", "pprrr"),
        ("1: red 1 0 1 = 2\n2: 2 mod 2 = 0\n3: blue 1\nAnswer: 0", "prp"),
        ("1: red\n= 2\n2:\n3: 2\n = 8", "ppprr"),
        ("7 + 1\n1: red 1 0 1 = 2", " p"),
    ],
    ids=["compare", "another order", "broken lines keep the last kind", "before any marker there is none"],
)
def test_right_and_broken_lines(text: str, kinds: str) -> None:
    encoder = make_encoder(load_config(CONFIGS / "quickstart.yaml"))
    found = [(span.kind or " ")[0] for span in encoder.steps(encoder.tokens(text))]
    assert "".join(found) == kinds
