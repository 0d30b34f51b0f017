"""What a policy's steps say, where the policy is a teacher, of whom all of it is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from rewards.models.encoding import Encoder
from rewards.records import Completion, SamplingRequest
from rewards.verification.verifiers import exact
from rl.evaluating.guided_search import Sampler
from rl.evaluating.policy_steps import PolicySteps, measure_steps
from rl.evaluating.strategy_views import print_steps
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.tasks.beliefs import BeliefsTask
from rl.tasks.grid_steps import result_of
from rl.tasks.teacher import next_results, teach
from rl.tasks.worlds import World
from rl.tiny_policy.tokenizer import END_OF_TURN

PROMPTS, TASK = 80, BeliefsTask()


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(str(SHIPPED_POLICY))


def teacher(world: World, encoder: Encoder, knows_better: bool) -> Sampler:
    """It says of a result how likely it is; with ``knows_better``, of a wrong one that it is unlikely."""

    def write(request: SamplingRequest, rng: np.random.Generator) -> Completion:
        puzzle = TASK.puzzle("heldout", int(request.prompt.id.split("/")[2]))
        begun = encoder.decode(request.prefix)
        text = teach(world, puzzle, rng, begun.splitlines())
        tokens = encoder.tokens(text[len(begun) :] + END_OF_TURN)
        said = [0.0] * len(tokens)
        places = [place for place, token in enumerate(tokens) if encoder.decode([token]) == "\n"]
        for step, place in enumerate(places):
            lines = text.splitlines()[: step + 1]
            results = next_results(world, puzzle, lines[:-1])[1]
            right = next(iter(results))
            chance = (
                results[result_of(lines[-1])] if not knows_better else 0.9 if result_of(lines[-1]) == right else 0.1
            )
            said[place] = float(np.log(chance))
        return Completion(tuple(tokens), tuple(said), "stop", 0)

    def sample(requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        return [[write(r, np.random.default_rng([r.seed, n])) for n in range(r.n)] for r in requests]

    return Sampler(sample, encoder, exact, 64)


def measured(world: World, encoder: Encoder, knows_better: bool = False) -> PolicySteps:
    prompts = [TASK.prompt("heldout", index) for index in range(PROMPTS)]
    return measure_steps(teacher(world, encoder, knows_better), TASK, prompts, continuations=8, seed=0)


def test_a_teachers_errors_are_not_unlikely_and_its_labels_are_wrong_both_ways(encoder: Encoder) -> None:
    found = measured(World("C"), encoder)
    assert (found.answers, found.continuations) == (PROMPTS, 8) and 4 * PROMPTS < found.steps < 6 * PROMPTS
    assert found.right_so_far < found.right < 0.9
    assert 0.35 < found.likelihood.cumulative < 0.68 and 0.35 < found.likelihood.own < 0.7
    assert 0 < found.likelihood.cumulative_standard_error < 0.1
    assert 0.08 < found.label_noise < 0.27 and found.false_positive > 0.1 and found.false_negative > 0.04


def test_where_a_wrong_step_is_an_unlikely_one_likelihood_tells_all(
    encoder: Encoder, capsys: pytest.CaptureFixture[str]
) -> None:
    found = measured(World("C"), encoder, knows_better=True)
    assert found.likelihood.own == 1 and found.likelihood.cumulative > 0.95
    print_steps(found)
    shown = capsys.readouterr().out
    assert f"{found.steps} steps of {PROMPTS} answers" in shown and "1.000 ±0.000" in shown
    assert found.to_json()["likelihood_own"] == 1 and found.to_json()["answers"] == PROMPTS
