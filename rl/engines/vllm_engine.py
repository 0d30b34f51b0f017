"""vLLM as an engine, on CPU and GPU, inside the calling process (a Ray actor, or a test)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from rewards.files.held_folder import scratch_folder
from rewards.models.encoding import Encoder
from rewards.models.truncation import Truncation
from rewards.records import Completion, SamplingRequest
from rl.engines.adapter_files import room_for_rank, write_adapters
from rl.engines.room import Room
from rl.files.importing import importing

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

GPU_ENVIRONMENT = {
    # Of several processes: a fork of one that has asked for GPUs cannot use any.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}


class VllmEngine:
    """Samples with vLLM.

    Args:
        checkpoint: Transformers checkpoint folder or hub name; its weights are policy version 0.
        temperature: Sampling temperature; log-probabilities are taken at it.
        truncation: Which tokens it draws from; log-probabilities are taken among these.
        max_completion_tokens: Most tokens of one answer, prefix included.
        max_model_len: Most tokens of prompt and answer together.
        images_per_prompt: Most images in one prompt.
        max_pixels: Of one image; None for what the processor takes.
        max_num_seqs: Sequences decoded at once.
        dtype: For example ``float32`` on a CPU, ``bfloat16`` on a GPU.
        kv_cache_gib: Size of the key-value cache on a CPU, in GiB.
        gpu_memory_utilization: Share of the GPU that vLLM may take.
        threads: CPU threads for the engine's computation.
        trust_remote_code: Whether code shipped with the checkpoint may run.
        system: The system prompt before every question.
        tensor_parallel: GPUs (on a CPU: processes, which share the threads) that hold a part of the weights each.
        sleep: Whether `sleep` will be asked for.
        lora_rank: Rank of the adapters that `load_adapters` will bring; 0 for none.
        weight_transfer: How weights come to `receive_weights`: vLLM's ``nccl`` or ``ipc``; None if they do not.

    Raises:
        ValueError: There is no GPU, and ``sleep``, ``weight_transfer`` or this vLLM wants one; or there is one, and
            adapters in float32 do not want it.
    """

    def __init__(
        self,
        checkpoint: str,
        temperature: float = 1.0,
        max_completion_tokens: int = 64,
        max_model_len: int = 512,
        images_per_prompt: int = 1,
        max_pixels: int | None = None,
        max_num_seqs: int = 128,
        dtype: str = "float32",
        kv_cache_gib: int = 1,
        gpu_memory_utilization: float = 0.8,
        threads: int = 1,
        trust_remote_code: bool = False,
        tensor_parallel: int = 1,
        sleep: bool = False,
        lora_rank: int = 0,
        weight_transfer: str | None = None,
        truncation: Truncation = Truncation(),
        system: str = "",
    ) -> None:
        on_cpu = not torch.cuda.is_available()
        if on_cpu:
            _refuse_on_cpu(sleep, weight_transfer)
        elif lora_rank and dtype == "float32":
            raise ValueError(
                "policy.dtype is float32: vLLM's kernels for adapters compute in bfloat16 alone on a GPU; allowed with "
                "learner.lora_rank is bfloat16, or engine.sync_adapters false"
            )
        os.environ.update(ENVIRONMENT)
        threads = max(1, threads // tensor_parallel)
        if on_cpu:
            os.environ.update(CPU_ENVIRONMENT | {"VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib)})
        else:
            os.environ.update(GPU_ENVIRONMENT)
        if tensor_parallel > 1:
            os.environ["OMP_NUM_THREADS"] = str(threads)  # of the processes that vLLM starts
        with importing():  # only now: it reads the environment
            from vllm import LLM
            from vllm.config import WeightTransferConfig

        if on_cpu:
            _refuse_vllm_for_gpus()
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
            limit_mm_per_prompt={"image": _largest_images(images_per_prompt, max_pixels)},
            gpu_memory_utilization=gpu_memory_utilization,
            logprobs_mode="processed_logprobs",  # of the distribution sampled from
            generation_config="vllm",
            load_format="safetensors",  # and nothing that would be unpickled
            trust_remote_code=trust_remote_code,
            disable_log_stats=True,
            tensor_parallel_size=tensor_parallel,
            # Inside a Ray actor vLLM would otherwise ask Ray for further actors.
            distributed_executor_backend="mp" if tensor_parallel > 1 else None,
            enable_sleep_mode=sleep,
            enable_lora=lora_rank > 0,
            max_loras=1,
            max_lora_rank=room_for_rank(lora_rank),
            weight_transfer_config=WeightTransferConfig(backend=weight_transfer) if weight_transfer else None,
            worker_extension_cls="rl.engines.cpu_worker.TakesBackDraws" if on_cpu else "",
        )
        if on_cpu:
            self._llm.collective_rpc("take_back_draws")
        leave_configurations_to_transformers()
        self._adapters: Any = None
        self._adapters_loaded = 0
        self._sleep_level = 1 if lora_rank else 2
        self._encoder = Encoder(checkpoint, trust_remote_code=trust_remote_code, system=system)
        self._temperature, self._truncation = temperature, truncation
        self._room = Room(self._encoder, max_completion_tokens, max_model_len, images_per_prompt)
        self.version = 0

    def sample(self, requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        """See `rl.engines.engine.Engine.sample`."""
        from vllm import SamplingParams

        inputs: list[Any] = []
        prompts = {request.prompt.id: request.prompt for request in requests}
        self._room.check(prompts.values())
        prompt_tokens = {name: self._encoder.prompt_tokens(prompt) for name, prompt in prompts.items()}
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
                top_k=self._truncation.top_k,
                top_p=self._truncation.top_p,
                min_p=self._truncation.min_p,
                max_tokens=self._room.left(request),
                logprobs=0,
                stop_token_ids=sorted(self._encoder.end_tokens),
                stop=request.until,
                include_stop_str_in_output=True,
                detokenize=request.until is not None,
            )
            for request in requests
        ]
        outputs = self._llm.generate(inputs, params, use_tqdm=False, lora_request=self._adapters)
        return [
            [self._completion(request, sample) for sample in output.outputs]
            for request, output in zip(requests, outputs, strict=True)
        ]

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> int:
        """See `rl.engines.engine.RenewableEngine.load_weights`; by the names of the checkpoint's files."""
        self._drop_adapters()
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": [*weights.items()]})
        return self._renewed(version)

    def load_adapters(self, adapters: Mapping[str, torch.Tensor], version: int) -> int:
        """See `rl.engines.engine.RenewableEngine.load_adapters`."""
        from vllm.lora.request import LoRARequest

        self._drop_adapters()
        self._adapters_loaded += 1
        with scratch_folder() as folder:
            write_adapters(adapters, folder)
            # vLLM knows adapters by this number: a used one would bring back the old ones.
            request = LoRARequest(f"version-{version}", self._adapters_loaded, str(folder))
            self._llm.llm_engine.add_lora(request)
        self._adapters = request
        return self._renewed(version)

    def join_transfer(self, handshake: Mapping[str, Any], first_rank: int) -> None:
        """Meet the learner for `receive_weights`, which this waits for; see `rl.learning.weight_sender`.

        Args:
            handshake: What the learner's side says of itself.
            first_rank: The place among all receivers of the first of this engine's GPUs; the learner is 0.
        """
        ranks = {"rank_offset": first_rank} if "world_size" in handshake else {}
        self._llm.init_weight_transfer_engine({"init_info": {**handshake, **ranks}})

    def receive_weights(self, update: Mapping[str, Any], version: int) -> int:
        """`load_weights`, straight from the learner's GPU, which sends at the same time (``nccl``) or holds still."""
        self._llm.start_weight_update()
        self._llm.update_weights({"update_info": dict(update)})
        self._llm.finish_weight_update()
        return self._renewed(version)

    def sleep(self) -> None:
        """See `rl.engines.engine.RenewableEngine.sleep`.

        Weights that will be sent anyway are dropped (vLLM's level 2). Beside adapters that travel alone they are kept
        on the CPU (level 1).
        """
        self._llm.sleep(level=self._sleep_level)

    def wake_up(self) -> None:
        """See `rl.engines.engine.RenewableEngine.wake_up`."""
        self._llm.wake_up()

    def close(self) -> None:
        """See `rl.engines.engine.RenewableEngine.close`."""
        # Left to the garbage collector, it would take what a later engine shares with it along, at any time.
        self._llm.llm_engine.engine_core.shutdown()

    def _drop_adapters(self) -> None:
        if self._adapters is not None:
            self._llm.llm_engine.remove_lora(self._adapters.lora_int_id)
            self._adapters = None

    def _renewed(self, version: int) -> int:
        """Forget everything computed with the weights before."""
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM still computes with keys of the old weights: its prefix cache is in use")
        self._llm.reset_mm_cache()
        # Without this the next image is answered from the old vision tower, or dies with "Encoder cache miss".
        self._llm.llm_engine.reset_encoder_cache()
        self.version = version
        return version

    def _completion(self, request: SamplingRequest, sample: Any) -> Completion:
        token_ids = tuple(sample.token_ids)
        logprobs = tuple(entry[token].logprob for entry, token in zip(sample.logprobs, token_ids, strict=True))
        if sample.finish_reason == "stop":
            # A text that ended it is the one that was asked for; a token, one of the checkpoint's end tokens.
            finish_reason = "until" if isinstance(sample.stop_reason, str) else "stop"
        else:
            finish_reason = self._room.cut_off(request, len(token_ids))
        return Completion(token_ids, logprobs, finish_reason, self.version)


