"""vLLM as an engine, on CPU and GPU, inside the calling process (a Ray actor, or a test)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rewards.encoding import Encoder
from rewards.records import Completion, SamplingRequest
from rl.engines.engine import room_left

ENVIRONMENT = {
    # The engine core runs in this process: half the start-up time, and weights need not cross a process boundary.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
CPU_ENVIRONMENT = {
    # Ray has already said which cores are ours.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # Compiling the sampler costs seconds at every first use, and needs a C++ compiler.
    "TORCHDYNAMO_DISABLE": "1",
}


class VllmEngine:
    """Samples with vLLM.

    Args:
        checkpoint: Transformers checkpoint folder or hub name; its weights are policy version 0.
        temperature: Sampling temperature; log-probabilities are taken at it.
        max_completion_tokens: Most tokens of one answer, prefix included.
        max_model_len: Most tokens of prompt and answer together.
        images_per_prompt: Most images in one prompt.
        max_num_seqs: Sequences decoded at once.
        dtype: For example ``float32`` on a CPU, ``bfloat16`` on a GPU.
        kv_cache_gib: Size of the key-value cache on a CPU, in GiB.
        gpu_memory_utilization: Share of the GPU that vLLM may take.
        threads: CPU threads for the engine's computation.
        trust_remote_code: Whether code shipped with the checkpoint may run.
    """

    def __init__(
        self,
        checkpoint: str,
        temperature: float = 1.0,
        max_completion_tokens: int = 64,
        max_model_len: int = 512,
        images_per_prompt: int = 1,
        max_num_seqs: int = 128,
        dtype: str = "float32",
        kv_cache_gib: int = 1,
        gpu_memory_utilization: float = 0.8,
        threads: int = 1,
        trust_remote_code: bool = False,
    ) -> None:
        on_cpu = not torch.cuda.is_available()
        os.environ.update(ENVIRONMENT)
        if on_cpu:
            os.environ.update(CPU_ENVIRONMENT | {"VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib)})
        from vllm import LLM  # only now: it reads the environment at import

        torch.set_num_threads(threads)
        self._llm = LLM(
            model=checkpoint,
            dtype=dtype,
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            enforce_eager=on_cpu,
            enable_prefix_caching=True,
            # The CPU default of 128 tokens is longer than a short chain of steps, which then never hits the cache.
            block_size=32 if on_cpu else None,
            limit_mm_per_prompt={"image": images_per_prompt},
            gpu_memory_utilization=gpu_memory_utilization,
            logprobs_mode="processed_logprobs",
            generation_config="vllm",
            trust_remote_code=trust_remote_code,
            disable_log_stats=True,
        )
        self._encoder = Encoder(checkpoint, trust_remote_code=trust_remote_code)
        self._temperature, self._max_tokens = temperature, max_completion_tokens
        self.version = 0

    def sample(self, requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        """See `rl.engines.engine.Engine.sample`."""
        from vllm import SamplingParams

        inputs: list[Any] = []
        prompt_tokens = {request.prompt.id: self._encoder.prompt_tokens(request.prompt) for request in requests}
        for request in requests:
            entry: dict[str, Any] = {"prompt_token_ids": [*prompt_tokens[request.prompt.id], *request.prefix]}
            if request.prompt.images:
                entry["multi_modal_data"] = {"image": list(request.prompt.images)}
            inputs.append(entry)
        params = [
            SamplingParams(
                n=request.n,
                seed=request.seed,
                temperature=self._temperature if request.temperature is None else request.temperature,
                max_tokens=room_left(request, self._max_tokens),
                logprobs=0,
                stop=request.until,
                include_stop_str_in_output=True,
                detokenize=request.until is not None,
            )
            for request in requests
        ]
        outputs = self._llm.generate(inputs, params, use_tqdm=False)
        return [[_completion(sample, self.version) for sample in output.outputs] for output in outputs]

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> None:
        """See `rl.engines.engine.Engine.load_weights`."""
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": list(weights.items())})
        self._llm.reset_prefix_cache()
        self._llm.reset_mm_cache()
        # Without this the next image is answered from the old vision tower, or dies with "Encoder cache miss".
        self._llm.llm_engine.reset_encoder_cache()
        self.version = version


def _completion(sample: Any, version: int) -> Completion:
    token_ids = tuple(sample.token_ids)
    logprobs = tuple(entry[token].logprob for entry, token in zip(sample.logprobs, token_ids, strict=True))
    # A text that ended it is the one that was asked for; a token, one of the checkpoint's end-of-sequence tokens.
    ended = "until" if isinstance(sample.stop_reason, str) else "stop"
    finish_reason = ended if sample.finish_reason == "stop" else "length"
    return Completion(token_ids, logprobs, finish_reason, version)
