"""The rollout stream: nothing is lost, trained twice or too old, whatever is short, long, silent or interrupted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rewards.models.backbone import load_model
from rewards.models.encoding import Encoder
from rewards.records import Completion, Prompt, Rollout, SamplingRequest
from rewards.seeds import derive_seed
from rewards.verification.verifiers import exact
from rl.engines.hf_engine import HfEngine
from rl.errors import MixedGroupError, UnreadableRolloutsError
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.monitoring.report import Delivery
from rl.rollouts.making import make_group
from rl.rollouts.stream import RolloutStream
from rl.tasks.grid import GridTask
from rl.workers.pending import Ready
from selection.config import SelectionConfig
from selection.prompts import ByDifficulty
from tests.fixtures.table_engine import (
    LONGEST,
    Table,
    a_config,
    a_stream,
    judge,
    length,
    numbers,
    one_step,
    outcome,
    prompt,
)


@pytest.mark.parametrize("max_staleness", [0, 1, 2, 4])
def test_whole_answers_are_asked_for_one_step_after_the_other(max_staleness: int) -> None:
    """Without segments and refills round k is step k: its prompts, its seeds, as early as staleness allows."""
    engines = Table()
    stream = a_stream(engines, max_staleness, seed=7, steps=8)
    for step in range(8):
        assert numbers(stream.take()) == [3 * step, 3 * step + 1, 3 * step + 2]
        assert len(engines.asked) == (max(step + 1, min(step + max_staleness, 8)) if step else 1)
        stream.prefetch()
        assert len(engines.asked) == min(step + 1 + max_staleness, 8)
        engines.version = step + 1
        stream.weights_sent(step + 1)
    assert engines.asked == [
        [SamplingRequest(prompt(i), n=2, seed=derive_seed(7, "rollout", k, f"p{i}")) for i in range(3 * k, 3 * k + 3)]
        for k in range(8)
    ]


class StreamMachine(RuleBasedStateMachine):
    """A run of policy steps, interrupted and resumed at will, beside one that never is."""

    @initialize(
        world=st.integers(0, 10**6),
        prompts=st.integers(1, 4),
        samples=st.integers(2, 3),
        max_staleness=st.integers(0, 3),
        segment_tokens=st.none() | st.integers(1, 6),
        dynamic_sampling=st.sampled_from(["off", "drop", "refill"]),
        refill_rounds=st.integers(1, 4),
    )
    def begin(self, world: int, max_staleness: int, **keys: Any) -> None:
        keys["segment_tokens"] = keys["segment_tokens"] if max_staleness else None
        self.world, self.max_staleness, self.keys = world, max_staleness, keys
        self.engines, self.other_engines = Table(world), Table(world)
        self.stream = self._new(self.engines)
        self.uninterrupted = self._new(self.other_engines)
        self.taken: set[int] = set()
        self.stale = 0

    def _new(self, engines: Table) -> RolloutStream:
        return a_stream(engines, self.max_staleness, steps=30, **self.keys)

    @rule()
    def resume(self) -> None:
        state = json.loads(json.dumps(self.stream.state()))
        self.stream = self._new(self.engines)
        self.stream.restore(state)

    @rule()
    def train(self) -> None:
        step = self.stream.step
        if step == 30:
            return
        delivery = one_step(self.stream, self.engines)
        expected = one_step(self.uninterrupted, self.other_engines)
        assert delivery.rollouts == expected.rollouts and str(delivery.metrics) == str(expected.metrics)
        self._check(step, delivery)

    def _check(self, step: int, delivery: Delivery) -> None:
        took = numbers(delivery)
        assert took == sorted(took) and self.taken.isdisjoint(took)
        self.taken.update(took)
        self.stale += int(delivery.metrics["reward/stale_groups"])
        assert len(delivery.prompts) == len(delivery.rollouts) == len(took) * self.keys["samples"]
        again = self.stream.again(json.loads(json.dumps([group.state() for group in delivery.groups])))
        assert (again.prompts, again.rollouts) == (delivery.prompts, delivery.rollouts)
        assert [p.id for p in delivery.prompts] == [r.prompt_id for r in delivery.rollouts]
        for rollout in delivery.rollouts:
            place = rollout.token_ids[0] % 1000 // 100
            whole = range(1000 * rollout.group + 100 * place, 1000 * rollout.group + 100 * place + LONGEST)
            assert rollout.token_ids == tuple(whole[: length(rollout.group, place, self.world)])
            versions = [-value for value in rollout.logprobs]
            assert versions == sorted(versions) and versions[0] == rollout.policy_version
            assert 0 <= step - rollout.policy_version <= self.max_staleness
        assert {r.policy_version for r in delivery.rollouts if r.group == took[0]} == {
            delivery.rollouts[0].policy_version
        }
        self._check_signal(took, delivery)

    def _check_signal(self, took: list[int], delivery: Delivery) -> None:
        mode, most = self.keys["dynamic_sampling"], self.keys["prompts"]
        telling = [self._tells(number) for number in took]
        if mode == "off":
            assert len(took) == most
        else:
            assert 1 <= len(took) <= most and len(set(telling)) == 1
        if mode == "refill" and len(took) < most:
            assert delivery.metrics["perf/rounds"] >= self.keys["refill_rounds"]

    def _tells(self, number: int) -> bool:
        return len({outcome(number, place, self.world) for place in range(self.keys["samples"])}) > 1

    @invariant()
    def every_prompt_is_somewhere(self) -> None:
        if not hasattr(self, "stream"):
            return
        state = self.stream.state()
        assert len(state["under_way"]) <= max(1, self.max_staleness)
        groups = [group for round in state["under_way"] for group in round["groups"]]
        groups += state["open"] + state["ready"] + state["silent"]
        waiting = [group["number"] for group in groups]
        assert len(waiting) == len(set(waiting)) and self.taken.isdisjoint(waiting)
        gone = set(range(state["cursor"])) - self.taken - set(waiting)
        stale = self.stale + state["tally"]["stale"]
        if self.keys["dynamic_sampling"] == "off":
            assert len(gone) == stale
        else:
            assert sum(self._tells(number) for number in gone) <= stale
        asked = [r.prompt.id for requests in self.engines.asked for r in requests if not r.prefix]
        assert asked == [f"p{number}" for number in range(state["cursor"])]
        if self.keys["segment_tokens"] is None and self.keys["dynamic_sampling"] != "refill":
            assert stale == 0


StreamMachine.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=25)
TestStreamMachine = StreamMachine.TestCase


@pytest.mark.parametrize("segment_tokens", [None, 1])
@pytest.mark.parametrize("dynamic_sampling", ["off", "refill"])
def test_prompts_chosen_by_difficulty_are_the_same_after_an_interruption(
    segment_tokens: int | None, dynamic_sampling: str
) -> None:
    """Of a table of 20 rows, some of which are asked again and again; some groups are dropped as too old."""

    def row(index: int) -> Prompt:
        return prompt(index % 20)

    def begin(engines: Table) -> RolloutStream:
        config = a_config(30, 2, segment_tokens, prompts=4, samples=3, dynamic_sampling=dynamic_sampling)
        chooses = ByDifficulty(SelectionConfig(), row, 3, 4, seed=0)
        return RolloutStream(config, engines, row, partial(judge, world=5), lambda count: count / 20, chooses)

    engines, other_engines = Table(5), Table(5)
    stream, uninterrupted = begin(engines), begin(other_engines)
    stale, again = 0.0, []
    for _ in range(30):
        state = json.loads(json.dumps(stream.state()))
        stream = begin(engines)
        stream.restore(state)
        delivery, expected = one_step(stream, engines), one_step(uninterrupted, other_engines)
        assert delivery.rollouts == expected.rollouts and str(delivery.metrics) == str(expected.metrics)
        assert delivery.believed is not None and expected.believed is not None
        assert delivery.believed.tolist() == expected.believed.tolist()
        stale += delivery.metrics["reward/stale_groups"]
        again.append(delivery.metrics["selection/prompts_asked_again"])
    assert engines.asked == other_engines.asked
    asked = delivery.metrics["perf/prompts_asked"]
    assert asked / 4 <= delivery.metrics["perf/epochs"] * 20 < asked, "those asked again do not count"
    assert np.nanmean(again) > 0.5 and len(delivery.distributions["selection/prompts_right"]) == 20
    assert stale > 0 or segment_tokens is None


def test_what_was_believed_of_a_prompt_holds_no_verdict_of_its_group() -> None:
    """Each verdict of earlier groups counts once, and none of its own; the same after an interruption."""

    def row(index: int) -> Prompt:
        return prompt(index % 20)

    def begin(engines: Table) -> RolloutStream:
        config = a_config(30, 0, None, prompts=4, samples=3)
        chooses = ByDifficulty(SelectionConfig(prompts_half_life=0), row, 3, 4, seed=0)
        return RolloutStream(config, engines, row, partial(judge, world=5), None, chooses)

    engines, before = Table(5), Counter[str]()
    right = Counter[str]()
    stream = begin(engines)
    for _ in range(30):
        stream.prefetch()
        state = json.loads(json.dumps(stream.state()))
        stream = begin(engines)
        stream.restore(state)
        mean = (right.total() + 1) / (before.total() + 2)
        delivery = one_step(stream, engines)
        assert delivery.believed is not None
        expected = [(2 * mean + right[p.id], 2 - 2 * mean + before[p.id] - right[p.id]) for p in delivery.prompts]
        assert delivery.believed == pytest.approx(np.array(expected))
        again = stream.again(json.loads(json.dumps([group.state() for group in delivery.groups]))).believed
        assert again is not None and again.tolist() == delivery.believed.tolist()
        for rollout in delivery.rollouts:
            before[rollout.prompt_id] += 1
            right[rollout.prompt_id] += int(rollout.outcome)
    assert max(before.values()) > 3


def test_nothing_is_believed_of_prompts_that_come_in_order() -> None:
    engines = Table(5)
    stream = a_stream(engines, 0, prompts=4, samples=3)
    delivery = one_step(stream, engines)
    assert delivery.believed is None and delivery.standings == {}
    states = [group.state() for group in delivery.groups]
    older = [{name: value for name, value in state.items() if name != "believed"} for state in states]
    assert stream.again(states).believed is None and stream.again(older).believed is None


def test_a_refill_asks_for_no_more_than_it_seems_to_need() -> None:
    engines = Table(world=3)
    stream = a_stream(engines, 0, prompts=8, samples=3, dynamic_sampling="refill", refill_rounds=10)
    delivery = one_step(stream, engines)
    assert len(numbers(delivery)) == 8
    sizes = [len(requests) for requests in engines.asked]
    assert sizes[0] == 8 and len(sizes) == delivery.metrics["perf/rounds"] > 1
    signals = [len({outcome(number, place, 3) for place in range(3)}) > 1 for number in range(stream.cursor)]
    seen = 0
    for before, size in zip(np.cumsum(sizes), sizes[1:], strict=False):
        found = sum(signals[:before])
        assert size == min(8, int(np.ceil((8 - found) / (found / before))))
        seen = before
    assert sum(signals[: seen + sizes[-1]]) >= 8 > sum(signals[:seen])
    assert delivery.metrics["reward/no_signal"] == pytest.approx(1 - np.mean(signals))


@pytest.mark.parametrize("max_staleness", [0, 1])
def test_a_surplus_waits_for_the_next_step_unless_it_would_be_too_old(max_staleness: int) -> None:
    kept = dropped = 0
    for world in range(20):
        engines = Table(world)
        stream = a_stream(engines, max_staleness, prompts=8, samples=3, dynamic_sampling="refill", refill_rounds=10)
        first = stream.take()
        telling = [n for n in range(stream.cursor) if len({outcome(n, place, world) for place in range(3)}) > 1]
        assert numbers(first) == telling[:8]
        stream.prefetch()
        engines.version = 1
        stream.weights_sent(1)
        second = stream.take()
        kept += len(set(numbers(second)) & set(telling[8:]))
        dropped += int(second.metrics["reward/stale_groups"])
        assert numbers(second)[: len(telling[8:])] == telling[8:] or max_staleness == 0
    assert (kept > 0, dropped > 0) == (max_staleness == 1, max_staleness == 0)


def test_a_straggler_does_not_block_and_its_end_is_written_by_newer_weights() -> None:
    engines = Table(world=1)
    longs = [n for n in range(200) if max(length(n, place, 1) for place in range(2)) > 9]
    assert longs, "the world has stragglers"
    stream = a_stream(engines, 3, segment_tokens=3, steps=60)
    mixed, taken, order = 0.0, set(), []
    for _ in range(60):
        delivery = one_step(stream, engines)
        mixed += delivery.metrics["perf/mixed_version_tokens"]
        order += numbers(delivery)
        taken |= {r.group for r in delivery.rollouts if len({*r.logprobs}) > 1}
    assert mixed > 0 and taken, "rollouts were carried over an update"
    assert taken & set(longs)
    assert order != sorted(order), "a short answer overtook a long one"


def test_engines_with_other_weights_than_were_asked_for_stop_the_run() -> None:
    engines = Table(world=1)
    stream = a_stream(engines, 1)
    engines.version = 5
    with pytest.raises(MixedGroupError, match=r"group 0 \(p0\) was asked of policy version 0, and version 5 answered"):
        stream.take()


def test_a_step_that_no_one_can_read_says_so() -> None:
    stream = RolloutStream(a_config(5, max_staleness=0), Table(), prompt, lambda *_: [])
    with pytest.raises(UnreadableRolloutsError, match="3 prompts"):
        stream.take()


def test_unreadable_rollouts_are_counted_and_the_others_stay() -> None:
    engines = Table()
    stream = RolloutStream(a_config(5, 0), engines, prompt, lambda *arguments: judge(*arguments)[1:])
    delivery = one_step(stream, engines)
    assert len(delivery.rollouts) == 3 and delivery.metrics["reward/dropped"] == 3


class Immediate:
    """A real engine, which answers when it is asked."""

    def __init__(self, engine: HfEngine) -> None:
        self.engine = engine

    def sample(self, requests: Sequence[SamplingRequest]) -> Ready[list[list[Completion]]]:
        return Ready(self.engine.sample(requests))


@pytest.mark.slow
def test_each_token_has_the_log_probability_of_the_weights_that_wrote_it() -> None:
    """Real weights: rollouts carried over an update, against a forward pass of each version."""
    encoder, task = Encoder(str(SHIPPED_POLICY)), GridTask()
    engine = HfEngine(str(SHIPPED_POLICY), max_completion_tokens=48)
    generator = torch.Generator().manual_seed(0)
    before = load_model(str(SHIPPED_POLICY), "float32").eval()
    weights = [{name: tensor.clone() for name, tensor in before.state_dict().items()}]
    weights.append(
        {n: w + 0.2 * torch.randn(w.shape, generator=generator) * w.std().nan_to_num() for n, w in weights[0].items()}
    )
    stream = RolloutStream(
        a_config(4, max_staleness=2, segment_tokens=4, prompts=2),
        Immediate(engine),
        partial(task.prompt, "train"),
        partial(make_group, encoder=encoder, verifier=exact),
    )
    rollouts: list[tuple[Prompt, Rollout]] = []
    for step in range(4):
        delivery = stream.take()
        rollouts += zip(delivery.prompts, delivery.rollouts, strict=True)
        stream.prefetch()
        stream.prepare()
        # All later versions are the same weights, so that a token is of one of two kinds.
        stream.weights_sent(engine.load_weights(weights[1], step + 1))
    assert len(rollouts) == 16
    carried = 0
    for asked, rollout in rollouts:
        first, later = (
            np.abs(_forward(before, w, encoder, asked, rollout) - np.array(rollout.logprobs)) < 1e-3 for w in weights
        )
        by_first = len(first) if first.all() else int(first.argmin())
        assert later[by_first:].all() and (later.all() or rollout.policy_version == 0)
        carried += 0 < by_first < len(first) and not later.all()
        assert rollout.finish_reason in ("stop", "length")
    assert carried > 0, "rollouts that old weights began and new ones ended"


def _forward(
    model: Any, weights: dict[str, torch.Tensor], encoder: Encoder, asked: Prompt, rollout: Rollout
) -> np.ndarray:
    model.load_state_dict(weights)
    batch = encoder.batch([asked], [rollout.token_ids])
    with torch.inference_mode():
        logits = model(**batch.model_inputs()).logits[0, -len(rollout.token_ids) - 1 : -1]
    return logits.float().log_softmax(-1).gather(1, batch.completion_ids[0][:, None])[:, 0].numpy()
