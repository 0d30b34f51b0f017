"""Labelling beside the loop: whom it chooses, what it asks of whom, and what it tells in the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rewards.annotation.judge import Judge, Judgement
from rewards.annotation.judge_config import JudgeConfig
from rewards.records import Completion, Prompt, Rollout, SamplingRequest, StepScores
from rewards.verification.verifiers import exact
from rl.annotating.judging import make_judge
from rl.annotating.labelling import Labeller, Labelling, make_configured_budget
from rl.config import Config
from rl.loop import _offer
from rl.monitoring.metrics import StageClock
from rl.monitoring.report import Delivery, Labels
from rl.reward_models.lessons import Lessons
from rl.reward_models.mprm import AbsentMPRM
from rl.workers.pending import Ready
from selection.selectors import make_selector
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
    tell: Callable[[Prompt, int, int, int], None] = lambda *_: None,
    **annotation: Any,
) -> Labeller:
    config = Config.model_validate({"annotation": {"continuations": 2} | annotation})
    budget = make_configured_budget(config)
    return Labeller(config, budget, None, decode, exact, engines, AbsentMPRM(), looks_at_images, tell)


def a_step(size: int = 8) -> tuple[Delivery, list[StepScores]]:
    """The second rollout has no step."""
    rollouts = [a_rollout([] if place == 1 else [1, 2], prompt=str(place), group=place) for place in range(size)]
    scores = [StepScores(np.full(len(rollout.steps), place / size), 0) for place, rollout in enumerate(rollouts)]
    return Delivery([a_prompt(rollout.prompt_id) for rollout in rollouts], rollouts, {}, tokens=0), scores


def nothing_again(states: Sequence[dict[str, Any]]) -> Delivery:
    pytest.fail("nothing is under way")


def refuse_to_say(text: str) -> None:
    pytest.fail(text)


def test_a_share_is_labelled_and_the_others_are_not() -> None:
    batch, scores = a_step()
    engines, rollouts = AtOnce(), batch.rollouts
    labelling = a_labeller(engines, share=0.5).begin(5, batch, scores)
    assert len(engines.engine.rounds) == 1, "asked for as soon as it begins"
    labels = labelling.labels(5, 2.5, refuse_to_say)
    assert 0 < len(labels.places) <= 4 and list(labels.places) == sorted(set(labels.places) - {1})
    for place, entry, continuations in zip(labels.places, labels.annotated, labels.continuations, strict=True):
        assert entry.prompt is batch.prompts[place] and entry.rollout is rollouts[place]
        assert entry.counts.correct.tolist() == entry.counts.sampled.tolist() == [2, 2]
        assert entry.counts.policy_version == 3
        assert [[sample.right for sample in samples] for samples in continuations] == [[True] * 2] * 2
    assert [place for place, counts in enumerate(labelling.by_rollout()) if counts is not None] == list(labels.places)
    assert [(entry.rollout, entry.tokens) for entry in labelling.continued()] == [
        (place, span.end) for place in labels.places for span in rollouts[place].steps
    ]
    assert [entry.scores[0] for entry in labelling.scores] == [place / 8 for place in labels.places]
    assert (labels.cost.continuations, labels.cost.seconds) == (4 * len(labels.places), 2.5) and labels.metrics == {}


class SureOfWrong(Judge):
    """A judge that takes every step for wrong, at once."""

    def start(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> Future[Judgement]:
        answer: Future[Judgement] = Future()
        answer.set_result(Judgement([np.zeros(len(rollout.steps)) for rollout in rollouts], judged=len(rollouts)))
        return answer


Told = list[tuple[Prompt, int, int, int]]
"""What who chooses prompts is told: a prompt, right and wrong continuations of a first step, their policy version."""


def told_of(engines: AtOnce, batch: Delivery, scores: Sequence[StepScores], **annotation: Any) -> Told:
    told: Told = []
    labeller = a_labeller(engines, tell=lambda *entry: told.append(entry), **{"share": 1} | annotation)
    labeller.begin(0, batch, scores).labels(0, 0.0, refuse_to_say)
    return told


def test_who_chooses_prompts_is_told_what_came_out_right_and_not_what_a_judge_says() -> None:
    told: Told = []
    labeller = a_labeller(AtOnce(), tell=lambda *entry: told.append(entry), share=1)
    config = labeller.config.model_copy(update={"judge": JudgeConfig(rule="judge")})
    labeller = replace(labeller, config=config, judge=SureOfWrong(config.judge, decode))
    batch, scores = a_step()
    labels = labeller.begin(0, batch, scores).labels(0, 0.0, refuse_to_say)
    assert all(not entry.counts.correct.any() for entry in labels.annotated)
    assert told == [(prompt, 2, 0, 3) for place, prompt in enumerate(batch.prompts) if place != 1]


@pytest.mark.parametrize("share_prefixes", [False, True])
def test_of_rollouts_that_begin_alike_who_chooses_prompts_is_told_once(share_prefixes: bool) -> None:
    prompt = a_prompt("0")
    rollouts = [a_rollout([1, 1], prompt="0", tokens=tokens) for tokens in ([4, 5], [4, 6], [7, 5])]
    scores = [StepScores(np.zeros(2), 0)] * 3
    told = told_of(AtOnce(), Delivery([prompt] * 3, rollouts, {}, 0), scores, share_prefixes=share_prefixes)
    assert told == [(prompt, 2 if share_prefixes else 4, 0, 3), (prompt, 2, 0, 3)], "all that was drawn of each"


def test_who_chooses_prompts_is_told_what_was_drawn_and_not_what_counts() -> None:
    """Outcomes, which it knows, may count as continuations do; a search that has been right skips what comes before."""
    engines = AtOnce()
    engines.engine = SimulatedEngine(lambda request: float(len(request.prefix) > 1), version=3)
    batch, scores = a_step()
    told = told_of(engines, batch, scores, outcome_weight=1)
    assert told == [(prompt, 0, 2, 3) for place, prompt in enumerate(batch.prompts) if place != 1]
    assert told_of(engines, batch, scores, first_error="search") == []


def test_who_chooses_prompts_is_told_of_the_probe_of_a_triage_too() -> None:
    batch, scores = a_step()
    told = told_of(AtOnce(), batch, scores, budget="triage", probe=1)
    assert [prompt for prompt, *_ in told] == [prompt for place, prompt in enumerate(batch.prompts) if place != 1]
    assert sorted((right, wrong) for _, right, wrong, _ in told) == [(1, 0)] * 6 + [(2, 0)], "a quarter has both"


def test_another_step_labels_others_and_the_same_step_the_same() -> None:
    chosen = [
        tuple(a_labeller(AtOnce(), share=0.5).begin(step, *a_step(40)).labels(0, 0.0, refuse_to_say).places)
        for step in (1, 1, 2)
    ]
    assert chosen[0] == chosen[1] != chosen[2]


def test_a_step_of_which_nothing_is_to_be_labelled_asks_for_nothing() -> None:
    engines = AtOnce()
    labelling = a_labeller(engines, share=0).begin(0, *a_step())
    labels = labelling.labels(0, 0.0, refuse_to_say)
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
    labeller.restore(state, (), nothing_again)  # a run that goes on without its judge
    judged.restore(None, (), nothing_again)  # one that has a judge from here on
    judged.restore(state, (), nothing_again)
    assert judged.state() == state


def a_believed_step() -> tuple[Delivery, list[StepScores]]:
    """Wrong answers alike, each alone in its group, to a prompt that is nearly always right and to others."""
    batch, scores = a_step()
    rollouts = [replace(rollout, outcome=0.0) for rollout in batch.rollouts]
    believed = np.array([[60.0, 4.0] if place == 4 else [1.0, 40.0] for place in range(len(rollouts))])
    return replace(batch, rollouts=rollouts, believed=believed), scores


TRIAGE = {"budget": "triage", "probe": 0, "triage_ratio": 0.2, "share": 1}


def test_a_triage_knows_what_was_believed_of_prompts() -> None:
    batch, scores = a_believed_step()
    labelling = a_labeller(AtOnce(), **TRIAGE).begin(0, batch, scores)
    labels = labelling.labels(0, 0.0, refuse_to_say)
    assert [entry.prompt.id for entry in labels.annotated if entry.counts.sampled.any()] == ["4"]
    assert labelling.chance is not None and labelling.chance.tolist() == [
        60 / 64 if place == 4 else 1 / 41 for place in labels.places
    ]
    labelling = a_labeller(AtOnce(), **TRIAGE).begin(0, replace(batch, believed=None), scores)
    labels = labelling.labels(0, 0.0, refuse_to_say)
    assert [entry.prompt.id for entry in labels.annotated if entry.counts.sampled.any()] == ["0"], "the first of equals"
    assert labelling.chance is None


def test_a_triage_under_way_knows_it_after_an_interruption_too() -> None:
    labeller = a_labeller(AtOnce(), delay=1, **TRIAGE)
    state = json.loads(json.dumps(labeller.begin(0, *a_believed_step()).state()))
    (whole,) = labeller.rest()
    expected = told(whole.labels(1, 0.0, refuse_to_say))
    batch, _ = a_believed_step()
    again = Labelling.restore(labeller, state, lambda groups: batch)
    assert told(again.labels(1, 0.0, refuse_to_say)) == expected
    with pytest.raises(ValueError, match="answers to other requests than its own"):  # it would choose others
        Labelling.restore(labeller, state, lambda groups: replace(batch, believed=None))


def test_the_selector_is_told_what_was_believed_of_prompts() -> None:
    """By the loop; of prompts that were asked in order it is told nothing."""
    found = []
    batch, scores = a_believed_step()
    for each in (batch, replace(batch, believed=None)):
        labeller = a_labeller(AtOnce(), share=1)
        config = Config.model_validate({"selection": {"selector": "bis_posterior"}})
        parts: Any = SimpleNamespace(lessons=Lessons(config))
        monitor: Any = SimpleNamespace(say=refuse_to_say)
        labels, offer = _offer(parts, labeller.begin(0, each, scores), 0, StageClock(), monitor)
        select = make_selector("bis_posterior", config.selection)
        assert offer.informative.tolist() == select(offer.candidates).tolist()
        told_of = None if each.believed is None else each.believed[list(labels.places)]
        expected = None if told_of is None else (told_of[:, 0] / told_of.sum(1)).tolist()
        assert (None if offer.candidates.chance is None else offer.candidates.chance.tolist()) == expected
        found.append(offer.informative)
    assert (found[0] != found[1]).all() and len(set(found[1])) == 1 < len(set(found[0]))


def a_late_labeller() -> tuple[AtOnce, Labeller]:
    """Its labels come two steps late, in up to five rounds, with the verdicts of a judge."""
    engines = AtOnce()
    labeller = a_labeller(engines, share=1, delay=2, budget="first_success", continuations=5)
    return engines, replace(labeller, judge=SureOfWrong(JudgeConfig(), decode))


def labels_of(step: int, engines: AtOnce, labeller: Labeller) -> Labels:
    """What a policy step gets, whose weights have taken so many steps before; with the next ones, labels go on."""
    engines.engine = SimulatedEngine(lambda request: 0.3, version=step)
    labeller.begin(step, *a_step())
    labels = labeller.due(step).labels(step, 0.0, refuse_to_say)
    assert len(engines.engine.rounds[0]) == 14, "the step's own, of every step of every rollout"
    engines.engine = SimulatedEngine(lambda request: 0.3, version=step + 1)
    labeller.advance()
    return labels


def test_late_labels_are_of_an_earlier_step_and_say_which_weights_sampled_them() -> None:
    engines, labeller = a_late_labeller()
    for step in range(5):
        labels = labels_of(step, engines, labeller)
        if step < 2:
            assert not labels.annotated and labels.metrics.get("annotation/age") is None
            continue
        assert labels.step == step - 2 and labels.metrics["annotation/age"] == 2
        assert {entry.counts.policy_version for entry in labels.annotated} == {step - 2}
        drawn = [[sample.policy_version for sample in samples] for each in labels.continuations for samples in each]
        assert all(versions == [step - 2, step - 1, *[step] * 3][: len(versions)] for versions in drawn)
        versions = np.concatenate(drawn)
        assert labels.metrics["annotation/newer_weights"] == np.mean(versions > step - 2) > 0
    assert [labelling.labels(5, 0.0, refuse_to_say).step for labelling in labeller.rest()] == [3, 4]
    assert not labeller.under_way


def told(labels: Labels) -> object:
    """All that a step gets, but arrays as lists."""
    counts = [(e.counts.correct.tolist(), e.counts.sampled.tolist(), e.counts.policy_version) for e in labels.annotated]
    scores = [entry.scores.tolist() for entry in labels.scores]
    return labels.step, scores, labels.places, counts, labels.continuations, labels.cost, str(labels.metrics)


def test_labels_under_way_go_on_after_an_interruption_as_if_there_had_been_none() -> None:
    engines, labeller = a_late_labeller()
    interrupted_engines, interrupted = a_late_labeller()
    for step in range(6):
        expected = told(labels_of(step, engines, labeller))
        assert told(labels_of(step, interrupted_engines, interrupted)) == expected
        states = json.loads(json.dumps([labelling.state() for labelling in interrupted.under_way]))
        interrupted_engines, interrupted = a_late_labeller()
        interrupted.restore(None, states, lambda groups: a_step()[0])
        assert not interrupted_engines.engine.rounds, "no later weights could sample them again"


def test_labels_under_way_go_on_whatever_the_verifier_would_say_now() -> None:
    """One that draws its verdicts, as a model may: whether a step is asked again depends on them."""
    drawn = np.random.default_rng(0)

    def whims(completion: str, reference: str) -> bool:
        return bool(drawn.random() < 0.4)

    _, labeller = a_late_labeller()
    labeller = replace(labeller, verifier=whims)
    labelling = labeller.begin(0, *a_step())
    for _ in range(3):
        labelling.advance()
    state = json.loads(json.dumps(labelling.state()))
    again = Labelling.restore(labeller, state, lambda groups: a_step()[0])
    assert again._annotation.continuations() == labelling._annotation.continuations()
    assert len(state["judged"]) == 3 and len(state["answers"]) == 4, "the last round is under way"
    again.labels(2, 0.0, refuse_to_say)


def test_a_checkpoint_waits_for_the_judge_as_long_as_the_run_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl.annotating.judging.GRACE", 0)
    _, labeller = a_late_labeller()
    config = labeller.config.model_copy(update={"judge": JudgeConfig(deadline=60)})
    slow: Future[Judgement] = Future()
    labeller = replace(labeller, config=config, judge=SimpleNamespace(start=lambda prompts, rollouts: slow))
    labelling = labeller.begin(0, *a_step())
    Timer(0.2, lambda: slow.set_result(Judgement([np.ones(2)], judged=1))).start()
    assert labelling.state()["verdicts"]["verdicts"] == [[1.0, 1.0]]


def test_answers_that_nobody_asked_for_are_refused() -> None:
    _, labeller = a_late_labeller()
    labeller.begin(0, *a_step())
    state = labeller.under_way[0].state()
    for answers in ([state["answers"][0][1:]], [*state["answers"], *[[]] * 9]):
        with pytest.raises(ValueError, match="answers to other requests than its own"):
            Labelling.restore(labeller, state | {"answers": answers}, lambda groups: a_step()[0])
    elsewhere = [*state["asked"][0][1:], (0, 5)]
    with pytest.raises(ValueError, match="answers to other requests than its own"):
        Labelling.restore(labeller, state | {"asked": [elsewhere]}, lambda groups: a_step()[0])


def test_a_selector_that_looks_at_images_may_come_while_labels_are_under_way() -> None:
    _, labeller = a_late_labeller()
    state = labeller.begin(0, *a_step()).state()
    assert state["entropy"] is None
    looking = replace(labeller, looks_at_images=True)
    entropy = Labelling.restore(looking, state, lambda groups: a_step()[0]).entropy()
    assert entropy is not None and len(entropy) == len(state["chosen"])
