"""Prompts that an engine or a checkpoint cannot read: one line that names them, wherever it is found."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rewards.models.encoding import Encoder
from rewards.records import Prompt, PromptError, SamplingRequest
from rl.engines.hf_engine import HfEngine
from rl.engines.room import check_prompt
from rl.files.named_checkpoint import SHIPPED_POLICY
from tests.fixtures.builders import a_prompt, an_image
from tests.fixtures.runs import warm_python

NARROW = a_prompt("train.jsonl:7", images=[an_image(size=(600, 2))])


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(str(SHIPPED_POLICY))


def test_a_prompt_that_fills_the_context_is_named_with_its_tokens_and_the_limit(encoder: Encoder) -> None:
    prompt = replace(a_prompt(), id="train.jsonl:4")
    tokens = encoder.head_length(prompt)
    check_prompt(prompt, tokens, tokens + 2, 1)
    with pytest.raises(PromptError) as caught:
        check_prompt(prompt, tokens, tokens + 1, 1)
    said = str(caught.value)
    assert said.startswith("train.jsonl:4: ") and f"{tokens} tokens" in said
    assert f"engine.max_model_len {tokens + 1} are {tokens - 1}" in said


def test_more_images_than_the_engine_takes_are_named() -> None:
    with pytest.raises(PromptError, match=r"prompt: the prompt has 3 images; allowed with engine.images_per_prompt 2"):
        check_prompt(a_prompt(images=[an_image()] * 3), 9, 99, 2)


def readers(encoder: Encoder) -> list[Callable[[Prompt], Any]]:
    engine = HfEngine(str(SHIPPED_POLICY))
    return [encoder.head_length, lambda prompt: engine.sample([SamplingRequest(prompt)])]


def test_an_image_that_the_processor_refuses_is_named_with_its_prompt(encoder: Encoder) -> None:
    for read in readers(encoder):
        with pytest.raises(PromptError, match=r"^train.jsonl:7: the checkpoint's processor cannot read it: .*ratio"):
            read(NARROW)


@pytest.mark.slow
def test_workers_hand_the_error_on_and_ray_listens_on_loopback_alone(tmp_path: Path) -> None:
    script = """
import psutil, ray
from tests.fixtures.runs import answers
from rewards.records import PromptError
from rl.workers.ray_cluster import join_ray
from rl.workers.worker import Worker

class Reader:
    def read(self):
        raise PromptError("train.jsonl:7: too long")

join_ray()
try:
    Worker("reader", Reader, 0.1, 0, 60).call("read")
except PromptError as error:
    print(error)
mine = psutil.Process()
everyone = (mine, *mine.children(recursive=True))
for _, connections in answers(everyone, lambda process: process.net_connections("inet")):
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN:
            print("listens", connection.laddr.ip)
ray.shutdown()
"""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    environment.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)
    process = subprocess.run(
        [warm_python(), "-c", script], capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environment
    )
    assert process.returncode == 0, process.stderr
    error, *heard = process.stdout.splitlines()
    assert error == "train.jsonl:7: too long"
    assert heard and set(heard) <= {"listens 127.0.0.1", "listens ::ffff:127.0.0.1", "listens ::1"}
