"""What a checkpoint keeps of a stream of rollouts, and the seeds that decide them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from rewards.records import Completion, Prompt, Rollout
from rl.errors import ConfigError
from rl.rollouts.stream import RolloutStream
from tests.fixtures.table_engine import Table, a_config, a_stream, judge, one_step, prompt


def test_the_state_is_all_there_is() -> None:
    """A fresh stream that is given the state asks the very same from then on."""
    engines, again = Table(world=5), Table(world=5)
    keys: dict[str, Any] = {"segment_tokens": 2, "dynamic_sampling": "refill"}
    stream = a_stream(engines, 2, **keys)
    for _ in range(4):
        one_step(stream, engines)
    asked = len(engines.asked)
    twin = a_stream(again, 2, **keys)
    twin.restore(json.loads(json.dumps(stream.state())))
    again.version = engines.version
    for _ in range(4):
        ours, theirs = one_step(stream, engines), one_step(twin, again)
        assert replace(ours, metrics={}) == replace(theirs, metrics={})
    assert engines.asked[asked:] == again.asked


def test_groups_of_one_prompt_have_seeds_of_their_own() -> None:
    """As with a table of fewer rows than a step has prompts: equal seeds would give the same rollouts again."""
    engines = Table()
    config = a_config(4, 1, segment_tokens=2, prompts=5)
    stream = RolloutStream(config, engines, lambda index: prompt(index % 2), judge)
    for _ in range(4):
        one_step(stream, engines)
    asked = [request.seed for requests in engines.asked for request in requests]
    assert len(set(asked)) == len(asked) > 4 * 5


def test_an_interrupted_stream_knows_what_was_said_of_its_rollouts() -> None:
    """Not every verifier says the same again."""
    said = iter(range(10**6))

    def judged_once(prompt: Prompt, completions: Sequence[Completion], number: int) -> list[Rollout]:
        return [
            replace(rollout, outcome=float(next(said)), score=0.5, added=float(next(said)), said={"parts/a": 1.0})
            for rollout in judge(prompt, completions, number)
        ]

    config = a_config(9, 2, prompts=3)
    delivery = RolloutStream(config, Table(), prompt, judged_once).take()
    states = json.loads(json.dumps([group.state() for group in delivery.groups]))
    again = RolloutStream(config, Table(), prompt, judged_once).again(states)
    assert again.rollouts == delivery.rollouts and again.groups == delivery.groups


def test_rollouts_under_way_do_not_become_those_of_another_prompt() -> None:
    """As where a row of a table was deleted before the run is resumed: ids are places, and stay."""
    engines = Table(world=5)
    stream = a_stream(engines, 2, segment_tokens=2)
    one_step(stream, engines)
    twin = a_stream(Table(world=5), 2, segment_tokens=2)
    same = twin._prompt
    twin._prompt = lambda number: replace(same(number), question="What else?")
    with pytest.raises(ConfigError, match=r"training prompt \d+ \(.*\) is not the one .* the same prompts"):
        twin.restore(json.loads(json.dumps(stream.state())))
