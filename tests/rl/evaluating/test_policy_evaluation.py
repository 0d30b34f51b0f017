"""Every strategy at once, with the shipped policy and judges that know the truth, the outcome, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from rewards.measuring.strategies import OF_THEIR_OWN, STRATEGIES, WITHOUT_JUDGE, aggregate, pass_rate, vote
from rewards.models.encoding import Encoder
from rewards.records import Completion, Prompt, Rollout, SamplingRequest, StepScores
from rewards.verification.answers import vote_reader
from rewards.verification.verifiers import exact
from rl.engines.hf_engine import HfEngine
from rl.evaluating.guided_search import Sampler, as_one_step, one_shot_scores, step_scores
from rl.evaluating.strategies import (
    Plan,
    PolicyEvaluator,
    PromptRecord,
    Seconds,
)
from rl.evaluating.strategy_report import Point, StrategyReport, evaluate_strategies, make_report
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.tasks.grid import GridTask
from tests.fixtures.builders import a_prompt, a_rollout
from tests.fixtures.grid_judges import nobody, outcome_of, truthful

pytestmark = pytest.mark.slow

CHECKPOINT, PROMPTS, NUMBERS = str(SHIPPED_POLICY), 20, (1, 2, 3, 8)
JUDGES = ("truth", "outcome", "same")


def says_the_same(prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[StepScores]:
    return [StepScores(np.full(len(rollout.steps), 0.5), 0) for rollout in rollouts]


@pytest.fixture(scope="module")
def task() -> GridTask:
    return GridTask()


@pytest.fixture(scope="module")
def prompts(task: GridTask) -> list[Prompt]:
    return [task.prompt("heldout", index) for index in range(PROMPTS)]


@pytest.fixture(scope="module")
def evaluator(task: GridTask) -> PolicyEvaluator:
    encoder = Encoder(CHECKPOINT)
    sampler = Sampler(HfEngine(CHECKPOINT, batch_size=256).sample, encoder, exact, 64)
    judges = {"truth": truthful(task, encoder), "outcome": outcome_of, "same": says_the_same}
    return PolicyEvaluator(Plan(STRATEGIES, NUMBERS, seed=3), sampler, vote_reader("exact", exact), judges)


@pytest.fixture(scope="module")
def evaluated(evaluator: PolicyEvaluator, prompts: list[Prompt]) -> tuple[list[PromptRecord], Seconds]:
    return evaluator.evaluate(prompts)


@pytest.fixture(scope="module")
def report(evaluator: PolicyEvaluator, evaluated: tuple[list[PromptRecord], Seconds]) -> StrategyReport:
    return make_report(evaluator.plan, JUDGES, *evaluated)


def test_a_report_can_be_had_in_one_call(
    evaluator: PolicyEvaluator, evaluated: tuple[list[PromptRecord], Seconds], prompts: list[Prompt]
) -> None:
    alone = replace(evaluator, plan=Plan(("greedy", "majority"), (2,), seed=3), judges={})
    report = evaluate_strategies(alone, prompts)
    greedy = np.mean([record.greedy.right for record in evaluated[0] if record.greedy is not None])
    assert report.metrics().keys() == {"policy/strategies/greedy/1", "policy/strategies/majority/2"}
    assert report.metrics()["policy/strategies/greedy/1"] == pytest.approx(greedy)


def point(report: StrategyReport, strategy: str, judge: str, n: int) -> Point:
    (found,) = (p for p in report.points if (p.strategy, p.judge, p.n) == (strategy, judge, n))
    return found


def test_records_hold_what_was_sampled_and_said(
    evaluated: tuple[list[PromptRecord], Seconds], prompts: list[Prompt]
) -> None:
    records, seconds = evaluated
    for prompt, record in zip(prompts, records, strict=True):
        assert (record.prompt, record.source) == (prompt.id, prompt.source)
        assert len(record.pool) == len({id(sample) for sample in record.pool}) == 8
        assert len({sample.text for sample in record.pool}) > 1, "samples of a prompt must not repeat one another"
        for sample in [*record.pool, record.greedy]:
            assert sample is not None
            assert sample.right == exact(sample.text, prompt.answer) == (sample.answer == prompt.answer)
            assert 10 < sample.tokens <= 64
        assert record.step_scores["outcome"] == [[float(sample.right)] for sample in record.pool]
        assert {score for scores in record.step_scores["same"] for score in scores} == {0.5}
        assert record.one_shot["same"] == [0.5] * 8
        assert list(record.guided["truth"]) == list(NUMBERS)
    expected = {"pool", "greedy"} | {f"{what} {name}" for what in ("steps", "one_shot") for name in JUDGES}
    assert seconds.keys() == expected | {f"guided {name} {n}" for name in JUDGES for n in NUMBERS}
    assert msgspec.json.decode(msgspec.json.encode(records), type=list[PromptRecord]) == records


def test_every_point_is_the_share_of_right_answers_counted_slowly(
    report: StrategyReport, evaluated: tuple[list[PromptRecord], Seconds]
) -> None:
    records, _ = evaluated
    right = [[sample.right for sample in record.pool] for record in records]
    for n in NUMBERS:
        passed = np.mean([pass_rate(pool, n) for pool in right])
        assert point(report, "pass", "", n).accuracy.value == pytest.approx(passed)
        voted, chosen = [], []
        for record in records:
            for start in range(0, 8 - n + 1, n):
                run = record.pool[start : start + n]
                voted.append((record.prompt, run[vote([sample.answer for sample in run])].right))
                means = [aggregate(scores, "mean") for scores in record.step_scores["truth"][start : start + n]]
                chosen.append((record.prompt, run[means.index(max(means))].right))
        assert point(report, "majority", "", n).accuracy.value == pytest.approx(np.mean([good for _, good in voted]))
        mean = point(report, "best_of_n_mean", "truth", n).accuracy
        assert mean.value == pytest.approx(np.mean([good for _, good in chosen]))
        assert mean == point(report, "step_aggregation", "truth", n).accuracy
    greedy = [record.greedy.right for record in records if record.greedy is not None]
    assert point(report, "greedy", "", 1).accuracy.value == pytest.approx(np.mean(greedy))


def test_a_judge_of_outcomes_that_is_never_wrong_finds_what_can_be_found(report: StrategyReport) -> None:
    passed = point(report, "pass", "", 8).accuracy.value
    for strategy in ("best_of_n_mean", "best_of_n_min", "best_of_n_last", "weighted_majority", "one_shot"):
        assert point(report, strategy, "outcome", 8).accuracy.value == passed


def test_a_judge_without_an_opinion_gives_the_first_sample(
    report: StrategyReport, evaluated: tuple[list[PromptRecord], Seconds]
) -> None:
    first = np.mean([record.pool[0].right for record in evaluated[0]])
    for strategy in ("best_of_n_mean", "best_of_n_min", "best_of_n_max", "one_shot"):
        assert point(report, strategy, "same", 8).accuracy.value == pytest.approx(first)
    majority = point(report, "majority", "", 8).accuracy.value
    assert point(report, "weighted_majority", "same", 8).accuracy.value == majority


def test_the_truth_about_steps_beats_the_majority(report: StrategyReport) -> None:
    for n in (2, 3):
        best, majority = point(report, "best_of_n_min", "truth", n), point(report, "majority", "", n)
        assert best.accuracy.value > majority.accuracy.value
    difference = report.difference(point(report, "best_of_n_min", "truth", 2), point(report, "majority", "", 2))
    assert difference is not None and 0 < difference.low < difference.value < difference.high


def test_costs_are_those_of_all_samples(report: StrategyReport, evaluated: tuple[list[PromptRecord], Seconds]) -> None:
    records, seconds = evaluated
    pool = np.mean([sample.tokens for record in records for sample in record.pool])
    for n in NUMBERS:
        assert point(report, "majority", "", n).tokens == pytest.approx(n * pool)
        assert point(report, "one_shot", "truth", n).tokens == pytest.approx(n * pool)
        guided = np.mean([record.guided["truth"][n].tokens for record in records])
        assert point(report, "guided_greedy", "truth", n).tokens == pytest.approx(guided)
    assert point(report, "majority", "", 8).seconds == pytest.approx(seconds["pool"] / PROMPTS)
    judged = (seconds["pool"] + seconds["steps truth"]) / PROMPTS
    assert point(report, "best_of_n_min", "truth", 2).seconds == pytest.approx(judged * 2 / 8)
    assert point(report, "guided_greedy", "truth", 2).seconds == pytest.approx(seconds["guided truth 2"] / PROMPTS)


def test_points_of_one_n_are_compared_and_greedy_with_all(report: StrategyReport) -> None:
    majority, passed = point(report, "majority", "", 8), point(report, "pass", "", 8)
    there, back = report.difference(passed, majority), report.difference(majority, passed)
    assert there is not None and back is not None
    assert there.value == pytest.approx(passed.accuracy.value - majority.accuracy.value) == -back.value
    assert (there.low, there.high) == (-back.high, -back.low) and there.low >= 0
    assert report.difference(passed, point(report, "majority", "", 2)) is None
    assert report.difference(point(report, "majority", "", 2), point(report, "greedy", "", 1)) is not None


def test_json_and_metrics_say_what_the_points_say(report: StrategyReport) -> None:
    content = msgspec.json.decode(msgspec.json.encode(report.as_json()))
    judged, alone = len(set(STRATEGIES) - WITHOUT_JUDGE), len(WITHOUT_JUDGE - {"greedy"})
    assert len(content["results"]) == len(report.points) == 4 * (3 * judged + alone) + 1
    for row, entry in zip(content["results"], report.points, strict=True):
        assert (row["strategy"], row["judge"], row["n"]) == (entry.strategy, entry.judge, entry.n)
        assert row["low"] <= row["accuracy"] == entry.accuracy.value <= row["high"]
        assert row["tokens"] == entry.tokens and row["seconds"] == entry.seconds
    (row,) = (
        row
        for row in content["differences"]
        if (row["strategy"], row["judge"], row["against"], row["n"]) == ("best_of_n_min", "truth", "majority", 8)
    )
    found = report.difference(point(report, "best_of_n_min", "truth", 8), point(report, "majority", "", 8))
    assert found is not None and (row["difference"], row["low"], row["high"]) == (found.value, found.low, found.high)
    assert report.metrics()["policy/strategies/majority/8"] == point(report, "majority", "", 8).accuracy.value


def test_only_what_the_plan_needs_is_sampled_and_judged(evaluator: PolicyEvaluator, prompts: list[Prompt]) -> None:
    asked: list[SamplingRequest] = []

    def listen(requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        asked.extend(requests)
        return evaluator.sampler.sample(requests)

    def evaluate(*strategies: str) -> tuple[list[PromptRecord], Seconds]:
        asked.clear()
        plan = Plan(tuple(name for name in STRATEGIES if name in strategies), (1, 2))
        sampler = replace(evaluator.sampler, sample=listen)
        return replace(evaluator, plan=plan, sampler=sampler, judges={"nobody": nobody}).evaluate(prompts[:2])

    records, seconds = evaluate("greedy")
    assert [(request.n, request.temperature) for request in asked] == [(1, 0.0)] * 2
    assert seconds.keys() == {"greedy"} and records[0].pool == [] and records[0].guided == {}
    records, seconds = evaluate("pass", "majority")
    assert [(request.n, request.temperature) for request in asked] == [(2, None)] * 2
    assert seconds.keys() == {"pool"} and records[0].greedy is None and records[0].step_scores == {}
    with pytest.raises(AssertionError, match="asked"):
        evaluate("one_shot")


def test_answers_that_no_model_could_read_are_wrong_and_keep_their_place(
    evaluator: PolicyEvaluator, prompts: list[Prompt]
) -> None:
    placeholder = min(evaluator.sampler.encoder.placeholders)

    def second_spoiled(requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        def spoil(completion: Completion) -> Completion:
            return replace(completion, token_ids=(placeholder, *completion.token_ids[1:]))

        answers = evaluator.sampler.sample(requests)
        return [[spoil(c) if place == 1 else c for place, c in enumerate(group)] for group in answers]

    spoiled = replace(
        evaluator,
        plan=Plan(tuple(name for name in STRATEGIES if name not in OF_THEIR_OWN), (4,)),
        sampler=replace(evaluator.sampler, sample=second_spoiled),
    )
    for record in spoiled.evaluate(prompts[:3])[0]:
        assert [sample.text == "" for sample in record.pool] == [False, True, False, False]
        assert (record.pool[1].right, record.pool[1].answer) == (False, None) and record.pool[1].tokens > 10
        assert record.step_scores["outcome"][1] == [] and record.one_shot["same"][1] == 0.0


def test_a_solution_as_one_step_has_all_of_it_but_the_end_token() -> None:
    whole, cut = a_rollout((3, 2), tail=2), a_rollout((3,), tail=0, finish_reason="length")
    assert [(span.start, span.end) for span in as_one_step(whole).steps] == [(0, 6)]
    assert [(span.start, span.end) for span in as_one_step(cut).steps] == [(0, 3)]
    assert as_one_step(a_rollout((), tail=1)).steps == ()

    def length(prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[StepScores]:
        return [StepScores(np.array([float(s.end - s.start) for s in rollout.steps]), 0) for rollout in rollouts]

    assert one_shot_scores(length, [a_prompt()] * 3, [whole, cut, a_rollout((), tail=1)]) == [6.0, 3.0, 0.0]
    assert step_scores(length, [a_prompt()] * 2, [whole, a_rollout((), tail=0)]) == [[3.0, 2.0], []]


def test_scores_that_differ_in_the_seventh_digit_are_not_equal() -> None:
    encoder = Encoder(CHECKPOINT)
    written = [encoder.tokens(f"1: 1 + 1 = 2\nAnswer: {answer}") for answer in (3, 2)]

    def sample(requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        return [[Completion(tuple(ids), (0.0,) * len(ids), "stop", 0) for ids in written] for _ in requests]

    def nearly_sure(prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[StepScores]:
        return [StepScores(np.full(len(r.steps), 0.9999996 + 3e-7 * r.outcome), 0) for r in rollouts]

    plan = Plan(("best_of_n_mean", "one_shot", "weighted_majority", "majority"), (2,))
    evaluator = PolicyEvaluator(
        plan, Sampler(sample, encoder, exact, 64), vote_reader("exact", exact), {"mprm": nearly_sure}
    )
    found = evaluate_strategies(evaluator, [a_prompt(answer="2")])
    assert {point.strategy: point.accuracy.value for point in found.points} == {
        "best_of_n_mean": 1,
        "one_shot": 1,
        "weighted_majority": 1,
        "majority": 0,
    }
