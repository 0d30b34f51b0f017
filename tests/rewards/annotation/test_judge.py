"""The judge against real servers that answer, or fail in every way."""

from __future__ import annotations

import base64
import io
import json
import logging
import multiprocessing
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rewards.annotation.judge import Judge, Judgement
from rewards.annotation.judge_config import JudgeConfig
from rewards.records import Prompt, Rollout, StepSpan
from tests.fixtures.builders import a_prompt, a_rollout, an_image
from tests.fixtures.chat_server import chat_server, completion, free_port

KEY = "sk-very-secret-4711"
STEPS = 3
FAST = {"model": "judge", "retries": 0, "timeout": 60, "deadline": 120, "max_tokens": 48}
PATIENCE = 150
"""Seconds, more than any judge here has."""


def decode(tokens: Sequence[int]) -> str:
    return " ".join(map(str, tokens))


def some_rollouts(number: int, steps: int = STEPS) -> tuple[list[Prompt], list[Rollout]]:
    """Rollouts of two tokens a step, each with tokens and a prompt of its own."""
    prompts = [a_prompt(f"prompt {i}", images=[an_image((i % 256, 80, 30), (56, 28))]) for i in range(number)]
    rollouts = [
        a_rollout([2] * steps, tail=0, prompt=prompt.id, tokens=range(100 * i, 100 * i + 2 * steps))
        for i, prompt in enumerate(prompts)
    ]
    return prompts, rollouts


def fast(**keys: Any) -> JudgeConfig:
    """Of a judge that is given up soon."""
    return JudgeConfig(**FAST | keys)


def judged(settings: JudgeConfig, number: int = 1, key: str | None = None) -> Judgement:
    return Judge(settings, decode, key).start(*some_rollouts(number)).result(PATIENCE)


def verdict(first_wrong: int) -> tuple[int, str]:
    return 200, completion(json.dumps({"first_wrong_step": first_wrong}))


def nothing_known(judgement: Judgement) -> bool:
    return judgement.judged == 0 and all(np.isnan(entry).all() for entry in judgement.verdicts)


# Servers that fail


def test_nobody_listens() -> None:
    judgement = judged(fast(endpoint=f"http://127.0.0.1:{free_port()}/v1"), 2)
    assert nothing_known(judgement) and judgement.failures == {"unreachable": 2}
    assert judgement.problem == "unreachable: Connection error."


def test_an_address_that_cannot_be() -> None:
    """Also one that the section would refuse."""
    for endpoint in ("http://no.such.host.invalid/v1", "http://[::1", "nonsense"):
        judgement = judged(fast().model_copy(update={"endpoint": endpoint}))
        assert nothing_known(judgement) and judgement.failures.total() == 1


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, "oops", "server_error"),
        (503, completion("busy"), "server_error"),
        (400, '{"error": {"message": "too long"}}', "rejected"),
        (429, "slow down", "rejected"),
        (200, "", "malformed"),
        (200, "<html>a portal</html>", "malformed"),
        (200, "{}", "malformed"),
        (200, "[1, 2]", "malformed"),
        (200, '{"choices": []}', "malformed"),
        (200, '{"choices": [{"message": null}]}', "malformed"),
        (200, completion(None), "empty"),
        (200, completion(""), "empty"),
        (200, completion("I think step 2"), "unparseable"),
        (200, completion('{"first_wrong_step": 9}'), "out_of_range"),
        (200, completion('{"first_wrong', "length"), "truncated"),
        (200, completion(None, refusal="I will not."), "refused"),
        (200, completion('{"first_wrong_step": 1}', "content_filter"), "refused"),
    ],
)
def test_every_bad_reply_is_counted_by_its_reason(status: int, body: str, reason: str) -> None:
    with chat_server(lambda number, request: (status, body)) as server:
        judgement = judged(fast(endpoint=server.endpoint), 2)
    assert nothing_known(judgement) and judgement.failures == {reason: 2}
    assert judgement.problem.startswith(f"{reason}: ") and "\n" not in judgement.problem
    assert [len(entry) for entry in judgement.verdicts] == [STEPS, STEPS]


def test_a_bad_reply_costs_one_rollout_and_its_tokens() -> None:
    def reply(number: int, request: dict[str, Any]) -> tuple[int, str]:
        text = request["messages"][0]["content"][-1]["text"]
        return verdict(2) if "prompt 1?" in text else (200, completion("hm"))

    with chat_server(reply) as server:
        judgement = judged(fast(endpoint=server.endpoint, price_output=1.0), 3)
    np.testing.assert_array_equal(judgement.verdicts[1], [1.0, 0.0, np.nan])
    assert np.isnan(judgement.verdicts[0]).all() and np.isnan(judgement.verdicts[2]).all()
    assert (judgement.judged, judgement.failures, judgement.calls) == (1, {"unparseable": 2}, 3)
    assert (judgement.prompt_tokens, judgement.completion_tokens) == (300, 21)
    assert judgement.cost == pytest.approx(21e-6)


