"""Engines as one: what goes to which, in which order it comes back, and that new weights reach them all."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import count

import pytest
import ray
import torch
from hypothesis import given
from hypothesis import strategies as st

from rewards.models.backbone import load_model
from rewards.records import Completion, SamplingRequest
from rl.config import Config
from rl.engines.hf_engine import HfEngine
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.parts import start_engines
from rl.tasks.grid import GridTask
from rl.workers.engine_pool import EnginePool
from rl.workers.pending import Ready
from rl.workers.ray_cluster import join_ray, leave_ray
from tests.fixtures.builders import a_completion, a_prompt
from tests.fixtures.runs import PATIENCE, warm_ray

TOKENS = 12
CONFIG = Config(engine={"kind": "hf", "count": 2, "num_cpus": 0.5, "max_completion_tokens": TOKENS}, deadline=PATIENCE)
PROMPTS = [a_prompt(f"prompt {number}") for number in range(5)]


class Scribe:
    """A worker in this process, which takes a quarter of a second for each request, and repeats its seed."""

    def __init__(self) -> None:
        self.calls: list[list[SamplingRequest]] = []

    def start_timed(
        self, method: str, requests: Sequence[SamplingRequest]
    ) -> Ready[tuple[float, list[list[Completion]]]]:
        assert method == "sample"
        self.calls.append(list(requests))
        return Ready((0.25 * len(requests), [[a_completion([request.seed])] * request.n for request in requests]))


REQUESTS = st.lists(st.builds(SamplingRequest, prompt=st.sampled_from(PROMPTS), n=st.integers(1, 3)), max_size=12)


@given(REQUESTS, st.integers(1, 4))
def test_each_prompt_has_one_engine_and_answers_keep_the_order(requests: list[SamplingRequest], engines: int) -> None:
    requests = [SamplingRequest(each.prompt, n=each.n, seed=seed) for seed, each in enumerate(requests)]
    scribes = [Scribe() for _ in range(engines)]
    pool = EnginePool(scribes)  # type: ignore[arg-type]
    answer = pool.sample(requests)
    assert pool.busy_seconds == 0, "nothing has been seen"
    for _ in range(2):
        assert answer.result() == [[a_completion([request.seed])] * request.n for request in requests]
        assert pool.busy_seconds == 0.25 * len(requests), "counted once"
    asked = [[request for call in scribe.calls for request in call] for scribe in scribes]
    assert sorted(request.seed for each in asked for request in each) == list(range(len(requests)))
    owned = [{request.prompt.id for request in each} for each in asked]
    assert sum(map(len, owned)) == len(set().union(*owned)), "no prompt has two engines"
    assert max(map(len, owned)) - min(map(len, owned)) <= 1, "and each engine as many prompts"
    assert all(len(scribe.calls) <= 1 for scribe in scribes) and all(call for s in scribes for call in s.calls)


@given(st.lists(REQUESTS, max_size=4), st.integers(1, 3))
def test_what_is_asked_together_is_one_call(asked: list[list[SamplingRequest]], engines: int) -> None:
    seeds = count()
    asked = [[SamplingRequest(each.prompt, n=each.n, seed=next(seeds)) for each in requests] for requests in asked]
    scribes = [Scribe() for _ in range(engines)]
    pool = EnginePool(scribes)  # type: ignore[arg-type]
    with pool.together():
        answers = [pool.sample(requests) for requests in asked]
        assert not any(scribe.calls for scribe in scribes)
        for answer in answers:
            with pytest.raises(RuntimeError, match="not been asked yet"):
                answer.result()
    assert all(len(scribe.calls) <= 1 for scribe in scribes)
    for requests, answer in reversed([*zip(asked, answers, strict=True)]):
        assert answer.result() == [[a_completion([request.seed])] * request.n for request in requests]
    assert pool.busy_seconds == 0.25 * sum(map(len, asked)), "counted once"
    assert pool.sample(asked[0]).result() == answers[0].result() if asked else True, "and what comes later is apart"


def test_nothing_is_asked_where_making_the_requests_failed() -> None:
    scribe = Scribe()
    pool = EnginePool([scribe])  # type: ignore[list-item]
    with pytest.raises(KeyError), pool.together():
        pool.sample([SamplingRequest(PROMPTS[0])])
        raise KeyError
    assert not scribe.calls and pool.sample([SamplingRequest(PROMPTS[0], seed=3)]).result() == [[a_completion([3])]]


@pytest.fixture(scope="module")
def pool() -> Iterator[EnginePool]:
    with warm_ray():
        join_ray(num_cpus=2)
        yield start_engines(CONFIG)
        leave_ray()


def tokens(results: Sequence[Sequence[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[completion.token_ids for completion in completions] for completions in results]


def versions(results: Sequence[Sequence[Completion]]) -> set[int]:
    return {completion.policy_version for completions in results for completion in completions}


@pytest.mark.slow
def test_two_engines_answer_as_one_and_both_take_new_weights(pool: EnginePool) -> None:
    single = HfEngine(str(SHIPPED_POLICY), max_completion_tokens=TOKENS)
    prompts = [GridTask().prompt("heldout", index) for index in range(5)]
    greedy = [SamplingRequest(prompt, temperature=0) for prompt in (*prompts, prompts[1], prompts[0])]
    sampled = [SamplingRequest(prompt, n=3, seed=seed) for seed, prompt in enumerate(prompts)]
    # Both are under way at once, in the order in which they were asked.
    start, answers = time.perf_counter(), [pool.sample(greedy), pool.sample(sampled)]
    first, second = (answer.result() for answer in answers)
    assert tokens(first) == tokens(single.sample(greedy)) and tokens(first[5:]) == tokens([first[1], first[0]])
    # What is drawn depends on the batch: these are the two that the engines had.
    for shard in (0, 1):
        assert tokens(second[shard::2]) == tokens(single.sample(sampled[shard::2]))
    assert 0 < pool.busy_seconds <= len(pool) * (time.perf_counter() - start)
    assert versions(first) == versions(second) == {0}

    busy, weights = pool.busy_seconds, changed_weights()
    pool_answers = pool.start_all("load_weights", ray.put(weights), 7)
    assert [answer.result() for answer in pool_answers] == [7, 7]
    assert single.load_weights(weights, 7) == 7 and pool.busy_seconds == busy, "which is not sampling"
    renewed = pool.sample(greedy).result()
    assert tokens(renewed) == tokens(single.sample(greedy)) and versions(renewed) == {7}
    for engine in (0, 1):
        assert tokens(renewed[engine:5:2]) != tokens(first[engine:5:2]), f"engine {engine} answers otherwise"
    assert pool.busy_seconds > busy


def changed_weights() -> dict[str, torch.Tensor]:
    """The shipped policy's, with as much noise as each tensor has spread."""
    generator = torch.Generator().manual_seed(0)
    weights = load_model(str(SHIPPED_POLICY), "float32", False).state_dict()
    return {
        name: tensor + tensor.std(correction=0) * torch.randn(tensor.shape, generator=generator)
        for name, tensor in weights.items()
    }
