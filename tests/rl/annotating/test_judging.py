"""The judge in an experiment: made from the configuration, joined with the counts, reported."""

from __future__ import annotations

import json
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewards.records import StepCounts
from rl.annotating.judging import CACHE, join_verdicts, make_judge
from rl.config import Config
from rl.errors import ConfigError
from rl.monitoring.metric_table import METRICS
from tests.fixtures.builders import a_prompt, a_rollout, some_counts
from tests.fixtures.chat_server import chat_server, completion, free_port


def a_config(**judge: Any) -> Config:
    return Config.model_validate({"judge": judge, "annotation": {"continuations": 4}})


def decode(tokens: Any) -> str:
    return " ".join(map(str, tokens))


def test_without_an_endpoint_there_is_no_judge_and_nothing_changes(tmp_path: Path) -> None:
    assert make_judge(a_config(), decode, tmp_path) is None
    counts = [some_counts([3, 0])]
    assert join_verdicts(a_config(), [a_rollout()], counts, None, print) == (counts, {})
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_is_not_there_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = a_config(endpoint="http://127.0.0.1:1/v1", model="m", api_key_env="SIEVE_JUDGE_KEY")
    for value in (None, ""):
        monkeypatch.delenv("SIEVE_JUDGE_KEY", raising=False)
        if value is not None:
            monkeypatch.setenv("SIEVE_JUDGE_KEY", value)
        with pytest.raises(ConfigError, match=r"judge\.api_key_env: .* variable 'SIEVE_JUDGE_KEY' is not set"):
            make_judge(config, decode, tmp_path)


@pytest.mark.parametrize("own_cache", [False, True])
def test_verdicts_change_the_labels_as_configured(
    own_cache: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIEVE_JUDGE_KEY", "sk-abc")
    rollouts = [a_rollout([1, 1, 1], tokens=[i, i, i], prompt=str(i), tail=0) for i in range(3)]
    kinds = ("perception", "reasoning", "reasoning")
    tagged = [
        replace(rollout, steps=tuple(replace(span, kind=kind) for span, kind in zip(rollout.steps, kinds, strict=True)))
        for rollout in rollouts
    ]
    counts = [some_counts([2, 2, 0], [4, 4, 0]), some_counts([0, 4, 4], 4), some_counts([4, 4, 4], 4)]

    def reply(number: int, request: dict[str, Any]) -> tuple[int, str]:
        text = request["messages"][0]["content"][-1]["text"]
        if "What is 0?" in text:  # the second step is wrong
            return 200, completion(json.dumps({"first_wrong_step": 2}))
        return 200, completion(json.dumps({"first_wrong_step": 0}) if "What is 1?" in text else "I cannot tell.")

    with chat_server(reply) as server:
        options = {"endpoint": server.endpoint, "model": "m", "api_key_env": "SIEVE_JUDGE_KEY", "retries": 0}
        options |= {"rule": "judge", "fill": True, "price_input": 5.0, "price_output": 10.0}
        options |= {"cache": str(tmp_path / "mine.sqlite")} if own_cache else {}
        config = a_config(**options)
        judge = make_judge(config, decode, tmp_path)
        assert judge is not None
        prompts, said = [a_prompt(str(i)) for i in range(3)], list[str]()
        joined, metrics = join_verdicts(config, tagged, counts, judge.start(prompts, tagged), said.append)
        assert said == []
        assert server.headers[0]["authorization"] == "Bearer sk-abc"

    expected = [([2, 0, 0], [4, 4, 0]), ([4, 4, 4], [4, 4, 4]), ([4, 4, 4], [4, 4, 4])]
    for entry, (correct, sampled) in zip(joined, expected, strict=True):
        assert isinstance(entry, StepCounts)
        np.testing.assert_array_equal(entry.correct, correct)
        np.testing.assert_array_equal(entry.sampled, sampled)
    assert metrics == {
        "annotation/judged": pytest.approx(2 / 3),
        "annotation/judge_agreement": pytest.approx(3 / 5),
        "annotation/judge_agreement_perception": 0.5,
        "annotation/judge_agreement_reasoning": pytest.approx(2 / 3),
        "annotation/judge_failures": 1.0,
        "annotation/judge_failures/unparseable": 1.0,
        "annotation/judge_tokens": 321.0,
        "annotation/judge_cost": pytest.approx((5 * 300 + 10 * 21) / 1e6),
        "annotation/judge_cached": 0.0,
        "annotation/judge_cache_failed": 0.0,
    }
    assert {"/".join(name.split("/")[:2]) for name in metrics} <= set(METRICS)
    assert (tmp_path / ("mine.sqlite" if own_cache else CACHE)).is_file()


def test_the_mprms_threshold_says_what_the_counts_say(tmp_path: Path) -> None:
    """2 of 4 is wrong at tau 0.5, so a judge who says right disagrees; and without ``fill``, missing is missing."""
    with chat_server(lambda number, request: (200, completion('{"first_wrong_step": 0}'))) as server:
        config = Config.model_validate(
            {"judge": {"endpoint": server.endpoint, "model": "m", "rule": "drop"}, "mprm": {"threshold": 0.5}}
        )
        judge = make_judge(config, decode, tmp_path)
        assert judge is not None
        rollout, prompt = a_rollout([1, 1, 1]), a_prompt()
        (joined,), metrics = join_verdicts(
            config, [rollout], [some_counts([2, 3, 0], [4, 4, 0])], judge.start([prompt], [rollout]), print
        )
    np.testing.assert_array_equal(joined.sampled, [0, 4, 0])
    assert metrics["annotation/judge_agreement"] == 0.5
    assert "annotation/judge_agreement_perception" not in metrics


def test_a_judge_without_any_verdict_is_said_once_and_the_labels_stay(tmp_path: Path) -> None:
    config = a_config(endpoint=f"http://127.0.0.1:{free_port()}/v1", model="m", retries=0, patience=1, concurrency=1)
    judge = make_judge(config, decode, tmp_path)
    assert judge is not None
    said: list[str] = []
    rollouts = [a_rollout(tokens=[i] * 5) for i in range(3)]
    counts = [some_counts([2, 0]), some_counts([1, 1]), some_counts([0, 0], 0)]
    for failures in ({"unreachable": 1.0, "given_up": 2.0}, {"given_up": 3.0}):
        pending = judge.start([a_prompt()] * 3, rollouts)
        joined, metrics = join_verdicts(config, rollouts, counts, pending, said.append)
        for before, after in zip(counts, joined, strict=True):
            np.testing.assert_array_equal(before.correct, after.correct)
            np.testing.assert_array_equal(before.sampled, after.sampled)
        reasons = {name.rpartition("/")[2]: value for name, value in metrics.items() if "failures/" in name}
        assert reasons == failures and metrics["annotation/judged"] == 0.0
        assert metrics["annotation/judge_failures"] == 3.0 and isnan(metrics["annotation/judge_agreement"])
    assert said == ["the judge has no verdict on any of 3 rollouts: unreachable: Connection error."]