@pytest.mark.parametrize("said", [10**400, -5, 1e400, "7", None, True])
def test_what_cannot_be_a_number_of_tokens_costs_nothing(said: Any) -> None:
    body = json.loads(verdict(0)[1]) | {"usage": {"prompt_tokens": said, "completion_tokens": 7}}
    with chat_server(lambda number, request: (200, json.dumps(body))) as server:
        judgement = judged(fast(endpoint=server.endpoint, price_input=1.0))
    assert (judgement.judged, judgement.prompt_tokens, judgement.completion_tokens, judgement.cost) == (1, 0, 7, 0)


def test_a_server_that_hangs_and_a_batch_that_takes_too_long() -> None:
    over = threading.Event()

    def reply(number: int, request: dict[str, Any]) -> tuple[int, str]:
        return verdict(0) if number < 2 else (500, f"{over.wait(60)}")

    with chat_server(reply) as server:
        late = judged(fast(endpoint=server.endpoint, concurrency=2, deadline=3), 6)
        slow = judged(fast(endpoint=server.endpoint, timeout=0.3), 2)
        over.set()
    assert nothing_known(slow) and slow.failures == {"timeout": 2}
    assert (late.judged, late.failures) == (2, {"deadline": 4})


def test_retries_are_made_and_then_it_fails_once() -> None:
    def flaky(number: int, request: dict[str, Any]) -> tuple[int, str]:
        return (500, "oops") if number < 2 else verdict(1)

    with chat_server(flaky) as server:
        judgement = judged(fast(endpoint=server.endpoint, retries=2))
        assert len(server.requests) == 3
    assert (judgement.judged, judgement.failures) == (1, {})
    with chat_server(lambda number, request: (500, "oops")) as server:
        judgement = judged(fast(endpoint=server.endpoint, retries=1))
        assert len(server.requests) == 2
    assert judgement.failures == {"server_error": 1}


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_requests_at_once_than_allowed(concurrency: int) -> None:
    """No reply before so many are there, nor before others have had the time to come."""
    together = threading.Barrier(concurrency, timeout=30)

    def reply(number: int, request: dict[str, Any]) -> tuple[int, str]:
        together.wait()
        return verdict(0)

    with chat_server(reply, pause=0.1) as server:
        judgement = judged(fast(endpoint=server.endpoint, concurrency=concurrency), 9)
        assert server.most == concurrency
    assert judgement.judged == 9


def test_after_some_rollouts_without_a_reply_the_rest_is_not_sent() -> None:
    with chat_server(lambda number, request: (500, "oops")) as server:
        judgement = judged(fast(endpoint=server.endpoint, concurrency=1, patience=3), 10)
        assert len(server.requests) == 3
    assert judgement.failures == {"server_error": 3, "given_up": 7}


def test_a_reply_in_between_renews_the_patience() -> None:
    def reply(number: int, request: dict[str, Any]) -> tuple[int, str]:
        return verdict(0) if number % 3 == 2 else (500, "oops")

    with chat_server(reply) as server:
        judgement = judged(fast(endpoint=server.endpoint, concurrency=1, patience=3), 9)
    assert (judgement.judged, judgement.failures) == (3, {"server_error": 6})


def test_nonsense_is_a_reply_and_tries_no_patience() -> None:
    with chat_server(lambda number, request: (200, "<html>")) as server:
        judgement = judged(fast(endpoint=server.endpoint, concurrency=1, patience=2), 5)
    assert judgement.failures == {"malformed": 5}


def test_a_server_that_dies_midway() -> None:
    def reply(number: int, request: dict[str, Any]) -> tuple[int, str]:
        if number == 2:
            server.stop()
        return verdict(0)

    with chat_server(reply) as server:
        judgement = judged(fast(endpoint=server.endpoint, concurrency=1, patience=2), 8)
    assert judgement.judged == 3
    assert judgement.failures == {"unreachable": 2, "given_up": 3}


