"""A served reward model: its scores come to the steps that they are of, and whatever else comes is said in one line."""

from __future__ import annotations

import base64
import io
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rewards.endpoints.asking import MOST_BYTES
from rewards.endpoints.served_config import ServedConfig
from rewards.records import Prompt, Rollout
from rewards.served.step_scores import ServedModelError, ServedPRM
from tests.fixtures.builders import a_prompt, a_rollout, an_image
from tests.fixtures.chat_server import ChatServer, Reply, chat_server, completion, free_port

KEY = "sk-very-secret-4711"
FAST = {"model": "prm", "retries": 0, "timeout": 60, "deadline": 120}
MARKER = "<extra_0>"


def decode(tokens: Sequence[int]) -> str:
    return "".join(f"{token} " for token in tokens)


def some_rollouts(*steps: int) -> tuple[list[Prompt], list[Rollout]]:
    """Rollouts with these numbers of steps, of two tokens each; every token stands in one of them alone."""
    prompts = [a_prompt(f"prompt {place}", images=[an_image((place, 80, 30), (56, 28))]) for place in range(len(steps))]
    rollouts = [
        a_rollout([2] * count, tail=1, prompt=prompt.id, tokens=range(100 * place, 100 * place + 2 * count + 1))
        for place, (prompt, count) in enumerate(zip(prompts, steps, strict=True))
    ]
    return prompts, rollouts


def pooled(rows: Any) -> tuple[int, str]:
    """As vLLM answers."""
    entry = {"index": 0, "object": "pooling", "data": rows}
    usage = {"prompt_tokens": 9, "total_tokens": 9}
    return 200, json.dumps({"id": "x", "object": "list", "created": 0, "model": "prm", "data": [entry], "usage": usage})


def by_first_number(number: int, request: dict[str, Any]) -> tuple[int, str]:
    """A row for each step: how wrong, and how right, told by its first token."""
    steps = request["messages"][-1]["content"].split(MARKER)[:-1]
    return pooled([[1 - int(step.split()[0]) / 1000, int(step.split()[0]) / 1000] for step in steps])


def served(server: ChatServer | str, key: str | None = None, **keys: Any) -> ServedPRM:
    endpoint = server if isinstance(server, str) else server.endpoint
    return ServedPRM(ServedConfig(**FAST | {"endpoint": endpoint} | keys), decode, key)


def problem(model: ServedPRM) -> str:
    with pytest.raises(ServedModelError) as error:
        model.score(*some_rollouts(3))
    text = str(error.value)
    assert "\n" not in text and text.startswith("http://127.0.0.1:") and KEY not in text
    return text


def test_each_step_has_the_score_at_its_marker() -> None:
    with chat_server(by_first_number) as server:
        prompts, rollouts = some_rollouts(3, 1, 0, 2)
        scores = served(server, KEY, system="Judge.").score(prompts, rollouts)
        assert server.paths == ["/v1/pooling"] * 3, "nothing is asked about an answer without steps"
        assert all(headers["authorization"] == f"Bearer {KEY}" for headers in server.headers)
        (asked,) = (request for request in server.requests if "prompt 0?" in json.dumps(request))
    expected = [[0.0, 0.002, 0.004], [0.1], [], [0.3, 0.302]]
    assert [entry.scores.tolist() for entry in scores] == [pytest.approx(row) for row in expected]
    assert {entry.mprm_version for entry in scores} == {0}
    system, user, assistant = asked["messages"]
    assert (asked["model"], system) == ("prm", {"role": "system", "content": "Judge."})
    assert assistant == {"role": "assistant", "content": f"0 1{MARKER}2 3{MARKER}4 5{MARKER}"}
    picture, question = user["content"]
    assert question == {"type": "text", "text": prompts[0].question}
    data = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.array(Image.open(io.BytesIO(data))), np.array(prompts[0].images[0]))


@pytest.mark.parametrize(
    ("column", "rows", "expected"),
    [
        (-1, [[0.9, 0.1], [0.2, 0.8]], [0.1, 0.8]),
        (0, [[0.9, 0.1], [0.2, 0.8]], [0.9, 0.2]),
        (-1, [[0.25], [1.0]], [0.25, 1.0]),
        (-1, [0.5, 0], [0.5, 0.0]),
    ],
)
def test_the_column_says_which_number_is_the_score(column: int, rows: Any, expected: list[float]) -> None:
    with chat_server(lambda number, request: pooled(rows)) as server:
        (scored,) = served(server, column=column).score(*some_rollouts(2))
    assert scored.scores.tolist() == expected


