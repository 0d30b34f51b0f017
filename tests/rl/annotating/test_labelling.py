"""Labelling beside the loop: whom it chooses, what it asks of whom, and what it tells in the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewards.annotation.judge import Judge, Judgement
from rewards.annotation.judge_config import JudgeConfig
from rewards.records import Annotated, Completion, Prompt, Rollout, SamplingRequest, StepScores
from rewards.verification.verifiers import exact
from rl.annotating.judging import make_judge
from rl.annotating.labelling import Labeller, make_configured_budget
from rl.config import Config
from rl.reward_models.mprm import AbsentMPRM
from rl.workers.pending import Ready
from tests.fixtures.builders import a_prompt, a_rollout
from tests.fixtures.simulated_engine import SimulatedEngine, decode


class AtOnce:
    """Engines that have answered as soon as they are asked; every continuation comes out right."""

    def __init__(self) -> None:
        self.engine = SimulatedEngine(lambda request: 1.0, version=3)

    def sample(self, requests: Sequence[SamplingRequest]) -> Ready[list[list[Completion]]]:
        return Ready(self.engine.sample(requests))


def a_labeller(
    engines: AtOnce,
    looks_at_images: bool = False,
    tell: Callable[[Sequence[Annotated]], None] = list,
    **annotation: Any,
) -> Labeller:
    config = Config.model_validate({"annotation": {"continuations": 2} | annotation})
    budget = make_configured_budget(config)
    return Labeller(config, budget, None, decode, exact, engines, AbsentMPRM(), looks_at_images, tell)


def a_step(size: int = 8) -> tuple[list[Prompt], list[Rollout], list[StepScores]]:
    """The second rollout has no step."""
    rollouts = [a_rollout([] if place == 1 else [1, 2], prompt=str(place), group=place) for place in range(size)]
    scores = [StepScores(np.full(len(rollout.steps), place / size), 0) for place, rollout in enumerate(rollouts)]
    return [a_prompt(rollout.prompt_id) for rollout in rollouts], rollouts, scores


def refuse_to_say(text: str) -> None:
    pytest.fail(text)


def test_a_share_is_labelled_and_the_others_are_not() -> None:
    prompts, rollouts, scores = a_step()
    engines = AtOnce()
    told: list[Annotated] = []
    labelling = a_labeller(engines, tell=told.extend, share=0.5).begin(5, prompts, rollouts, scores)
    assert len(engines.engine.rounds) == 1, "asked for as soon as it begins"
    labels = labelling.labels(2.5, refuse_to_say)
    assert told == labels.annotated, "prompts are chosen by them, too"
    assert 0 < len(labels.places) <= 4 and list(labels.places) == sorted(set(labels.places) - {1})
    for place, entry, continuations in zip(labels.places, labels.annotated, labels.continuations, strict=True):
        assert entry.prompt is prompts[place] and entry.rollout is rollouts[place]
        assert entry.counts.correct.tolist() == entry.counts.sampled.tolist() == [2, 2]
        assert entry.counts.policy_version == 3
        assert [[sample.right for sample in samples] for samples in continuations] == [[True] * 2] * 2
    assert [place for place, counts in enumerate(labelling.by_rollout()) if counts is not None] == list(labels.places)
    assert [(entry.rollout, entry.tokens) for entry in labelling.continued()] == [
        (place, span.end) for place in labels.places for span in rollouts[place].steps
    ]
    assert [entry.scores[0] for entry in labelling.scores] == [place / 8 for place in labels.places]
    assert (labels.cost.continuations, labels.cost.seconds) == (4 * len(labels.places), 2.5) and labels.judge == {}


class SureOfWrong(Judge):
    """A judge that takes every step for wrong, at once."""

    def start(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> Future[Judgement]:
        answer: Future[Judgement] = Future()
        answer.set_result(Judgement([np.zeros(len(rollout.steps)) for rollout in rollouts], judged=len(rollouts)))
        return answer


def test_who_chooses_prompts_is_told_what_came_out_right_and_not_what_a_judge_says() -> None:
    told: list[Annotated] = []
    labeller = a_labeller(AtOnce(), tell=told.extend, share=1)
    config = labeller.config.model_copy(update={"judge": JudgeConfig(rule="judge")})
    labeller = replace(labeller, config=config, judge=SureOfWrong(config.judge, decode))
    labels = labeller.begin(0, *a_step()).labels(0.0, refuse_to_say)
    assert all(not entry.counts.correct.any() for entry in labels.annotated)
    assert len(told) == 7 and all(entry.counts.correct.all() for entry in told)


def test_another_step_labels_others_and_the_same_step_the_same() -> None:
    chosen = [
        tuple(a_labeller(AtOnce(), share=0.5).begin(step, *a_step(40)).labels(0.0, refuse_to_say).places)
        for step in (1, 1, 2)
    ]
    assert chosen[0] == chosen[1] != chosen[2]


def test_a_step_of_which_nothing_is_to_be_labelled_asks_for_nothing() -> None:
    engines = AtOnce()
    labelling = a_labeller(engines, share=0).begin(0, *a_step())
    labels = labelling.labels(0.0, refuse_to_say)
    assert not any(engines.engine.rounds) and not labels.annotated and labelling.by_rollout() == [None] * 8


def test_the_entropy_of_images_is_known_where_somebody_wants_to_know() -> None:
    assert a_labeller(AtOnce(), share=1).begin(0, *a_step()).entropy() is None
    entropy = a_labeller(AtOnce(), looks_at_images=True, share=1).begin(0, *a_step()).entropy()
    assert entropy is not None and entropy.shape == (7,)


def test_the_state_is_the_judges(tmp_path: Path) -> None:
    labeller = a_labeller(AtOnce())
    assert labeller.state() is None
    config = Config.model_validate({"judge": {"endpoint": "http://127.0.0.1:1/v1", "model": "m"}})
    judge = make_judge(config, decode, tmp_path)
    assert judge is not None
    judged = Labeller(config, labeller.budget, judge, decode, exact, AtOnce(), AbsentMPRM(), False, list)
    state = judged.state()
    assert state is not None and state == judge.state()
    labeller.restore(state)  # a run that goes on without its judge
    judged.restore(None)  # one that has a judge from here on
    judged.restore(state)
    assert judged.state() == state