def test_a_silent_endpoint_rests_ever_longer_and_is_tried_again() -> None:
    working = threading.Event()

    def reply(number: int, request: dict[str, Any]) -> tuple[int, str]:
        return verdict(0) if working.is_set() else (500, "oops")

    with chat_server(reply) as server:
        judge = Judge(fast(endpoint=server.endpoint, concurrency=1, patience=1), decode)
        asked = []
        for batch in range(8):
            if batch == 5:
                working.set()
            before = len(server.requests)
            judge.start(*some_rollouts(2)).result(PATIENCE)
            asked.append(len(server.requests) - before)
    # Tried, one batch of rest, tried, two of rest; then it works and is asked about both rollouts each time.
    assert asked == [1, 0, 1, 0, 0, 2, 2, 2]


# What is asked, and what stays behind


def test_the_caller_goes_on_while_the_judge_reads() -> None:
    goes_on = threading.Event()

    def reply(number: int, request: dict[str, Any]) -> tuple[int, str]:
        return verdict(0) if goes_on.wait(PATIENCE) else (500, "never")

    with chat_server(reply) as server:
        pending = Judge(fast(endpoint=server.endpoint), decode).start(*some_rollouts(2))
        assert not pending.done()
        goes_on.set()
        assert pending.result(PATIENCE).judged == 2


def test_the_request_holds_image_question_steps_and_settings() -> None:
    prompts, rollouts = some_rollouts(1)
    settings = fast(with_answer=True, temperature=None, max_tokens=77)
    with chat_server(lambda number, request: verdict(0)) as server:
        for structured in (True, False):
            asked = settings.model_copy(update={"endpoint": server.endpoint, "structured": structured})
            Judge(asked, decode, KEY).start(prompts, rollouts).result(PATIENCE)
    (message,) = server.requests[0]["messages"]
    picture, text = message["content"]
    shown = Image.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,"))))
    assert shown.tobytes() == prompts[0].images[0].tobytes()
    assert "What is prompt 0?" in text["text"] and "Right answer: 4" in text["text"]
    assert "Step 1: 0 1\nStep 2: 2 3\nStep 3: 4 5\n" in text["text"]
    assert (server.requests[0]["model"], server.requests[0]["max_completion_tokens"]) == ("judge", 77)
    assert "temperature" not in server.requests[0]
    assert server.requests[0]["response_format"]["type"] == "json_schema"
    assert "response_format" not in server.requests[1]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_a_share_of_the_rollouts_is_judged_and_always_the_same_ones() -> None:
    with chat_server(lambda number, request: verdict(0)) as server:
        found = [judged(fast(endpoint=server.endpoint, share=share), 60) for share in (0.3, 0.3, 0.6)]
    chosen = [{i for i, entry in enumerate(one.verdicts) if not np.isnan(entry).any()} for one in found]
    assert chosen[0] == chosen[1] < chosen[2]
    assert 8 <= len(chosen[0]) <= 28 and 24 <= len(chosen[2]) <= 48
    assert [one.failures for one in found] == [{}, {}, {}]


def test_only_rollouts_with_a_step_of_a_wanted_kind_are_judged() -> None:
    prompts, rollouts = some_rollouts(3)
    kinds = (["perception", "reasoning"], ["reasoning"], [])
    rollouts = [
        replace(rollout, steps=tuple(StepSpan(i, i + 1, kind) for i, kind in enumerate(each)))
        for rollout, each in zip(rollouts, kinds, strict=True)
    ]
    with chat_server(lambda number, request: verdict(0)) as server:
        settings = fast(endpoint=server.endpoint, kinds=("perception",))
        judgement = Judge(settings, decode).start(prompts, rollouts).result(PATIENCE)
    assert (judgement.judged, judgement.failures) == (1, {})
    assert [len(entry) for entry in judgement.verdicts] == [2, 1, 0]


def test_no_rollouts_at_all() -> None:
    assert Judge(fast(), decode).start([], []).result(PATIENCE) == Judgement([])


def test_the_cache_knows_a_verdict_until_anything_in_the_question_changes(tmp_path: Path) -> None:
    (prompt,), (rollout,) = some_rollouts(1)
    with chat_server(lambda number, request: verdict(1)) as server:
        settings = fast(endpoint=server.endpoint, cache=str(tmp_path / "judge.sqlite"))

        def is_known(prompt: Prompt, rollout: Rollout, settings: JudgeConfig = settings) -> bool:
            judgement = Judge(settings, decode).start([prompt], [rollout]).result(PATIENCE)
            assert judgement.judged == 1 and judgement.calls == 1 - judgement.cached
            return judgement.cached == 1

        assert not is_known(prompt, rollout)
        assert is_known(prompt, rollout)
        assert is_known(replace(prompt, answer="another"), replace(rollout, outcome=0.0))
        assert not is_known(replace(prompt, question="Why?"), rollout)
        assert not is_known(replace(prompt, images=(an_image((9, 9, 9)),)), rollout)
        assert not is_known(prompt, replace(rollout, token_ids=(7, *rollout.token_ids[1:])))
        assert not is_known(prompt, replace(rollout, steps=rollout.steps[:2]))
        assert not is_known(prompt, rollout, settings.model_copy(update={"model": "another"}))
        assert not is_known(prompt, rollout, settings.model_copy(update={"with_answer": True}))


