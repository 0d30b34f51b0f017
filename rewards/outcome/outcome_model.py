"""The outcome reward model: one reward an answer, learned from preference pairs (BaseReward, arXiv 2509.16127).

A vision-language backbone reads prompt, images and answer; a head of two linear layers with SiLU between them turns the
hidden state at the answer's last token into the reward r. The loss of a pair is Bradley and Terry's and nothing more,

    -log sigmoid(r(chosen) - r(rejected)),

so that only differences of rewards mean something. The score of an answer is sigmoid(r).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from rewards.files.json_text import read_json
from rewards.files.whole_file import content_of
from rewards.models.backbone import (
    device,
    freeze_vision_tower,
    load_model,
    load_weights,
)
from rewards.models.encoding import Encoder
from rewards.models.optimizer_files import load_optimizer, save_optimizer
from rewards.models.reading_check import check_reading
from rewards.models.runtime import Runtime
from rewards.models.sharding import Length, pack, pack_trees
from rewards.models.tree_attention import read_trees
from rewards.outcome.config import OutcomeModelConfig, OutcomeReward
from rewards.outcome.preferences import Preference
from rewards.process_model.reading import Reading
from rewards.process_model.step_scorer import StepScorer, scorer_inputs
from rewards.records import Prompt, Rollout

HEAD_FILE, STATE_FILE = "head.safetensors", "outcome_model.json"
MAX_GRAD_NORM = 1.0
"""Gradients longer than this are scaled down to it."""


def bradley_terry_loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """-log sigmoid(r(chosen) - r(rejected)) of each pair, (N,) in nats."""
    return -torch.nn.functional.logsigmoid(chosen - rejected)


class OutcomeModel:
    """Scores answers and learns from preference pairs; plain PyTorch, one process.

    Args:
        checkpoint: Transformers vision-language checkpoint to start from.
        encoder: The checkpoint's processor.
        settings: How it learns.
        runtime: How it computes.

    Attributes:
        version: Number of updates taken.

    Raises:
        ValueError: The checkpoint has no vision tower that could be frozen.
    """

    def __init__(
        self,
        checkpoint: str,
        encoder: Encoder,
        settings: OutcomeModelConfig = OutcomeModelConfig(),
        runtime: Runtime = Runtime(),
    ) -> None:
        self.settings = settings
        torch.set_num_threads(runtime.threads)
        self.encoder = encoder
        backbone = load_model(checkpoint, runtime.dtype, runtime.trust_remote_code)
        if settings.freeze_vision:
            freeze_vision_tower(backbone)
        check_reading(backbone, encoder)
        self._packs = settings.pack and read_trees(backbone, encoder)
        # An answer is one step, read at its last token.
        self._scorer = StepScorer(backbone, "value", (0, 0), likelihood=False, seed=runtime.seed)
        self._optimizer = torch.optim.AdamW(
            [parameter for parameter in self._scorer.parameters() if parameter.requires_grad],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.version = 0

    def packs(self) -> bool:
        """Whether the answers to a prompt share a row."""
        return self._packs

    def score(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> np.ndarray:
        """How good each answer is (B,), sigmoid(r), in [0, 1]."""
        rewards = self.rewards(prompts, [rollout.token_ids for rollout in rollouts])
        return np.exp(-np.logaddexp(0, -rewards))

    @torch.no_grad()
    def rewards(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> np.ndarray:
        """The reward r of each answer (B,), given by its tokens."""
        self._scorer.eval()
        readings = [self._reading(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        rewards = np.zeros(len(readings))
        for places in self._packed(readings):
            rewards[places] = self._outputs([readings[place] for place in places]).double().cpu().numpy()
        return rewards

    def margins(self, pairs: Sequence[Preference]) -> np.ndarray:
        """r(chosen) - r(rejected) of each pair (N,)."""
        prompts = [pair.prompt for pair in pairs]
        chosen, rejected = [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]
        return self.rewards(prompts, chosen) - self.rewards(prompts, rejected)

    def train(self, pairs: Sequence[Preference]) -> dict[str, float]:
        """One update: a pass over the pairs, an optimizer step for every `batch_size` of them.

        An optimizer step whose loss or gradient is not finite is left out.

        Returns:
            Means over the optimizer steps: ``loss`` in nats a pair, ``accuracy``, the share of pairs whose chosen
            answer had the higher reward before the step, and ``grad_norm``; and the optimizer steps ``skipped``.
        """
        self._scorer.train()
        steps: list[tuple[float, float, float]] = []
        for start in range(0, len(pairs), self.settings.batch_size):
            steps.append(self._learn(pairs[start : start + self.settings.batch_size]))
        taken = [step for step in steps if np.isfinite(step).all()]
        if taken:
            self.version += 1
        loss, accuracy, norm = np.mean(taken, axis=0).tolist() if taken else [float("nan")] * 3
        return {"loss": loss, "accuracy": accuracy, "grad_norm": norm, "skipped": float(len(steps) - len(taken))}

    def save(self, folder: Path) -> None:
        """Backbone, head, processor and optimizer as safetensors and JSON."""
        self._scorer.backbone.save_pretrained(folder)
        self.encoder.processor.save_pretrained(folder)
        save_file(self._scorer.head.state_dict(), folder / HEAD_FILE)
        save_optimizer(self._optimizer, self._scorer, folder, {})
        (folder / STATE_FILE).write_text(json.dumps({"version": self.version}) + "\n")

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote with the same settings."""
        load_weights(self._scorer.backbone, folder)
        self._scorer.head.load_state_dict(load_file(folder / HEAD_FILE))
        load_optimizer(self._optimizer, self._scorer, folder)
        self.version = read_json(content_of(folder / STATE_FILE))["version"]

    def _learn(self, pairs: Sequence[Preference]) -> tuple[float, float, float]:
        """One optimizer step; its loss, its accuracy, and the length of its gradient."""
        self._optimizer.zero_grad()
        loss, right = 0.0, 0
        for part in self._micro_batches(pairs):
            answers = [pair.chosen for pair in part] + [pair.rejected for pair in part]
            prompts = [pair.prompt for pair in part] * 2
            chosen, rejected = self._outputs(list(map(self._reading, prompts, answers))).chunk(2)
            part_loss = bradley_terry_loss(chosen, rejected).sum() / len(pairs)
            part_loss.backward()
            loss += part_loss.item()
            right += int((chosen > rejected).sum())
        norm = torch.nn.utils.clip_grad_norm_(self._scorer.parameters(), MAX_GRAD_NORM).item()
        if np.isfinite([loss, norm]).all():
            self._optimizer.step()
        return loss, right / len(pairs), norm

    def _micro_batches(self, pairs: Sequence[Preference]) -> Iterator[list[Preference]]:
        heads = [self._length(self._reading(pair.prompt, ())).head for pair in pairs]
        answers = [(len(pair.chosen), len(pair.rejected)) for pair in pairs]
        most = self.settings.micro_batch_tokens
        if self._packs:
            lengths = [Length(head, sum(both)) for head, both in zip(heads, answers, strict=True)]
            batches = pack_trees([pair.prompt.id for pair in pairs], lengths, most)
        else:
            batches = pack([Length(head, max(both)) for head, both in zip(heads, answers, strict=True)], most // 2)
        for places in batches:
            yield [pairs[place] for place in places]

    def _packed(self, readings: Sequence[Reading]) -> list[list[int]]:
        lengths, most = [self._length(reading) for reading in readings], self.settings.micro_batch_tokens
        if self._packs:
            return pack_trees([(reading.prompt.id, reading.head) for reading in readings], lengths, most)
        return pack(lengths, most)

    def _reading(self, prompt: Prompt, answer: Sequence[int]) -> Reading:
        return Reading(prompt, self.encoder.chat_text(prompt), tuple(answer), (len(answer) - 1,))

    def _length(self, reading: Reading) -> Length:
        return Length(self.encoder.head_length(reading.prompt, reading.head), len(reading.token_ids))

    def _outputs(self, readings: Sequence[Reading]) -> torch.Tensor:
        return self._scorer(scorer_inputs(self.encoder, readings, device(), self._packs)).squeeze(1)


def open_outcome_model(
    checkpoint: str,
    encoder: Encoder,
    settings: OutcomeModelConfig = OutcomeModelConfig(),
    runtime: Runtime = Runtime(),
) -> OutcomeModel:
    """An outcome model from a folder that `OutcomeModel.save` wrote, as it was, or a new one from any other checkpoint.

    Raises:
        ValueError: See `OutcomeModel`.
    """
    model = OutcomeModel(checkpoint, encoder, settings, runtime)
    if (Path(checkpoint) / STATE_FILE).is_file():
        model.load(Path(checkpoint))
    return model


def outcome_rewards(rollouts: Sequence[Rollout], kind: OutcomeReward, scores: np.ndarray | None = None) -> np.ndarray:
    """One reward a rollout (B,), in [0, 1] but for what `task.rewards` add.

    Args:
        rollouts: Verified rollouts.
        kind: `rule`: the verifier's score, or its verdict where that is all it says. `model`: the outcome model's
            score. `hybrid`: 1 where the verifier says right, else the outcome model's score.
        scores: The outcome model's scores of the rollouts (B,), in [0, 1]; `rule` needs none.

    Raises:
        ValueError: There are no scores, or not one for each rollout.
    """
    if kind == "rule":
        return np.array([rollout.reward for rollout in rollouts], dtype=float)
    verdicts = np.array([rollout.outcome for rollout in rollouts], dtype=float)
    added = np.array([rollout.added for rollout in rollouts], dtype=float)
    if scores is None or np.shape(scores) != verdicts.shape:
        raise ValueError(f"outcome reward {kind!r} needs one score for each of {len(verdicts)} rollouts")
    said = np.asarray(scores, dtype=float)
    return (np.where(verdicts > 0.5, 1.0, said) if kind == "hybrid" else said) + added
