"""The multimodal process reward model (MPRM): the probability that each written step of an answer is right.

One forward pass scores all steps of a rollout: causal attention makes the score of a step depend on nothing after it.
How a rollout is read is in `reading`, the network in `step_scorer`, the loss in `objective`, all beside this module.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, gather_object
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

from rewards.models.accelerator import Accelerator
from rewards.models.adamw import make_adamw
from rewards.models.backbone import (
    BlankPicture,
    add_lora,
    add_token,
    device,
    freeze_vision_tower,
    load_model,
    read_model,
    release_memory,
)
from rewards.models.encoding import Encoder
from rewards.models.optimizer_files import FOLDER as OPTIMIZER
from rewards.models.optimizer_files import WHOLE, Snapshot, load_optimizer, save_optimizer
from rewards.models.reading_check import check_reading
from rewards.models.runtime import Runtime
from rewards.models.sharding import Length, pack, pack_trees, spread
from rewards.models.tree_attention import read_trees
from rewards.process_model.complexity import feature_entropy
from rewards.process_model.config import MPRMConfig
from rewards.process_model.guard import GroupArea, group_area
from rewards.process_model.labels import LabelRule, hard
from rewards.process_model.objective import LOG_CONCENTRATION, Targets, make_targets, weighted_loss
from rewards.process_model.reading import Decode, Reading, make_reader
from rewards.process_model.saved import MPRM_FILE, read_saved
from rewards.process_model.step_scorer import StepScorer, scorer_inputs
from rewards.records import Annotated, Prompt, Rollout, StepScores

LIKELIHOOD_RATE = 3000
"""How many times as far as the model's own weights the likelihood's move: they come to be some 10, since one unlikely
token of a step is a fraction of a nat in its mean."""
FARTHEST_LIKELIHOOD_STEP = 0.3
"""Most that an optimizer step moves them by: with more, at high rates, scores go from one end to the other."""

BESIDE_FILE, BACKBONE = "beside_backbone.safetensors", "backbone."
MAX_GRAD_NORM = 1.0
"""Gradients longer than this are scaled down to it."""


class MPRM:
    """Scores steps and learns from Monte-Carlo labels, in one process or in several ranks.

    Ranks are processes that the environment (``RANK``, ``WORLD_SIZE``, …) says belong together. They take the same
    calls with the same arguments; each does its share, and all of them get all scores.

    Args:
        checkpoint: Transformers vision-language checkpoint to start from.
        encoder: The checkpoint's processor. `inline` may add the step marker to its vocabulary: share it with no other
            model then.
        label_rule: From a rollout's counts to its steps' targets; the `beta` head learns from the counts themselves.
        settings: What it is and how it learns.
        runtime: How it computes.
        decode: The policy's, where its vocabulary is another; see `rewards.process_model.reading.make_reader`.

    Attributes:
        version: Number of updates taken; every score carries it.

    Raises:
        ValueError: A verdict or the step marker is not one token of the checkpoint's vocabulary, or the checkpoint has
            no part that is to be frozen or adapted, or reads rows as `rewards.models.reading_check` refuses.
    """

    def __init__(
        self,
        checkpoint: str,
        encoder: Encoder,
        label_rule: LabelRule = hard,
        settings: MPRMConfig = MPRMConfig(),
        runtime: Runtime = Runtime(),
        decode: Decode | None = None,
    ) -> None:
        self.settings, self._runtime = settings, runtime
        torch.set_num_threads(runtime.threads)
        # Adapters are saved without it, and may be opened from another folder.
        self.checkpoint = str(Path(checkpoint).resolve()) if Path(checkpoint).is_dir() else checkpoint
        self.encoder = encoder
        self._label_rule = label_rule
        # Not every pass needs every weight: the vision tower without a picture, the language head with another one.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        waiting = InitProcessGroupKwargs(timeout=timedelta(seconds=runtime.deadline))
        self._accelerator = Accelerator(cpu=device() == "cpu", kwargs_handlers=[unused, waiting])
        # Accelerate's number format is the whole process's: that of a policy's learner, where there is one here.
        self._accelerator.native_amp = False
        signs = (_single_token(encoder, settings.verdicts[0]), _single_token(encoder, settings.verdicts[1]))
        backbone = load_model(checkpoint, runtime.dtype, runtime.trust_remote_code, settings.sharding)
        if settings.input_format == "inline":
            add_token(backbone, checkpoint, encoder.tokenizer, settings.step_marker, runtime.trust_remote_code)
        self._read = make_reader(settings.input_format, encoder, settings.step_marker, settings.verdicts[0], decode)
        if settings.lora_rank:
            add_lora(backbone, settings.lora_rank, runtime.seed)
        if settings.freeze_vision:
            freeze_vision_tower(backbone)
        check_reading(backbone, encoder)
        self._packs = settings.pack and read_trees(backbone, encoder)
        self.scorer = StepScorer(backbone, settings.head, signs, settings.likelihood, runtime.seed)
        layers = set(backbone._no_split_modules or ())
        self._blank = None
        if settings.sharding != "ddp" and self._accelerator.num_processes > 1 and encoder.sees:
            self._blank = BlankPicture(backbone.base_model, encoder.blank_picture())
        self._wrapped = spread(self.scorer, layers, ["image_features"], self._accelerator, settings.sharding)
        self.optimizer = make_adamw(settings.optimizer, self._parameter_groups(), settings.learning_rate)
        self.version = 0

    def packs(self) -> bool:
        """Whether the rollouts of a prompt share a row."""
        return self._packs

    @torch.no_grad()
    def score(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[StepScores]:
        """The probability that each step is right, as `rewards.process_model.step_scorer` has it."""
        self._wrapped.eval()
        found: list[tuple[int, StepScores]] = []
        readings = [self._read(prompt, rollout) for prompt, rollout in zip(prompts, rollouts, strict=True)]
        for first in range(0, len(readings), self.settings.batch_size):
            window = readings[first : first + self.settings.batch_size]
            for places, mine in self._shares(window):
                outputs = self._outputs([window[place] for place in places]).float()
                if mine:
                    lengths = [len(window[place].ends) for place in places]
                    scored = [self._step_scores(part) for part in outputs.split(lengths)]
                    found += [(first + place, entry) for place, entry in zip(places, scored, strict=True)]
        if self._accelerator.num_processes > 1:
            found = gather_object(found)
        return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]

    @torch.no_grad()
    def image_entropy(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """The feature entropy of each prompt's images (B,), in [0, 1]; 0 without any. Equal prompts are computed once.

        See `rewards.process_model.complexity`.
        """
        self._wrapped.eval()
        entropy: dict[str, float] = {}
        for prompt in prompts:
            if prompt.id not in entropy:
                batch = self.encoder.batch([prompt], [()])
                images = {name: tensor.to(self._accelerator.device) for name, tensor in batch.images.items()}
                entropy[prompt.id] = feature_entropy(self.scorer.image_features(images)) if prompt.images else 0.0
        return np.array([entropy[prompt.id] for prompt in prompts])

    def train(self, samples: Sequence[Annotated], learning_rate: float | None = None) -> dict[str, float]:
        """One update: a pass over the samples, an optimizer step for every `batch_size` of them.

        An optimizer step whose loss or gradient is not finite is left out.

        Args:
            samples: Labelled rollouts.
            learning_rate: Of this update; None for the section's.

        Returns:
            Means over the optimizer steps: ``loss`` in nats a step, ``grad_norm``, and the share of ``positive``
            targets; the optimizer steps ``skipped``; and, where there are any, the weights at the end of the
            likelihood of a step, ``likelihood_step``, and of the text so far, ``likelihood_so_far``.
        """
        self._wrapped.train()
        rates = self._rates(learning_rate or self.settings.learning_rate)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=False):
            group["lr"] = rate
        losses, norms, positives, skipped = [], [], [], 0
        for start in range(0, len(samples), self.settings.batch_size):
            lesson = samples[start : start + self.settings.batch_size]
            targets = [make_targets(sample, self._label_rule, self.settings) for sample in lesson]
            if not sum(entry.weight.sum() for entry in targets):
                continue
            loss, norm = self._learn(lesson, targets)
            if not np.isfinite([loss, norm]).all():
                skipped += 1
                continue
            losses.append(loss)
            norms.append(norm)
            positives.append(np.concatenate([entry.target[entry.weight > 0] for entry in targets]).mean())
        if losses:
            self.version += 1
        metrics = {
            "loss": float(np.mean(losses or [np.nan])),
            "grad_norm": float(np.mean(norms or [np.nan])),
            "positive": float(np.mean(positives or [np.nan])),
            "skipped": float(skipped),
        }
        if self.settings.likelihood:
            weights = self._full(self.scorer.likelihood_weights).tolist()
            metrics |= dict(zip(("likelihood_step", "likelihood_so_far"), weights, strict=True))
        return metrics

    def update(
        self, samples: Sequence[Annotated], held_back: Sequence[Annotated], margin: float | None
    ) -> dict[str, float]:
        """`train`, watched: an update that lowers the area under the ROC curve within groups (see
        `rewards.process_model.guard`) by more than ``margin`` on the held-back rollouts is taken back. With None it is
        only watched.

        Returns:
            What `train` returns, and the ``seconds`` of it all; with held-back rollouts also ``guard_pairs``, the pairs
            of a right and a wrong step of one group, and where there are any, ``guard_auc_before`` and
            ``guard_auc_after``, and, with a margin, ``rolled_back``, 0 or 1.
        """
        started = time.perf_counter()
        before = self._group_area(held_back)
        snapshot = Snapshot.take(self.scorer, self.optimizer) if before.pairs and margin is not None else None
        version = self.version
        metrics = self.train(samples)
        if held_back:
            metrics["guard_pairs"] = float(before.pairs)
        if before.pairs:
            after = self._group_area(held_back)
            metrics |= {"guard_auc_before": before.area, "guard_auc_after": after.area}
            if margin is not None and snapshot is not None:
                # Written so that scores that are no numbers are taken back, too.
                worse = not after.area >= before.area - margin
                metrics["rolled_back"] = float(worse)
                if worse:
                    snapshot.put_back(self.optimizer)
                    self.version = version
        return metrics | {"seconds": time.perf_counter() - started}

    def save(self, folder: Path) -> None:
        """All that `open_mprm` and `load` need: backbone or adapters, head, processor, optimizer and settings."""
        writes = self._accelerator.is_main_process
        state: dict[str, Any] = get_model_state_dict(self._wrapped, options=WHOLE)
        # Tied weights once, under their first name.
        tied = state.keys() - {name for name, _ in (*self.scorer.named_parameters(), *self.scorer.named_buffers())}
        state = {name: value for name, value in state.items() if name not in tied}
        backbone = {name.removeprefix(BACKBONE): value for name, value in state.items() if name.startswith(BACKBONE)}
        adapters = {name: value for name, value in state.items() if "lora_" in name or not name.startswith(BACKBONE)}
        extra = {"version": self.version, "checkpoint": self.checkpoint, "settings": self.settings.identity()}
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
            if not self.settings.lora_rank:
                self.scorer.backbone.save_pretrained(folder, state_dict=backbone)
            save_file({name: value.contiguous() for name, value in adapters.items()}, folder / BESIDE_FILE)
            self.encoder.processor.save_pretrained(folder)
            (folder / MPRM_FILE).write_text(json.dumps(extra, indent=2) + "\n")
        save_optimizer(self.optimizer, self._wrapped, folder, {}, writes)
        self._accelerator.wait_for_everyone()

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote with the same settings; without an optimizer beside it, a new one learns."""
        state: dict[str, Any] = load_file(folder / BESIDE_FILE)
        if not self.settings.lora_rank:
            saved = read_model(folder, self._runtime.dtype, self._runtime.trust_remote_code)
            state |= {BACKBONE + name: value for name, value in saved.state_dict().items()}
        trained = {name for name, p in self.scorer.named_parameters() if p.requires_grad}
        if unplaced := sorted((trained - state.keys()) | (state.keys() - {*self.scorer.state_dict()})):
            raise ValueError(f"{folder}: holds another kind of MPRM than this one: {unplaced[0]} has no counterpart")
        set_model_state_dict(self._wrapped, state, options=replace(WHOLE, strict=False))
        if (folder / OPTIMIZER).is_dir():  # an exported one has none
            load_optimizer(self.optimizer, self._wrapped, folder)
        self.version = read_saved(folder).version

    @property
    def rank(self) -> int:
        """Which of the ranks this is."""
        return self._accelerator.process_index

    def release_memory(self) -> None:
        """`rewards.models.backbone.release_memory`."""
        release_memory()

    def close(self) -> None:
        """Take leave of the other ranks, all at once: one that leaves early can take the others down."""
        self._accelerator.wait_for_everyone()
        self._accelerator.end_training()

    def _group_area(self, held_back: Sequence[Annotated]) -> GroupArea:
        scores = self.score([entry.prompt for entry in held_back], [entry.rollout for entry in held_back])
        return group_area(held_back, scores, self._label_rule)

    def _learn(self, lesson: Sequence[Annotated], targets: Sequence[Targets]) -> tuple[float, float]:
        """One optimizer step; its loss and the length of its gradient."""
        readings = [self._read(sample.prompt, sample.rollout) for sample in lesson]
        total = float(sum(entry.weight.sum() for entry in targets))
        ranks = self._accelerator.num_processes
        self.optimizer.zero_grad()
        loss = torch.zeros((), dtype=torch.float64, device=self._accelerator.device)
        for places, mine in self._shares(readings):
            outputs = self._outputs([readings[place] for place in places])
            part = weighted_loss(outputs, [targets[place] for place in places]) / total * mine
            # The gradients of the ranks are averaged; what is wanted is their sum.
            self._accelerator.backward(part * ranks)
            loss += part.detach()
        loss = self._accelerator.reduce(loss, reduction="sum") if ranks > 1 else loss
        norm = torch.nn.utils.clip_grad_norm_(self.scorer.parameters(), MAX_GRAD_NORM)
        found = loss.item(), float(self._full(norm))
        if np.isfinite(found).all():
            self.optimizer.step()
            self._keep_in_bounds()
        return found

    @torch.no_grad()
    def _keep_in_bounds(self) -> None:
        """The likelihood's weights are never negative."""
        if self.settings.likelihood:
            self.scorer.likelihood_weights.clamp_(min=0)

    def _outputs(self, readings: Sequence[Reading]) -> torch.Tensor:
        return self._wrapped(scorer_inputs(self.encoder, readings, self._accelerator.device, self._packs))

    def _shares(self, readings: Sequence[Reading]) -> Iterator[tuple[list[int], bool]]:
        """The micro-batches that this rank computes. All ranks have equally many, since some wrappers talk to each
        other in every forward pass: those that are not ``mine`` fill up and count for nothing."""
        ranks, rank = self._accelerator.num_processes, self._accelerator.process_index
        lengths = [Length(self.encoder.head_length(r.prompt, r.head), len(r.token_ids)) for r in readings]
        if self._blank is not None:
            self._blank.is_shown = any(reading.prompt.images for reading in readings)
        if self._packs:
            heads = [(reading.prompt.id, reading.head) for reading in readings]
            packed = pack_trees(heads, lengths, self.settings.micro_batch_tokens, at_least=ranks)
        else:
            packed = pack(lengths, self.settings.micro_batch_tokens, at_least=ranks)
        for start in range(0, len(packed), ranks):
            here = start + rank
            yield (packed[here], True) if here < len(packed) else (packed[-1], False)

    def _step_scores(self, outputs: torch.Tensor) -> StepScores:
        scores = torch.sigmoid(outputs[:, 0]).double().cpu().numpy()
        if outputs.shape[1] == 1:
            return StepScores(scores, self.version)
        concentration = outputs[:, 1].clamp(*LOG_CONCENTRATION).exp().double().cpu().numpy()
        return StepScores(scores, self.version, concentration)

    def _parameter_groups(self) -> list[dict[str, object]]:
        """The model's weights, and the likelihood's, which are not drawn to 0."""
        plain = [p for n, p in self.scorer.named_parameters() if p.requires_grad and n != "likelihood_weights"]
        groups: list[dict[str, object]] = [{"params": plain, "weight_decay": self.settings.weight_decay}]
        if self.settings.likelihood:
            groups.append({"params": [self.scorer.likelihood_weights], "weight_decay": 0.0})
        return groups

    @staticmethod
    def _rates(learning_rate: float) -> tuple[float, float]:
        """Of the model's own weights, and of the likelihood's, which move faster."""
        return learning_rate, min(LIKELIHOOD_RATE * learning_rate, FARTHEST_LIKELIHOOD_STEP)

    @staticmethod
    def _full(tensor: torch.Tensor) -> torch.Tensor:
        """A tensor's whole content, also where ranks hold parts of it."""
        whole: Callable[[], torch.Tensor] | None = getattr(tensor, "full_tensor", None)
        return (whole() if whole else tensor).detach()


