"""The policy learner: TRL's GRPO loss on one advantage a token, one optimizer step a call."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from trl import import_utils as trl_imports

from rewards.backbone import load_model, load_weights
from rewards.encoding import Encoder
from rewards.optimizer_files import load_optimizer, save_optimizer
from rewards.records import Experience, Prompt

# TRL would import vLLM, seconds and half a gigabyte of it, for sampling that happens in the engines.
trl_imports.is_vllm_available = lambda min_version=None: False
from trl import GRPOConfig, GRPOTrainer  # noqa: E402


class PolicyLearner:
    """Owns the policy's weights and optimizer.

    TRL's `GRPOTrainer` supplies the model preparation and the loss; its own sampling and reward machinery is not used,
    since rollouts come from the engines and advantages from the credit rule. The loss is taken on the ratio to the
    behaviour log-probabilities, those of the sampler, so that rollouts of an older policy are corrected for.

    Args:
        checkpoint: Transformers vision-language checkpoint; its weights are policy version 0.
        encoder: The checkpoint's processor.
        loss: Name of a loss of `trl.GRPOConfig.loss_type`.
        learning_rate, weight_decay, max_grad_norm: Of AdamW, at a constant rate.
        clip: PPO's clipping range for the ratio, epsilon.
        temperature: The sampler's temperature, at which log-probabilities are taken.
        micro_batch: Rollouts in one forward and backward pass.
        dtype, threads, trust_remote_code: As for the engines.

    Attributes:
        version: Optimizer steps taken: the policy version.
    """

    def __init__(
        self,
        checkpoint: str,
        encoder: Encoder,
        loss: str = "dapo",
        learning_rate: float = 1e-4,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
        clip: float = 0.2,
        temperature: float = 1.0,
        max_completion_tokens: int = 64,
        micro_batch: int = 64,
        dtype: str = "float32",
        threads: int = 1,
        trust_remote_code: bool = False,
        seed: int = 0,
    ) -> None:
        arguments = GRPOConfig(
            output_dir=tempfile.gettempdir(),
            loss_type=loss,
            epsilon=clip,
            beta=0.0,
            temperature=temperature,
            max_completion_length=max_completion_tokens,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            lr_scheduler_type="constant",
            per_device_train_batch_size=2,
            num_generations=2,
            gradient_checkpointing=False,
            bf16=dtype == "bfloat16",
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
            seed=seed,
        )
        self._trainer = GRPOTrainer(
            model=load_model(checkpoint, dtype, trust_remote_code),
            args=arguments,
            # The trainer insists on a data set and a reward; the loop brings its own.
            train_dataset=Dataset.from_dict({"prompt": ["", ""]}),
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            processing_class=encoder.processor,
        )
        torch.set_num_threads(threads)
        self._encoder, self._micro_batch, self._max_grad_norm = encoder, micro_batch, max_grad_norm
        self._accelerator = self._trainer.accelerator
        self._trainer.create_optimizer()
        self._model, self._optimizer = self._accelerator.prepare(self._trainer.model, self._trainer.optimizer)
        self.version = 0

    def step(self, experiences: Sequence[Experience]) -> dict[str, float]:
        """One optimizer step on all experiences; raises the policy version by one.

        Returns:
            ``loss``, ``grad_norm``, mean token ``entropy`` in nats, and the ``clipped`` share of tokens.

        Raises:
            FloatingPointError: The loss or the gradient is not finite; the weights are left as they were.
        """
        self._model.train()
        starts = range(0, len(experiences), self._micro_batch)
        self._trainer.current_gradient_accumulation_steps = len(starts)
        self._trainer.args.steps_per_generation = len(starts)
        tokens = torch.tensor(float(sum(len(experience.token_ids) for experience in experiences)))
        loss = 0.0
        for start in starts:
            inputs = self._loss_inputs(experiences[start : start + self._micro_batch], tokens)
            part = self._trainer.compute_loss(self._model, inputs)
            self._accelerator.backward(part)
            loss += part.item()
        norm = self._accelerator.clip_grad_norm_(self._model.parameters(), self._max_grad_norm).item()
        if not (torch.isfinite(torch.tensor([loss, norm])).all()):
            self._optimizer.zero_grad()
            raise FloatingPointError(f"policy update {self.version + 1}: loss {loss}, gradient norm {norm}")
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.version += 1
        return {"loss": loss, "grad_norm": norm, **self._collected()}

    @torch.no_grad()
    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]) -> list[list[float]]:
        """The policy's log-probability of each completion token, in nats, as the loss sees them."""
        self._model.eval()
        batch = self._encoder.batch(prompts, completions)
        inputs = batch.model_inputs(self._accelerator.device)
        values, _, _ = self._trainer._get_per_token_logps_and_entropies(
            self._model,
            inputs.pop("input_ids"),
            inputs.pop("attention_mask"),
            batch.completion_ids.shape[1],
            num_images=batch.num_images,
            **inputs,
        )
        return [row[: len(ids)].tolist() for row, ids in zip(values, completions, strict=True)]

    def weights(self) -> dict[str, torch.Tensor]:
        """All weights by their Hugging Face names, on the CPU, copied."""
        state = self._accelerator.get_state_dict(self._model)
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}

    def save(self, folder: Path) -> None:
        """Policy, processor and optimizer as safetensors and JSON; Transformers and vLLM load the folder."""
        model = self._accelerator.unwrap_model(self._model)
        model.save_pretrained(folder)
        self._encoder.processor.save_pretrained(folder)
        save_optimizer(self._optimizer.optimizer, model, folder, {"version": self.version})

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote."""
        model = self._accelerator.unwrap_model(self._model)
        load_weights(model, folder)
        self.version = load_optimizer(self._optimizer.optimizer, model, folder)["version"]

    def _loss_inputs(self, experiences: Sequence[Experience], tokens: torch.Tensor) -> dict[str, object]:
        """One micro-batch under the names that TRL's loss reads; ``tokens`` counts those of the whole step."""
        batch = self._encoder.batch([e.prompt for e in experiences], [e.token_ids for e in experiences])
        tensors = {
            "prompt_ids": batch.prompt_ids,
            "prompt_mask": batch.prompt_mask,
            "completion_ids": batch.completion_ids,
            "completion_mask": batch.completion_mask,
            "advantages": _rows([e.advantages for e in experiences]),
            "old_per_token_logps": _rows([e.sampler_logprobs for e in experiences]),
            "num_items_in_batch": tokens,
            **batch.images,
            **batch.token_types,
        }
        moved = {name: tensor.to(self._accelerator.device) for name, tensor in tensors.items()}
        return {**moved, "num_images": batch.num_images}

    def _collected(self) -> dict[str, float]:
        """The statistics that TRL's loss gathered since the last call, averaged over micro-batches."""
        collected = self._trainer._metrics["train"]
        means = {name: sum(values) / len(values) for name, values in collected.items() if values}
        collected.clear()
        return {"entropy": means.get("entropy", float("nan")), "clipped": means.get("clip_ratio/region_mean", 0.0)}


def _rows(values: Sequence[Sequence[float] | np.ndarray]) -> torch.Tensor:
    """Right-padded (B, T) floats."""
    rows = [torch.tensor(list(row), dtype=torch.float32) for row in values]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