def leave_configurations_to_transformers() -> None:
    """vLLM reads some families' configurations by classes of its own, and makes these Transformers' for the whole
    process, whose models want others."""
    for family in CONFIG_MAPPING._extra_content.keys() & CONFIG_MAPPING._mapping.keys():
        del CONFIG_MAPPING._extra_content[family]


def _largest_images(images: int, max_pixels: int | None) -> Any:
    """What vLLM looks at as it starts, to see how much memory is left for its cache: else the largest that the
    processor takes, of some GB for one that no prompt will have."""
    if max_pixels is None:
        return images
    side = math.isqrt(max_pixels)
    return {"count": images, "width": side, "height": side}


def _refuse_vllm_for_gpus() -> None:
    """Where no GPU is to be seen, and vLLM, which looks for itself, would die without saying why."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        raise ValueError(
            "engine.kind is 'vllm': the vLLM that is installed is for GPUs, and this process sees none; allowed is "
            "engine.num_gpus above 0 where there are some, hf, or the installation for CPUs (make setup)"
        )


def _refuse_on_cpu(sleep: bool, weight_transfer: str | None) -> None:
    if sleep:
        raise ValueError("engine.sleep is true: vLLM sleeps on a GPU alone, and there is none here; allowed is false")
    if weight_transfer in ("nccl", "ipc"):
        raise ValueError(
            f"engine.weight_transfer is {weight_transfer!r}: there is no GPU here; allowed is object_store"
        )
