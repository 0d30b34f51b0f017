"""Transformers' own ``generate`` as an engine: slower than vLLM, and there wherever PyTorch is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from transformers import GenerationConfig

from rewards.backbone import device, load_model
from rewards.encoding import Encoder
from rewards.records import Completion, SamplingRequest
from rewards.seeds import derive_seed
from rl.engines.engine import room_left


class HfEngine:
    """Samples with Transformers.

    Args:
        checkpoint: Transformers checkpoint folder or hub name; its weights are policy version 0.
        temperature: Sampling temperature; log-probabilities are taken at it.
        max_completion_tokens: Most tokens of one answer, prefix included.
        batch_size: Sequences decoded at once.
        dtype: For example ``float32`` on a CPU, ``bfloat16`` on a GPU.
        threads: CPU threads for the engine's computation.
        trust_remote_code: Whether code shipped with the checkpoint may run.
    """

    def __init__(
        self,
        checkpoint: str,
        temperature: float = 1.0,
        max_completion_tokens: int = 64,
        batch_size: int = 128,
        dtype: str = "float32",
        threads: int = 1,
        trust_remote_code: bool = False,
    ) -> None:
        torch.set_num_threads(threads)
        self._device = device()
        self._model = load_model(checkpoint, dtype, trust_remote_code).eval()
        self._encoder = Encoder(checkpoint, trust_remote_code=trust_remote_code)
        self._temperature, self._max_tokens, self._batch_size = temperature, max_completion_tokens, batch_size
        self.version = 0

    def sample(self, requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        """See `rl.engines.engine.Engine.sample`."""
        results: list[list[Completion]] = [[] for _ in requests]
        # Like lengths together: a batch decodes as long as its longest member.
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].prefix))
        rows = [i for i in order for _ in range(requests[i].n)]
        for start in range(0, len(rows), self._batch_size):
            chunk = rows[start : start + self._batch_size]
            for row, completion in zip(chunk, self._generate([requests[i] for i in chunk], start), strict=True):
                results[row].append(completion)
        return results

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> None:
        """See `rl.engines.engine.Engine.load_weights`."""
        self._model.load_state_dict(dict(weights))
        self.version = version

    @torch.inference_mode()
    def _generate(self, requests: Sequence[SamplingRequest], position: int) -> list[Completion]:
        """One continuation for each of a batch of requests."""
        longest = max(len(request.prefix) for request in requests)
        batch = self._encoder.batch([r.prompt for r in requests], [r.prefix for r in requests])
        inputs = _prefixes_to_the_left(batch.model_inputs(self._device), longest)
        allowed = [room_left(request, self._max_tokens) for request in requests]
        torch.manual_seed(derive_seed(position, *(request.seed for request in requests)))
        output = self._model.generate(
            **inputs,
            generation_config=GenerationConfig(
                do_sample=True,
                temperature=self._temperature,
                top_k=0,
                top_p=1.0,
                max_new_tokens=max(allowed),
                eos_token_id=self._encoder.end_token,
                pad_token_id=self._encoder.pad_token,
                return_dict_in_generate=True,
                output_scores=True,
            ),
        )
        logprobs = torch.stack([scores.float().log_softmax(-1) for scores in output.scores], dim=1)
        tokens = output.sequences[:, inputs["input_ids"].shape[1] :]
        chosen = logprobs.gather(2, tokens.unsqueeze(2)).squeeze(2)
        return [
            self._completion(row.tolist(), values.tolist(), most)
            for row, values, most in zip(tokens, chosen, allowed, strict=True)
        ]

    def _completion(self, tokens: list[int], logprobs: list[float], most: int) -> Completion:
        """Cut one row of a batch at its end token, or at its own length limit."""
        length = tokens.index(self._encoder.end_token) + 1 if self._encoder.end_token in tokens else len(tokens)
        finish_reason = "stop" if self._encoder.end_token in tokens[:most] else "length"
        length = min(length, most)
        return Completion(tuple(tokens[:length]), tuple(logprobs[:length]), finish_reason, self.version)


def _prefixes_to_the_left(inputs: dict[str, torch.Tensor], longest: int) -> dict[str, torch.Tensor]:
    """Move the padding after each prefix to the front of its row: generation goes on from the last column."""
    if longest == 0:
        return inputs
    mask = inputs["attention_mask"]
    # A stable sort of the mask puts the padding first and keeps the tokens in order.
    order = mask.argsort(dim=1, stable=True)
    per_token = {name for name, tensor in inputs.items() if tensor.shape[:2] == mask.shape and tensor.dim() == 2}
    return {name: tensor.gather(1, order) if name in per_token else tensor for name, tensor in inputs.items()}