def test_a_step_that_spells_the_marker_counts_once() -> None:
    with chat_server(by_first_number) as server:
        model = ServedPRM(ServedConfig(**FAST, endpoint=server.endpoint), lambda tokens: f"7{MARKER}" * len(tokens))
        (scored,) = model.score(*some_rollouts(2))
    assert scored.scores.shape == (2,)


def test_what_is_known_is_not_asked_again(tmp_path: Path) -> None:
    cache = str(tmp_path / "served.sqlite")
    with chat_server(by_first_number) as server:
        first = served(server, cache=cache).score(*some_rollouts(3, 2))
        again = served(server, cache=cache).score(*some_rollouts(3, 2))
        assert len(server.requests) == 2
        served(server, cache=cache, model="another").score(*some_rollouts(3, 2))
        assert len(server.requests) == 4
    assert [entry.scores.tolist() for entry in first] == [entry.scores.tolist() for entry in again]


@pytest.mark.parametrize(
    "text", ["[0.5", "[0.5]", "{}", '["a", "b", "c"]', "[0.5, 7, 0]", "[NaN, 0, 0]", f"[1{'0' * 400}, 0, 0]"]
)
def test_what_a_damaged_cache_holds_is_asked_again(text: str, tmp_path: Path) -> None:
    cache = tmp_path / "served.sqlite"
    with chat_server(by_first_number) as server:
        (first,) = served(server, cache=str(cache)).score(*some_rollouts(3))
        with closing(sqlite3.connect(cache, isolation_level=None)) as connection:
            connection.execute("update scores set scores = ?", (text,))
        (again,) = served(server, cache=str(cache)).score(*some_rollouts(3))
        assert len(server.requests) == 2
    assert first.scores.tolist() == again.scores.tolist()


def test_what_was_answered_before_a_failure_is_kept(tmp_path: Path) -> None:
    def second_fails(number: int, request: dict[str, Any]) -> tuple[int, str]:
        return (500, "oops") if number == 1 else by_first_number(number, request)

    with chat_server(second_fails) as server:
        model = served(server, cache=str(tmp_path / "served.sqlite"), concurrency=1)
        with pytest.raises(ServedModelError):
            model.score(*some_rollouts(3, 2))
        assert len(model.score(*some_rollouts(3, 2))) == 2 and len(server.requests) == 3


def test_so_many_requests_at_once() -> None:
    with chat_server(by_first_number, pause=0.1) as server:
        served(server, concurrency=3).score(*some_rollouts(*[1] * 9))
        assert server.most == 3