def test_failures_are_not_remembered(tmp_path: Path) -> None:
    with chat_server(lambda number, request: verdict(2) if number else (200, completion("hm"))) as server:
        settings = fast(endpoint=server.endpoint, cache=str(tmp_path / "judge.sqlite"))
        assert judged(settings).failures == {"unparseable": 1}
        assert (judged(settings).judged, judged(settings).cached) == (1, 1)


def _judge_elsewhere(settings: JudgeConfig) -> None:
    judgement = judged(settings, 4)
    assert judgement.cached == 4, judgement


@pytest.mark.slow
def test_another_process_finds_what_this_one_paid_for(tmp_path: Path) -> None:
    with chat_server(lambda number, request: verdict(1)) as server:
        settings = fast(endpoint=server.endpoint, cache=str(tmp_path / "judge.sqlite"))
        assert judged(settings, 4).calls == 4
        process = multiprocessing.get_context("spawn").Process(target=_judge_elsewhere, args=(settings,))
        process.start()
        process.join(120)
        assert process.exitcode == 0 and len(server.requests) == 4


def test_a_broken_cache_is_said_and_costs_nothing_but_the_calls(tmp_path: Path) -> None:
    path = tmp_path / "judge.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with chat_server(lambda number, request: verdict(1)) as server:
        judgement = judged(fast(endpoint=server.endpoint, cache=str(path)), 3)
    assert (judgement.judged, judgement.calls, judgement.cache_failed) == (3, 3, True)
    assert path.read_bytes() == b"no database at all" * 100


def test_a_cached_step_that_is_not_there_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "judge.sqlite"
    with chat_server(lambda number, request: verdict(1)) as server:
        settings = fast(endpoint=server.endpoint, cache=str(path))
        judged(settings)
        with sqlite3.connect(path) as other:
            other.execute("update verdicts set first_wrong = 99")
        other.close()
        assert (judged(settings).calls, judged(settings).cached) == (1, 1)


def test_the_key_is_sent_and_written_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "judge.sqlite"

    def echo(number: int, request: dict[str, Any]) -> tuple[int, str]:
        return verdict(0) if number == 0 else (401, json.dumps({"error": {"message": f"bad key: {KEY}"}}))

    with chat_server(echo) as server:
        settings = fast(endpoint=server.endpoint, cache=str(path), concurrency=1)
        judge = Judge(settings, decode, KEY)
        judgement = judge.start(*some_rollouts(2)).result(PATIENCE)
        assert [headers["authorization"] for headers in server.headers] == [f"Bearer {KEY}"] * 2
    assert judgement.failures == {"rejected": 1} and "bad key: ***" in judgement.problem
    assert KEY[:6] not in f"{judgement}{settings}{judge}"
    assert KEY[:6] not in caplog.text
    assert KEY.encode() not in path.read_bytes()


def test_a_key_in_a_long_message_is_not_cut_in_half() -> None:
    for padding in range(230, 300, 5):
        with chat_server(
            lambda number, request, size=padding: (401, json.dumps({"error": {"message": "x" * size + KEY}}))
        ) as server:
            judgement = judged(fast(endpoint=server.endpoint), key=KEY)
        assert judgement.failures == {"rejected": 1} and len(judgement.problem) > 230
        assert KEY[:4] not in judgement.problem


def test_a_judge_that_breaks_in_our_own_code_does_not_raise() -> None:
    def decode_badly(tokens: Sequence[int]) -> str:
        raise KeyError("token")

    judgement = Judge(fast(endpoint="http://127.0.0.1:1/v1"), decode_badly).start(*some_rollouts(2)).result(PATIENCE)
    assert nothing_known(judgement) and judgement.failures == {"broken": 2}
    assert judgement.problem == "broken: KeyError: 'token'"


def test_a_batch_ends_in_time_though_a_server_sends_its_reply_drop_by_drop() -> None:
    """No single wait is longer than the time-out, which therefore does not help."""
    with chat_server(lambda number, request: verdict(0), drip=0.05) as server:
        judgement = judged(fast(endpoint=server.endpoint, timeout=2, deadline=3), 2)
        assert judgement.failures == {"deadline": 2}
