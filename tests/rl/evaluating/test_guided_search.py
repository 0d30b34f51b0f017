"""Guided greedy search with the shipped policy: judges that know the truth, that know nothing, and none at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from rewards.models.encoding import Encoder
from rewards.models.step_rule import rule_of_expression
from rewards.records import Completion, Prompt, Rollout, SamplingRequest, StepScores
from rewards.verification.verifiers import exact
from rl.engines.hf_engine import HfEngine
from rl.evaluating.guided_search import Judge, Sampler, guided_search
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.tasks.grid import GridTask
from tests.fixtures.grid_judges import nobody, truthful

pytestmark = pytest.mark.slow

CHECKPOINT = str(SHIPPED_POLICY)
LIMIT = 64


@pytest.fixture(scope="module")
def task() -> GridTask:
    return GridTask()


@pytest.fixture(scope="module")
def prompts(task: GridTask) -> list[Prompt]:
    """Of the two sources whose answer is hardly ever right in spite of a wrong step."""
    prompts = (task.prompt("heldout", index) for index in range(64))
    return [prompt for prompt in prompts if prompt.source in ("total", "chain")]


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    engine = HfEngine(CHECKPOINT, max_completion_tokens=LIMIT, batch_size=512)
    return Sampler(engine.sample, Encoder(CHECKPOINT), exact, LIMIT)


@pytest.fixture(scope="module")
def confused(sampler: Sampler) -> Sampler:
    """The shipped policy with noise on its weights: its own best answers are wrong about half of the time."""
    engine = HfEngine(CHECKPOINT, max_completion_tokens=LIMIT, batch_size=512)
    generator = torch.Generator().manual_seed(0)
    weights = AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=torch.float32).state_dict()
    noisy = {
        name: weight + 0.25 * weight.std() * torch.randn(weight.shape, generator=generator)
        for name, weight in weights.items()
    }
    engine.load_weights(noisy, 1)
    return replace(sampler, sample=engine.sample)


def accuracy(sampler: Sampler, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> float:
    return float(np.mean([rollout.outcome for rollout in sampler.read(prompts, completions)]))


def test_the_truth_leads_to_more_right_answers_than_the_policy_finds_alone(
    confused: Sampler, task: GridTask, prompts: list[Prompt]
) -> None:
    def searched(judge: Judge, n: int) -> float:
        found = guided_search(confused, judge, prompts, n, 0)
        return accuracy(confused, prompts, [entry.completion for entry in found])

    greedy = confused.sample([SamplingRequest(prompt, temperature=0) for prompt in prompts])
    truth = searched(truthful(task, confused.encoder), 8)
    lies = searched(truthful(task, confused.encoder, lambda right: float(not right)), 8)
    alone = searched(nobody, 1)
    assert truth > accuracy(confused, prompts, [samples[0] for samples in greedy]) + 0.1
    assert truth > alone + 0.3
    assert lies < 0.1 < alone


def test_the_first_of_equals_is_kept_and_all_tokens_are_counted(sampler: Sampler, prompts: list[Prompt]) -> None:
    asked: list[tuple[SamplingRequest, list[Completion]]] = []

    def listen(requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        answers = sampler.sample(requests)
        asked.extend(zip(requests, answers, strict=True))
        return answers

    def same(prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[StepScores]:
        return [StepScores(np.full(len(rollout.steps), 0.5), 0) for rollout in rollouts]

    (found,) = guided_search(replace(sampler, sample=listen), same, prompts[:1], 3, 0)
    written: tuple[int, ...] = ()
    for request, answers in asked:
        assert (request.prefix, request.n, request.until, len(answers)) == (written, 3, "\n", 3)
        written += answers[0].token_ids
    assert found.completion.token_ids == written and found.completion.finish_reason == "stop"
    assert found.tokens == sum(len(answer.token_ids) for _, answers in asked for answer in answers)
    assert len(asked) == len(sampler.encoder.steps(written)) + 1, "a turn a step, and one for the final answer"
    assert len(found.completion.logprobs) == len(written)


def test_a_separator_that_no_engine_knows_is_found_afterwards(
    sampler: Sampler, task: GridTask, prompts: list[Prompt]
) -> None:
    judge = truthful(task, sampler.encoder)
    literal, found = (
        guided_search(
            replace(sampler, encoder=Encoder(CHECKPOINT, rule_of_expression(separator))), judge, prompts[:6], 4, 0
        )
        for separator in (r"\n", r"[\n]")
    )
    assert [entry.completion.token_ids for entry in found] == [entry.completion.token_ids for entry in literal]
    assert sum(entry.tokens for entry in found) > 1.5 * sum(entry.tokens for entry in literal)


@pytest.mark.parametrize(
    ("expression", "text"),
    [(r"\n", "\n"), (r"\n\n", "\n\n"), ("\n", "\n"), ("##", "##"), (r"\n+", None), (r"\s", None), ("a|b", None)],
)
def test_which_separators_are_plain_text(expression: str, text: str | None) -> None:
    assert rule_of_expression(expression).until == text


def test_a_length_limit_ends_the_search(sampler: Sampler, task: GridTask, prompts: list[Prompt]) -> None:
    engine = HfEngine(CHECKPOINT, max_completion_tokens=13)
    short = replace(sampler, sample=engine.sample, max_completion_tokens=13)
    for found in guided_search(short, truthful(task, sampler.encoder), prompts[:8], 2, 0):
        assert len(found.completion.token_ids) <= 13 and found.completion.finish_reason == "length"


def test_steps_that_no_model_could_read_are_not_taken(sampler: Sampler, task: GridTask, prompts: list[Prompt]) -> None:
    """An image placeholder in the text: the first candidate of every turn has one, and then all have."""
    placeholder = min(sampler.encoder.placeholders)

    def spoil(completion: Completion) -> Completion:
        return replace(completion, token_ids=(placeholder, *completion.token_ids[1:]))

    def first_spoiled(requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        return [[spoil(first), *others] for first, *others in sampler.sample(requests)]

    judge = truthful(task, sampler.encoder, lambda right: 0.0)
    for found in guided_search(replace(sampler, sample=first_spoiled), judge, prompts[:4], 3, 0):
        assert sampler.is_readable(found.completion) and found.completion.finish_reason == "stop"

    def all_spoiled(requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        return [[spoil(completion) for completion in answers] for answers in sampler.sample(requests)]

    hopeless = replace(sampler, sample=all_spoiled)
    found_nothing = guided_search(hopeless, judge, prompts[:4], 3, 0)
    assert accuracy(sampler, prompts[:4], [found.completion for found in found_nothing]) == 0
