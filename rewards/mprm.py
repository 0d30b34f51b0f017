"""The multimodal process reward model (MPRM): the probability that each written step of an answer is right.

A vision-language model with its own language head reads prompt, images and answer once; at the last token of each
step the logits of '+' and '-' are compared (VisualPRM, arXiv 2503.10291, section 4). Causal attention makes the score
of a step depend on nothing after it.

On top of that the score can use what the same pass gives for free: how likely the model itself finds what was written
up to the step's end (as an implicit process reward model does, arXiv 2412.01981),

    score_j = sigmoid(logit('+') - logit('-') + w * log p(answer up to the end of step j)),      w learned, from 0.

A step's end has few layers left to compare what was written with what it would have expected; the likelihood is that
comparison. What it is worth is decided by the Monte-Carlo labels, through w.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from rewards.backbone import device, load_model, load_weights
from rewards.complexity import feature_entropy, image_features
from rewards.encoding import Batch, Encoder
from rewards.labels import LabelRule
from rewards.optimizer_files import load_optimizer, save_optimizer
from rewards.records import Annotated, Prompt, Rollout, StepScores

LIKELIHOOD_RATE = 0.02  # a single weight on a scale of 1, where the model's own weights move in thousandths


class MPRM:
    """Scores steps and learns from Monte-Carlo labels; plain PyTorch, one process.

    Args:
        checkpoint: Transformers vision-language checkpoint to start from.
        encoder: The checkpoint's processor.
        label_rule: From a rollout's counts to its steps' targets.
        likelihood: Whether scores use the likelihood of the text. Costs the logits of all answer tokens.
        learning_rate, weight_decay: Of AdamW.
        batch_size: Rollouts in one forward pass.
        threads: CPU threads.
        trust_remote_code: Whether code shipped with the checkpoint may run.

    Attributes:
        version: Number of updates taken; every score carries it.

    Raises:
        ValueError: '+' or '-' is not one token of the checkpoint's vocabulary.
    """

    def __init__(
        self,
        checkpoint: str,
        encoder: Encoder,
        label_rule: LabelRule,
        likelihood: bool = True,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        batch_size: int = 64,
        dtype: str = "float32",
        threads: int = 1,
        trust_remote_code: bool = False,
    ) -> None:
        torch.set_num_threads(threads)
        self._device = device()
        self._model = load_model(checkpoint, dtype, trust_remote_code)
        self._encoder, self._label_rule, self._batch_size = encoder, label_rule, batch_size
        self._signs = torch.tensor([_single_token(encoder, "+"), _single_token(encoder, "-")], device=self._device)
        self._likelihood_weight = torch.nn.Parameter(torch.zeros((), device=self._device), requires_grad=likelihood)
        self._trained = torch.nn.ParameterDict({"likelihood_weight": self._likelihood_weight})
        self._trained.add_module("model", self._model)
        self._optimizer = torch.optim.AdamW(
            [
                {"params": self._model.parameters()},
                {"params": [self._likelihood_weight], "lr": LIKELIHOOD_RATE, "weight_decay": 0.0},
            ],
            lr=learning_rate,
            weight_decay=weight_decay,
        )
        self.version = 0

    @torch.inference_mode()
    def score(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[StepScores]:
        """The probability that each step is right, as the module's formula has it."""
        self._model.eval()
        scores: list[StepScores] = []
        for start in range(0, len(rollouts), self._batch_size):
            chunk = slice(start, start + self._batch_size)
            for logits in self._step_logits(prompts[chunk], rollouts[chunk]):
                scores.append(StepScores(torch.sigmoid(logits).double().cpu().numpy(), self.version))
        return scores

    @torch.inference_mode()
    def image_entropy(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """The feature entropy of each prompt's images (B,), in [0, 1]; 0 without any. Equal prompts are computed once.

        See `rewards.complexity`.
        """
        self._model.eval()
        entropy: dict[str, float] = {}
        for prompt in prompts:
            if prompt.id not in entropy:
                batch = self._encoder.batch([prompt], [()])
                images = {name: tensor.to(self._device) for name, tensor in batch.images.items()}
                entropy[prompt.id] = feature_entropy(image_features(self._model, images)) if prompt.images else 0.0
        return np.array([entropy[prompt.id] for prompt in prompts])

    def train(self, samples: Sequence[Annotated], max_grad_norm: float = 1.0) -> dict[str, float]:
        """One update: a pass over the samples, an optimizer step a batch; cross-entropy at the labelled step ends.

        Returns:
            Means over the batches: ``loss`` in nats a step, ``grad_norm``, and the share of ``positive`` targets; and
            the ``likelihood_weight`` at the end.
        """
        self._model.train()
        losses, norms, positives = [], [], []
        for start in range(0, len(samples), self._batch_size):
            chunk = samples[start : start + self._batch_size]
            targets = torch.tensor(np.concatenate([self._label_rule(sample.counts) for sample in chunk]))
            labelled = ~targets.isnan()
            if not labelled.any():
                continue
            logits = torch.cat(self._step_logits([s.prompt for s in chunk], [s.rollout for s in chunk]))
            targets = targets[labelled].to(logits)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[labelled.to(logits.device)], targets)
            self._optimizer.zero_grad()
            loss.backward()
            norms.append(torch.nn.utils.clip_grad_norm_(self._model.parameters(), max_grad_norm).item())
            self._optimizer.step()
            losses.append(loss.item())
            positives.append(targets.mean().item())
        if losses:
            self.version += 1
        nothing = [float("nan")]
        return {
            "loss": float(np.mean(losses or nothing)),
            "grad_norm": float(np.mean(norms or nothing)),
            "positive": float(np.mean(positives or nothing)),
            "likelihood_weight": self._likelihood_weight.item(),
        }

    def save(self, folder: Path) -> None:
        """Model, processor and optimizer as safetensors and JSON."""
        self._model.save_pretrained(folder)
        self._encoder.processor.save_pretrained(folder)
        extra = {"version": self.version, "likelihood_weight": self._likelihood_weight.item()}
        save_optimizer(self._optimizer, self._trained, folder, extra)

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote."""
        load_weights(self._model, folder)
        extra = load_optimizer(self._optimizer, self._trained, folder)
        self.version = extra["version"]
        with torch.no_grad():
            self._likelihood_weight.fill_(extra["likelihood_weight"])

    def _step_logits(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[torch.Tensor]:
        """The log-odds of each step being right: one (K,) tensor a rollout."""
        batch = self._encoder.batch(prompts, [rollout.token_ids for rollout in rollouts])
        hidden = self._model.model(**batch.model_inputs(self._device)).last_hidden_state
        completion_start = batch.prompt_ids.shape[1]
        ends = [[completion_start + span.end - 1 for span in rollout.steps] for rollout in rollouts]
        rows = [row for row, positions in enumerate(ends) for _ in positions]
        columns = [column for positions in ends for column in positions]
        plus, minus = self._model.lm_head.weight[self._signs]
        logits = hidden[rows, columns].float() @ (plus - minus).float()
        if self._likelihood_weight.requires_grad:
            likelihood = self._log_likelihood_so_far(hidden[:, completion_start - 1 : -1], batch)
            logits = logits + self._likelihood_weight * likelihood[rows, [c - completion_start for c in columns]]
        return list(logits.split([len(positions) for positions in ends]))

    def _log_likelihood_so_far(self, hidden: torch.Tensor, batch: Batch) -> torch.Tensor:
        """log p of each completion up to and with each token, (B, T) in nats, from the states before the tokens."""
        logprobs = self._model.lm_head(hidden).float().log_softmax(-1)
        tokens = batch.completion_ids.to(hidden.device)
        return logprobs.gather(2, tokens.unsqueeze(2)).squeeze(2).cumsum(1)


def _single_token(encoder: Encoder, text: str) -> int:
    tokens = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(tokens) != 1:
        raise ValueError(f"the reward model reads the logits of '+' and '-', but {text!r} is {len(tokens)} tokens here")
    return tokens[0]
