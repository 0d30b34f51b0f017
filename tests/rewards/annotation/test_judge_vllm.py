"""The judge against vLLM's own server, with a model that spells bytes at random."""

from __future__ import annotations

import base64
import io
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewards.annotation.judge import Judge
from rewards.annotation.verdicts import question, step_verdicts
from rewards.records import Prompt, Rollout
from tests.fixtures.chat_server import vllm_server
from tests.fixtures.tiny_families import write_tiny_checkpoint
from tests.rewards.annotation.test_judge import (
    KEY,
    STEPS,
    decode,
    fast,
    judged,
    nothing_known,
    some_rollouts,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("vllm")
    with vllm_server(write_tiny_checkpoint("qwen2_5_vl", folder / "model"), KEY, folder / "log.txt") as endpoint:
        yield endpoint


def asked_plainly(endpoint: str, prompt: Prompt, rollout: Rollout) -> dict[str, Any]:
    """The same question without the library and without our code, as JSON over HTTP."""
    file = io.BytesIO()
    prompt.images[0].save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    text = question(prompt, [decode(rollout.token_ids[span.start : span.end]) for span in rollout.steps])
    schema = {
        "type": "object",
        "properties": {"first_wrong_step": {"type": "integer", "enum": list(range(STEPS + 1))}},
        "required": ["first_wrong_step"],
        "additionalProperties": False,
    }
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    body = {
        "model": "judge",
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "max_tokens": 48,
        "response_format": {"type": "json_schema", "json_schema": {"name": "v", "schema": schema}},
    }
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(f"{endpoint}/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def test_vllm_judges_steps_and_images_and_counts_what_it_cost(vllm: str, tmp_path: Path) -> None:
    settings = fast(endpoint=vllm, cache=str(tmp_path / "judge.sqlite"), price_input=2.0, price_output=10.0)
    prompts, rollouts = some_rollouts(6)
    answers = [asked_plainly(vllm, *pair) for pair in zip(prompts, rollouts, strict=True)]

    judgement = Judge(settings, decode, KEY).start(prompts, rollouts).result()
    for found, answer in zip(judgement.verdicts, answers, strict=True):
        said = json.loads(answer["choices"][0]["message"]["content"])["first_wrong_step"]
        np.testing.assert_array_equal(found, step_verdicts(said, STEPS))
    assert (judgement.judged, judgement.calls, judgement.cached, judgement.failures) == (6, 6, 0, {})
    usage = [answer["usage"] for answer in answers]
    assert judgement.prompt_tokens == sum(entry["prompt_tokens"] for entry in usage)
    assert judgement.completion_tokens == sum(entry["completion_tokens"] for entry in usage)
    price = 2.0 * judgement.prompt_tokens + 10.0 * judgement.completion_tokens
    assert judgement.cost == pytest.approx(price / 1e6)

    again = Judge(settings, decode, KEY).start(prompts, rollouts).result()
    assert (again.judged, again.cached, again.calls, again.cost) == (6, 6, 0, 0.0)
    for before, after in zip(judgement.verdicts, again.verdicts, strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_model_that_writes_nonsense_leaves_no_verdict(vllm: str) -> None:
    judgement = judged(fast(endpoint=vllm, structured=False), 4, KEY)
    assert nothing_known(judgement)
    assert judgement.failures.total() == judgement.calls == 4
    assert set(judgement.failures) <= {"truncated", "unparseable", "empty"}
    assert judgement.completion_tokens > 0


def test_vllm_refuses_a_wrong_key_an_unknown_model_and_what_is_too_long(vllm: str) -> None:
    for settings, key in (
        (fast(endpoint=vllm), "wrong-key"),
        (fast(endpoint=vllm, model="gone"), KEY),
        (fast(endpoint=vllm, max_tokens=100_000), KEY),
    ):
        judgement = judged(settings, 2, key)
        assert nothing_known(judgement) and judgement.failures == {"rejected": 2}
        assert judgement.problem.startswith("rejected: ") and KEY not in judgement.problem
