"""Transformers' own ``generate`` as an engine: slower than vLLM, and there wherever PyTorch is."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from rewards.models.backbone import device, load_model
from rewards.models.encoding import Encoder
from rewards.models.logit_rule import PLAIN, LogitRule, left_out
from rewards.models.reading_check import check_reading, two_words
from rewards.models.truncation import Truncation
from rewards.records import Completion, SamplingRequest
from rewards.seeds import derive_seed
from rl.engines.room import Room


class HfEngine:
    """Samples with Transformers.

    Args:
        checkpoint: Transformers checkpoint folder or hub name; its weights are policy version 0.
        temperature: Sampling temperature; log-probabilities are taken at it.
        truncation: Which tokens it draws from; log-probabilities are taken among these.
        max_completion_tokens: Most tokens of one answer, prefix included.
        max_model_len: Most tokens of prompt and answer together.
        images_per_prompt: Most images of one prompt.
        batch_size: Sequences decoded at once.
        dtype: For example ``float32`` on a CPU, ``bfloat16`` on a GPU.
        threads: CPU threads for the engine's computation.
        trust_remote_code: Whether code shipped with the checkpoint may run.
        system: The system prompt before every question.

    Raises:
        ValueError: See `rewards.models.reading_check.check_reading`.
    """

    def __init__(
        self,
        checkpoint: str,
        temperature: float = 1.0,
        max_completion_tokens: int = 64,
        max_model_len: int = sys.maxsize,
        images_per_prompt: int = sys.maxsize,
        batch_size: int = 128,
        dtype: str = "float32",
        threads: int = 1,
        trust_remote_code: bool = False,
        truncation: Truncation = Truncation(),
        system: str = "",
    ) -> None:
        torch.set_num_threads(threads)
        self._device = device()
        self._model = load_model(checkpoint, dtype, trust_remote_code).eval()
        # A checkpoint's own preferences, for example a repetition penalty, would be filled in without a word.
        self._model.generation_config = GenerationConfig()
        self._encoder = Encoder(checkpoint, trust_remote_code=trust_remote_code, system=system)
        check_reading(self._model, self._encoder)
        self._left_out = left_out(self._model, two_words(self._encoder))
        self._temperature, self._truncation = temperature, truncation
        self._room = Room(self._encoder, max_completion_tokens, max_model_len, images_per_prompt)
        self._batch_size = batch_size
        self.version = 0

    def sample(self, requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        """See `rl.engines.engine.Engine.sample`."""
        self._room.check({request.prompt.id: request.prompt for request in requests}.values())
        results: list[list[Completion]] = [[] for _ in requests]
        # Like lengths together: a batch decodes as long as its longest member.
        order = sorted(range(len(requests)), key=lambda i: (self._how(requests[i]), len(requests[i].prefix)))
        for (temperature, until), alike in groupby(order, key=lambda i: self._how(requests[i])):
            rows = [i for i in alike for _ in range(requests[i].n)]
            for start in range(0, len(rows), self._batch_size):
                chunk = rows[start : start + self._batch_size]
                completions = self._generate([requests[i] for i in chunk], start, temperature, until)
                for row, completion in zip(chunk, completions, strict=True):
                    results[row].append(completion)
        return results

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> int:
        """See `rl.engines.engine.RenewableEngine.load_weights`."""
        self._model.load_state_dict(dict(weights))
        self.version = version
        return version

    def load_adapters(self, adapters: Mapping[str, torch.Tensor], version: int) -> int:
        """See `rl.engines.engine.RenewableEngine.load_adapters`."""
        raise ValueError("this engine takes whole weights, not adapters")

    def sleep(self) -> None:
        """See `rl.engines.engine.RenewableEngine.sleep`."""
        raise ValueError("this engine cannot sleep")

    def wake_up(self) -> None:
        """See `rl.engines.engine.RenewableEngine.wake_up`."""
        raise ValueError("this engine cannot sleep")

    def close(self) -> None:
        """See `rl.engines.engine.RenewableEngine.close`."""

    def _how(self, request: SamplingRequest) -> tuple[float, str]:
        """What the requests of one batch have in common: temperature, and where to end, empty for nowhere."""
        return self._temperature if request.temperature is None else request.temperature, request.until or ""

    @torch.inference_mode()
    def _generate(
        self, requests: Sequence[SamplingRequest], position: int, temperature: float, until: str
    ) -> list[Completion]:
        """One continuation for each of a batch of requests."""
        longest = max(len(request.prefix) for request in requests)
        batch = self._encoder.batch([r.prompt for r in requests], [r.prefix for r in requests])
        inputs = _prefixes_to_the_left(batch.model_inputs(self._device), longest)
        allowed = [self._room.left(request) for request in requests]
        prompt_length = inputs["input_ids"].shape[1]
        sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
        processors: list[LogitsProcessor] = [] if self._left_out == PLAIN else [_Finished(self._left_out)]
        processors += [_AsDrawn(temperature, self._truncation)] if temperature else []
        criteria = [_Wrote(until, prompt_length, self._encoder.decode)] if until else []
        torch.manual_seed(derive_seed(position, *(request.seed for request in requests)))
        output = self._model.generate(
            **inputs,
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=StoppingCriteriaList(criteria),
            generation_config=GenerationConfig(
                **(sampling if temperature else {"do_sample": False}),
                max_new_tokens=max(allowed),
                eos_token_id=sorted(self._encoder.end_tokens),
                pad_token_id=self._encoder.pad_token,
                return_dict_in_generate=True,
                output_scores=True,
            ),
        )
        logprobs = torch.stack([scores.float().log_softmax(-1) for scores in output.scores], dim=1)
        tokens = output.sequences[:, prompt_length:]
        chosen = logprobs.gather(2, tokens.unsqueeze(2)).squeeze(2)
        return [
            self._completion(request, row.tolist()[:most], values.tolist()[:most])
            for request, row, values, most in zip(requests, tokens, chosen, allowed, strict=True)
        ]

    def _completion(self, request: SamplingRequest, tokens: list[int], logprobs: list[float]) -> Completion:
        """Cut one row of a batch, no longer than its own limit, at its end token or where it wrote ``until``."""
        ends = [place for place, token in enumerate(tokens, start=1) if token in self._encoder.end_tokens]
        length = ends[0] if ends else len(tokens)
        finish_reason = "stop" if ends else self._room.cut_off(request, length)
        until = request.until
        read = self._encoder.read(tokens[:length])
        if until and until in read.text:
            length = read.tokens_up_to(read.text.index(until) + len(until))
            finish_reason = "until"
        return Completion(tuple(tokens[:length]), tuple(logprobs[:length]), finish_reason, self.version)


class _Finished(LogitsProcessor):
    """What the model leaves out of its own logits."""

    def __init__(self, rule: LogitRule) -> None:
        self._rule = rule

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return self._rule(scores)


class _AsDrawn(LogitsProcessor):
    """The logits of what is drawn from; Transformers' own settings would leave tokens out in another order."""

    def __init__(self, temperature: float, truncation: Truncation) -> None:
        self._temperature, self._truncation = temperature, truncation

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores / self._temperature
        return scores.masked_fill(~self._truncation.kept(scores), -math.inf) if self._truncation.is_used else scores


class _Wrote(StoppingCriteria):
    """A row is done when it has written a text after its first ``start`` tokens, as vLLM understands a stop text.

    Transformers' own ``stop_strings`` would also find a text that begins before them.
    """

    def __init__(self, text: str, start: int, decode: Callable[[list[int]], str]) -> None:
        self._text, self._start, self._decode = text, start, decode

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        written = [self._text in self._decode(row) for row in input_ids[:, self._start :].tolist()]
        return torch.tensor(written, device=input_ids.device)


def _prefixes_to_the_left(inputs: dict[str, torch.Tensor], longest: int) -> dict[str, torch.Tensor]:
    """Move the padding after each prefix to the front of its row: generation goes on from the last column."""
    if longest == 0:
        return inputs
    mask = inputs["attention_mask"]
    # A stable sort of the mask puts the padding first and keeps the tokens in order.
    order = mask.argsort(dim=1, stable=True)
    per_token = {name for name, tensor in inputs.items() if tensor.shape[:2] == mask.shape and tensor.dim() == 2}
    return {name: tensor.gather(1, order) if name in per_token else tensor for name, tensor in inputs.items()}
