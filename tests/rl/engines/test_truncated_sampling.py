"""`engine.top_p`, `top_k` and `min_p`: both engines draw from what is kept, and the learner scores it so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rewards.models.encoding import Encoder
from rewards.records import Completion, Experience, SamplingRequest
from rl.config import Config
from rl.engines.making import build_engine
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.learning.learner import PolicyLearner
from rl.tasks.grid import GridTask
from tests.fixtures.learner_config import learner_config

pytestmark = pytest.mark.slow

TOLERANCE = 1e-3
CONFIG = learner_config(learning_rate=3e-3, correction="token_truncate", kl=0.01)
TRUNCATED = CONFIG.model_copy(
    update={
        "engine": CONFIG.engine.model_copy(
            # So hot that the shipped policy, which is sure of itself, has something to leave out.
            update={"temperature": 2.0, "top_k": 4, "top_p": 0.8, "min_p": 0.05, "max_model_len": 256}
        )
    }
)
Rows = list[tuple[SamplingRequest, Completion]]


def learner(config: Config) -> PolicyLearner:
    return PolicyLearner(str(SHIPPED_POLICY), Encoder(str(SHIPPED_POLICY)), config)


def largest_difference(learner: PolicyLearner, rows: Rows) -> float:
    """Between log-probabilities of the engine and of the learner, over all tokens."""
    scored = learner.logprobs([r.prompt for r, _ in rows], [(*r.prefix, *sample.token_ids) for r, sample in rows])
    return max(
        np.abs(np.array(values[len(request.prefix) :]) - np.array(sample.logprobs)).max()
        for values, (request, sample) in zip(scored, rows, strict=True)
    )


@pytest.mark.parametrize("kind", ["vllm", "hf"])
def test_what_is_drawn_is_scored_by_what_it_was_drawn_from(kind: str) -> None:
    config = TRUNCATED.model_copy(update={"engine": TRUNCATED.engine.model_copy(update={"kind": kind})})
    engine, scorer = build_engine(config), learner(config)
    prompts = [GridTask().prompt("heldout", index) for index in range(4)]

    def ask(requests: list[SamplingRequest]) -> Rows:
        answers = zip(requests, engine.sample(requests), strict=True)
        return [(request, sample) for request, samples in answers for sample in samples]

    rows = ask([SamplingRequest(prompt, n=4, seed=i) for i, prompt in enumerate(prompts)])
    # Monte-Carlo continuations, and beside them what has a temperature of its own.
    rows += ask([SamplingRequest(r.prompt, s.token_ids[:9], n=2, seed=i) for i, (r, s) in enumerate(rows[::4])])
    assert largest_difference(scorer, rows) < TOLERANCE
    for left_out in ({"top_k": 0}, {"top_p": 1.0}, {"min_p": 0.0}):
        other = config.model_copy(update={"engine": config.engine.model_copy(update=left_out)})
        assert largest_difference(learner(other), rows) > 10 * TOLERANCE, f"{left_out} would be seen"

    greedy = ask([SamplingRequest(prompt, temperature=0) for prompt in prompts])
    plain = learner(CONFIG)
    assert largest_difference(plain, greedy) < TOLERANCE, "at temperature 1, of all tokens"

    # A step far enough that some tokens would not be drawn any more.
    metrics = scorer.step(
        [
            Experience(request.prompt, s.token_ids, s.logprobs, np.full(len(s.token_ids), -1.0), 0)
            for request, s in rows
            if not request.prefix
        ]
    )
    assert all(np.isfinite(value) for name, value in metrics.items() if name != "flops_utilisation")
    assert metrics["importance_weight"] == pytest.approx(1, abs=TOLERANCE) and metrics["kl"] < TOLERANCE
    assert largest_difference(scorer, rows) > 10 * TOLERANCE
    engine.load_weights(scorer.weights(), 1)
    renewed = ask([replace(request, seed=9) for request, _ in rows[:4]])
    assert largest_difference(scorer, renewed) < TOLERANCE
    engine.close()