def test_it_is_tried_again_before_it_fails() -> None:
    def flaky(number: int, request: dict[str, Any]) -> tuple[int, str]:
        return (503, "busy") if number == 0 else by_first_number(number, request)

    with chat_server(flaky) as server:
        (scored,) = served(server, retries=1).score(*some_rollouts(3))
        assert len(server.requests) == 2
    assert scored.scores.shape == (3,)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (500, "oops", "server_error: HTTP 500: oops"),
        (503, b"\xff\xfe", "server_error: HTTP 503: "),
        (401, f"no such key: {KEY}", "rejected: HTTP 401: no such key: ***"),
        (404, '{"error": {"message": "no model prm"}}', "no model prm"),
        (200, "", "malformed: ''"),
        (200, "<html>a portal</html>", "malformed: '<html>a portal</html>'"),
        (200, '{"data": [', "malformed: '{\"data\": ['"),
        (200, "[" * 100_000, "malformed: '[[["),
        (200, b"\xff\xfe\x00 no text", "malformed: "),
        (200, "{}", "malformed: '{}'"),
        (200, '{"data": []}', "malformed"),
        (200, '{"data": [{"data": "AAAA"}]}', "malformed"),
        (200, '{"data": [{"data": [[0.1, 0.9], [0.2]]}]}', "malformed"),
        (200, completion("a chat"), "malformed"),
        (200, '{"data": [{"data": 0.5}]}', "wrong count: 1 scores for 3 steps"),
        (200, f'{{"data": [{{"data": [1{"0" * 400}, 0, 0]}}]}}', "malformed"),
        (200, " " * MOST_BYTES + pooled([0.5] * 3)[1], "malformed: '    "),
        (*pooled([[0.1, 0.9]] * 2), "wrong count: 2 scores for 3 steps; allowed is one at each '<extra_0>'"),
        (*pooled([[0.1, 0.9]] * 40), "wrong count: 40 scores for 3 steps"),
        (*pooled([[]] * 3), "wrong count: scores of shape [3, 0] have no column -1"),
        (*pooled([[[0.5]]] * 3), "wrong count: scores of shape [3, 1, 1] have no column -1"),
        (*pooled([[0.1], [1.5], [0.2]]), "out of range: step 2 has a score of 1.5; allowed is 0 to 1"),
        (200, pooled([[0.1], [None], [0.2]])[1].replace("null", "NaN"), "step 2 has a score of nan; allowed"),
        (*pooled([float("inf"), 0.5, 0.5]), "out of range: step 1 has a score of inf; allowed is 0 to 1"),
        (*pooled([0.5, 0.5, -0.01]), "out of range: step 3 has a score of -0.01; allowed is 0 to 1"),
        (*pooled(["\0", 0.5, 0.5]), "malformed: "),
        (500, "\0oops\0", "server_error: HTTP 500: "),
    ],
)
def test_what_is_no_scores_is_said_in_one_line(status: int, body: str | bytes, expected: str) -> None:
    with chat_server(lambda number, request: (status, body)) as server:
        said = problem(served(server, KEY))
    assert said.startswith(f"{server.endpoint}/pooling: ") and expected in said and len(said) < 500


def test_an_answer_may_be_long(tmp_path: Path) -> None:
    """As long as an answer may be; a longer one is above."""
    answer = pooled([0.5] * 3)[1]
    with chat_server(lambda number, request: (200, answer.rjust(MOST_BYTES))) as server:
        (scored,) = served(server).score(*some_rollouts(3))
    assert scored.scores.tolist() == [0.5] * 3


def test_an_answer_that_does_not_come_in_time() -> None:
    with chat_server(by_first_number, pause=3) as server:
        assert problem(served(server, timeout=0.3)) == f"{server.endpoint}/pooling: timeout: Request timed out."
    with chat_server(by_first_number, drip=0.2) as server:
        said = problem(served(server, timeout=60, deadline=1))
    assert said == f"{server.endpoint}/pooling: deadline: not done after 1 s"


def test_nobody_listens() -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    assert problem(served(endpoint)) == f"{endpoint}/pooling: unreachable: Connection error."


def verdict(first_wrong: int) -> Reply:
    return lambda number, request: (200, completion(json.dumps({"first_wrong_step": first_wrong})))


@pytest.mark.parametrize(("first_wrong", "expected"), [(0, [1, 1, 1]), (1, [0, 0, 0]), (2, [1, 0, 0]), (3, [1, 1, 0])])
def test_a_judge_scores_the_steps_up_to_the_first_wrong_one(first_wrong: int, expected: list[int]) -> None:
    with chat_server(verdict(first_wrong)) as server:
        scored, empty = served(server, interface="judge").score(*some_rollouts(3, 0))
        assert server.paths == ["/v1/chat/completions"]
    assert (scored.scores.tolist(), empty.scores.tolist()) == (expected, [])


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (500, "oops", "server_error: HTTP 500: oops"),
        (200, b"\xff\xfe", "malformed: "),
        (200, completion("I think step 2"), "unparseable: the answer ends with 'I think step 2'"),
        (200, completion('{"first_wrong_step": 9}'), "out_of_range: the answer names step 9 of 3"),
    ],
)
def test_a_judge_without_a_verdict_is_said_in_one_line(status: int, body: str | bytes, expected: str) -> None:
    with chat_server(lambda number, request: (status, body)) as server:
        said = problem(served(server, interface="judge"))
    assert said.startswith(f"{server.endpoint}: {expected}")
    assert said.endswith("(1 of 1 rollouts have no verdict)")


def test_a_judge_that_is_too_slow() -> None:
    with chat_server(verdict(0), pause=5) as server:
        said = problem(served(server, interface="judge", deadline=0.5))
    assert said.startswith(f"{server.endpoint}: deadline: not done after 0.5 s")
