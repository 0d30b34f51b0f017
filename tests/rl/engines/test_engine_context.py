"""Answers as long as vLLM's context allows: they end there, and can still be continued, as labelling wants to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rewards.models.encoding import Encoder
from rewards.records import SamplingRequest
from rl.engines.vllm_engine import VllmEngine
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.tasks.grid import GridTask

PROMPTS = [GridTask().prompt("heldout", index) for index in range(4)]
LONGEST = 12


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(str(SHIPPED_POLICY))


@pytest.fixture(scope="module")
def engine(encoder: Encoder) -> Iterator[VllmEngine]:
    context = max(encoder.head_length(prompt) for prompt in PROMPTS) + LONGEST + 1
    made = VllmEngine(str(SHIPPED_POLICY), max_completion_tokens=48, max_model_len=context)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("segment", [None, 4])
def test_an_answer_that_fills_the_context_is_cut_off_and_can_be_continued(
    segment: int | None, engine: VllmEngine, encoder: Encoder
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
