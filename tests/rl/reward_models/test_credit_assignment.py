"""What the learner is given: truncated rollouts, separators, and the comparison of the algorithm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rewards.annotation.annotator import Continuation, Continued
from rewards.models.encoding import Encoder
from rewards.records import Completion, Experience, Rollout, StepScores
from rl.config import Config
from rl.config.learner import LearnerConfig
from rl.errors import ConfigError
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.reward_models.credit import make_credit
from tests.fixtures.builders import a_prompt, a_rollout, some_counts

ENCODER = Encoder(str(SHIPPED_POLICY))
GROUP = [
    a_rollout(outcome=1.0),
    a_rollout(outcome=0.0),
    a_rollout(outcome=0.0, finish_reason="length"),
    a_rollout(outcome=1.0),
]


def learned_from(rollouts: list[Rollout], counts: Any = (), **keys: Any) -> list[Experience]:
    config = Config(learner=LearnerConfig(**({"credit": "outcome"} | keys)))
    scores = [StepScores(np.linspace(0.5, 0.9, len(rollout.steps)), 0) for rollout in rollouts]
    prompts = [a_prompt(f"p{place}") for place in range(len(rollouts))]
    return make_credit(config, ENCODER.separators).experiences(prompts, rollouts, scores, counts)


def advantages(experiences: list[Experience]) -> list[float]:
    """The one that all tokens of a rollout have."""
    for experience in experiences:
        assert len(experience.advantages) == len(experience.token_ids) and len({*experience.advantages}) == 1
    return [experience.advantages[0] for experience in experiences]


def test_a_masked_rollout_counts_in_its_group_and_is_not_learned_from() -> None:
    all_of_them, masked = learned_from(GROUP), learned_from(GROUP, truncated="mask")
    assert [e.prompt.id for e in all_of_them] == ["p0", "p1", "p2", "p3"]
    assert [e.prompt.id for e in masked] == ["p0", "p1", "p3"]
    assert advantages(masked) == [value for place, value in enumerate(advantages(all_of_them)) if place != 2]


def test_a_step_of_truncated_rollouts_alone_teaches_nothing() -> None:
    cut = [replace(rollout, finish_reason="length") for rollout in GROUP]
    assert advantages(learned_from(cut)) != [0.0] * 4
    assert learned_from(cut, truncated="mask") == []


def test_a_penalty_lowers_the_reward_before_it_is_compared() -> None:
    penalised = learned_from(GROUP, truncated="penalise", truncation_penalty=0.5, scale_rewards="none")
    assert advantages(penalised) == pytest.approx(np.array([1, 0, -0.5, 1]) - 0.375)
    assert [e.token_ids for e in penalised] == [rollout.token_ids for rollout in GROUP]


def test_the_algorithm_compares() -> None:
    assert advantages(learned_from(GROUP, algorithm="rloo")) == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3])


def test_with_a_value_model_tokens_have_rewards() -> None:
    (right, *_) = learned_from(GROUP, algorithm="ppo")
    assert right.advantages.tolist() == [0, 0, 0, 0, 1]


def test_separators_can_go_without() -> None:
    tokens = ENCODER.tokenizer("1: red 1 0 = 1\n2: 1 + 1 = 2\nAnswer: 2", add_special_tokens=False)["input_ids"]
    written = a_rollout([len(tokens) - 1], tokens=tokens)
    separates = np.array([ENCODER.decode([token]) == "\n" for token in tokens])
    assert 0 < separates.sum() < len(tokens)
    rollouts = [written, replace(written, outcome=0.0)]
    kept, left_out = learned_from(rollouts), learned_from(rollouts, separator_advantages=False)
    for before, after in zip(kept, left_out, strict=True):
        assert before.advantages.all()
        assert after.advantages.tolist() == np.where(separates, 0, before.advantages).tolist()


def test_what_a_rule_waits_for() -> None:
    for credit, needs in (("monte_carlo", "counts"), ("progress", "scores"), ("outcome", "outcomes")):
        config = Config(learner=LearnerConfig(credit=credit))
        assert make_credit(config, ENCODER.separators).needs == needs
    ppo = Config(learner=LearnerConfig(algorithm="ppo", credit="outcome"))
    assert make_credit(ppo, ENCODER.separators).needs == "outcomes"


def test_a_rule_that_reads_counts_does_not_get_them_late() -> None:
    config = Config.model_validate({"annotation": {"delay": 1}, "learner": {"credit": "monte_carlo"}})
    with pytest.raises(ConfigError, match=r"^annotation\.delay is 1: allowed with learner\.credit monte_carlo, "):
        make_credit(config, ENCODER.separators)
    assert make_credit(Config.model_validate({"annotation": {"delay": 1}}), ENCODER.separators).needs == "scores"


def test_the_outcome_rule_says_the_same_before_the_scores_are_there() -> None:
    config = Config(learner=LearnerConfig(credit="outcome"))
    credit, prompts = make_credit(config, ENCODER.separators), [a_prompt()] * len(GROUP)
    scores = [StepScores(np.full(len(rollout.steps), 0.3), 0) for rollout in GROUP]
    before, after = credit.experiences(prompts, GROUP), credit.experiences(prompts, GROUP, scores)
    assert [e.advantages.tolist() for e in before] == [e.advantages.tolist() for e in after]


def test_counts_reach_the_rule_that_wants_them() -> None:
    sure = some_counts([8, 8]), some_counts([0, 0])
    told = learned_from(GROUP[:2], counts=sure, credit="monte_carlo")
    untold = learned_from(GROUP[:2], counts=[None, None], credit="monte_carlo")
    assert told[0].advantages[0] > untold[0].advantages[0]
    assert told[1].advantages[0] < untold[1].advantages[0]


def continued_from(tokens: int, *verdicts: bool | None) -> Continued:
    """The second rollout, with continuations of one token each."""
    samples = [
        Continuation(right, 1, 7, Completion((90 + place,), (-0.5,), "stop", 7)) for place, right in enumerate(verdicts)
    ]
    return Continued(1, tokens, samples)


@pytest.mark.parametrize(("budget", "gained"), [("fixed", [-0.5, 1]), ("first_success", [0, 1])])
@pytest.mark.parametrize("weight", [1, 0.25])
def test_continuations_are_learned_from_behind_their_prefixes(budget: str, gained: list[float], weight: float) -> None:
    learner = {"algorithm": "rloo", "continuation_weight": weight}
    config = Config.model_validate({"learner": learner, "annotation": {"budget": budget}})
    credit, prompts = make_credit(config, ENCODER.separators), [a_prompt(f"p{place}") for place in range(4)]
    continued = [continued_from(2, False, None, True), continued_from(4), continued_from(4, None)]
    wrong, right = credit.continued(prompts, GROUP, continued)
    rollout = GROUP[1]
    assert right.prompt is prompts[1] and right.policy_version == 7
    assert right.prefix == wrong.prefix == rollout.token_ids[:2]
    assert (wrong.token_ids, right.token_ids) == ((90,), (92,)) and right.sampler_logprobs == (-0.5,)
    # Of four rollouts two are right, and the mean of the others stretches what is centred by 4 / 3.
    assert wrong.advantages == pytest.approx([weight * gained[0] * 4 / 3])
    assert right.advantages == pytest.approx([weight * gained[1] * 4 / 3])


@pytest.mark.parametrize(("rule", "stretch"), [("min_form", 4 / 3), ("process", 3**0.5), ("monte_carlo", 1)])
def test_continuations_are_in_the_units_of_a_rule_that_compares_by_itself(rule: str, stretch: float) -> None:
    """Whatever the algorithm."""
    for algorithm in ("grpo", "rloo", "reinforce_pp"):
        learner = {"algorithm": algorithm, "credit": rule, "continuation_weight": 1}
        credit = make_credit(Config.model_validate({"learner": learner}), ENCODER.separators)
        (_, right) = credit.continued([a_prompt()] * 4, GROUP, [continued_from(2, False, True)])
        assert right.advantages == pytest.approx([stretch], rel=1e-3)


def test_a_rollout_that_was_cut_off_says_nothing_of_its_continuations() -> None:
    credit = make_credit(Config(learner=LearnerConfig(continuation_weight=1)), ENCODER.separators)
    cut = [replace(rollout, outcome=0.0, finish_reason="length") if place == 1 else rollout
           for place, rollout in enumerate(GROUP)]  # fmt: skip
    alike = credit.continued([a_prompt()] * 4, cut, [continued_from(2, True, True)])
    assert [entry.advantages.tolist() for entry in alike] == [[0.0], [0.0]], "its outcome of 0 is no verdict"


def test_continuations_with_an_image_placeholder_are_left_out() -> None:
    """They are judged, but no model could read them back."""
    credit = make_credit(Config(), ENCODER.separators, {91})
    (kept,) = credit.continued([a_prompt()] * 4, GROUP, [continued_from(2, True, False)])
    assert kept.token_ids[-1] == 90


def test_a_run_that_keeps_verdicts_alone_has_no_continuations_to_learn_from() -> None:
    credit = make_credit(Config(), ENCODER.separators)
    told = Continued(0, 2, [Continuation(True, 3, 0), Continuation(False, 3, 0)])
    assert credit.continued([a_prompt()], GROUP[:1], [told]) == []