def _single_token(encoder: Encoder, text: str) -> int:
    tokens = encoder.tokens(text)
    if len(tokens) != 1:
        raise ValueError(
            f"the reward model's verdict {text!r} is {len(tokens)} tokens of this checkpoint; allowed is one"
        )
    return tokens[0]


def open_mprm(
    checkpoint: str,
    encoder: Encoder,
    settings: MPRMConfig = MPRMConfig(),
    runtime: Runtime = Runtime(),
    label_rule: LabelRule = hard,
    decode: Decode | None = None,
) -> MPRM:
    """An MPRM from a folder that `MPRM.save` wrote, as it was, or a new one from any other checkpoint.

    Args:
        checkpoint: Folder or hub name.
        encoder: The checkpoint's processor.
        settings: For a saved one, all but what it is (head, format, words, adapters), which its folder says.
        runtime, label_rule, decode: See `MPRM`.

    Raises:
        ValueError: See `MPRM`.
    """
    if not (Path(checkpoint) / MPRM_FILE).is_file():
        return MPRM(checkpoint, encoder, label_rule, settings, runtime, decode)
    saved = read_saved(Path(checkpoint))
    was = saved.settings
    identity = {key: was[key] for key in settings.identity()} | {"verdicts": tuple(was["verdicts"])}
    base = saved.checkpoint if was["lora_rank"] else checkpoint
    mprm = MPRM(base, encoder, label_rule, settings.model_copy(update=identity), runtime, decode)
    mprm.load(Path(checkpoint))
    return mprm
