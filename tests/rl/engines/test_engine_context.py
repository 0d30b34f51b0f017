"""As much as an engine takes: answers that fill its context, and more prompts than vLLM reads at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from rewards.models.encoding import Encoder
from rewards.records import Completion, Prompt, PromptError, SamplingRequest
from rl.engines.hf_engine import HfEngine
from rl.engines.vllm_engine import VllmEngine
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.tasks.grid import GridTask

PROMPTS = [GridTask().prompt("heldout", index) for index in range(4)]
LONGEST = 12


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(str(SHIPPED_POLICY))


@pytest.fixture(scope="module", params=[HfEngine, VllmEngine])
def engine(encoder: Encoder, request: pytest.FixtureRequest) -> Iterator[HfEngine | VllmEngine]:
    context = max(encoder.head_length(prompt) for prompt in PROMPTS) + LONGEST + 1
    made = request.param(str(SHIPPED_POLICY), max_completion_tokens=48, max_model_len=context)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("segment", [None, 4])
def test_an_answer_that_fills_the_context_is_cut_off_and_can_be_continued(
    segment: int | None, engine: HfEngine | VllmEngine, encoder: Encoder
) -> None:
    spare = max(encoder.head_length(prompt) for prompt in PROMPTS)
    for prompt in PROMPTS:
        room = LONGEST + spare - encoder.head_length(prompt)
        written: tuple[int, ...] = ()
        reason = "segment"
        while reason == "segment":
            (part,) = engine.sample([SamplingRequest(prompt, written, temperature=0, max_tokens=segment)])[0]
            written, reason = (*written, *part.token_ids), part.finish_reason
        assert (len(written), reason) == (room, "length")
        (further,) = engine.sample([SamplingRequest(prompt, written, temperature=0)])[0]
        assert len(further.token_ids) == 1


@pytest.mark.slow
def test_a_prompt_that_leaves_no_room_is_refused(engine: HfEngine | VllmEngine) -> None:
    with pytest.raises(PromptError, match=r"noise 1: the prompt has \d+ tokens, .* allowed with engine.max_model_len"):
        engine.sample([SamplingRequest(of_noise(1))])


def of_noise(number: int) -> Prompt:
    """A prompt with a large picture like no other."""
    pixels = np.random.default_rng(number).integers(0, 255, (588, 616, 3), dtype=np.uint8)
    return Prompt(f"noise {number}", "noise", "how many?", (Image.fromarray(pixels),), "2")


@pytest.mark.slow
def test_prompts_that_are_read_in_parts_are_answered_as_if_alone() -> None:
    """vLLM reads so many tokens at once, and keeps so many of pictures: with more, it reads some prompts in parts."""
    engine = VllmEngine(str(SHIPPED_POLICY), max_completion_tokens=4, max_model_len=512)
    prompts = [of_noise(number) for number in range(43)]
    at_once = engine._llm.llm_engine.vllm_config.scheduler_config.max_num_batched_tokens
    assert 16 * engine._encoder.head_length(prompts[0]) < at_once < 20 * engine._encoder.head_length(prompts[0])
    requests = [SamplingRequest(prompt, n=2, seed=number) for number, prompt in enumerate(prompts)]
    # After the first call, keys of the prompts are known up to the middle of their pictures, which are not any more.
    together = [engine.sample(requests[:40]), engine.sample([*requests[:17], *requests[40:]])]
    alone = [engine.sample([request])[0] for request in requests]
    for answers, expected in zip(together, (alone[:40], alone[:17] + alone[40:]), strict=True):
        assert written(answers) == written(expected)
    engine.close()


def written(answers: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[completion.token_ids for completion in group] for group in answers]
