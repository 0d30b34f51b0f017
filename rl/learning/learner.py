"""The policy learner: TRL's losses on one advantage a token, in one process or in several ranks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from rewards.models.architecture import check_longest_row
from rewards.models.backbone import BlankPicture, check_vocabulary, merge_lora, release_memory
from rewards.models.encoding import Encoder
from rewards.models.reading_check import check_reading
from rewards.models.sharding import spread
from rewards.models.tree_attention import read_trees
from rewards.records import Experience, Prompt
from rl.config import Config
from rl.config.schedules import make_schedule
from rl.learning import policy_files, zero_files
from rl.learning.advantages import explained_variance
from rl.learning.critic import Critic
from rl.learning.disturbance import Disturbance
from rl.learning.flops import ModelSize, peak_flops, prompt_work
from rl.learning.micro_batches import choose_micro_batches, loss_share, mini_batches, shares
from rl.learning.policy_files import ADAPTER, adapter_weights, checkpoint_weights, save_policy, saved_weights
from rl.learning.reference import Reference
from rl.learning.rows import Row, loss_inputs, model_inputs
from rl.learning.statistics import Patience, Statistics, advantage_statistics, is_finite, over_optimizer_steps
from rl.learning.trainer import OneRank, make_entropy_bonus, make_trainer
from rl.learning.weight_sender import Backend, WeightSender

REFERENCE_FILE = "reference/weights.safetensors"


class PolicyLearner:
    """Owns the policy's weights and optimizer.

    TRL's `GRPOTrainer` supplies the model preparation and the loss; its own sampling and reward machinery is not used,
    since rollouts come from the engines and advantages from the credit rule. The loss is taken on the ratio to the
    behaviour log-probabilities, those of the sampler, so that rollouts of an older policy are corrected for; or, with
    a `correction`, on the ratio to the learner itself at the start of the policy step, and weighted for the rest.
    With a critic (PPO) experiences come with one reward a token in place of its advantage, which is then made here.

    Ranks are processes that the environment (``RANK``, ``WORLD_SIZE``, …) says belong together. They take the same
    calls with the same arguments; each does its share, and all give the same answers, but for tensors, which only the
    first one has.

    Args:
        checkpoint: Transformers checkpoint; its weights are policy version 0.
        encoder: The checkpoint's processor.
        config: The experiment.

    Attributes:
        version: Policy steps taken: the policy version.

    Raises:
        ValueError: See `rl.learning.trainer.make_trainer`, `rl.learning.critic.Critic`,
            `rewards.models.backbone.check_vocabulary`, `rewards.models.architecture.check_longest_row` and
            `rewards.models.reading_check.check_reading`.
    """

    def __init__(self, checkpoint: str, encoder: Encoder, config: Config = Config()) -> None:
        self._config, self._encoder = config, encoder
        self._settings = settings = config.learner
        self._trainer = make_trainer(checkpoint, encoder, config)
        torch.set_num_threads(max(1, int(settings.num_cpus)))
        self._accelerator, self._model = self._trainer.accelerator, self._trainer.model
        check_vocabulary(self._model, encoder.control_tokens)
        check_longest_row(self._model.config, config.engine.max_model_len)
        self._trainer.accelerator = OneRank(self._accelerator)
        self._ranks, self._size = self._accelerator.num_processes, ModelSize.of(self._model)
        whole = settings.sharding != "deepspeed"  # which may have cut the weights up by now
        if whole:
            check_reading(self._model, encoder)
        self._packs = settings.pack and whole and read_trees(self._model, encoder)
        self._blank = None
        if settings.sharding != "ddp" and self._ranks > 1 and encoder.sees:
            self._blank = BlankPicture(self._model.base_model, encoder.blank_picture())
        if settings.sharding == "deepspeed":
            self._store: Any = zero_files
            self._wrapped, self._optimizer = self._accelerator.prepare(self._model, self._trainer.create_optimizer())
            # Transformers would cut up whatever it loads from here on, too.
            unset_hf_deepspeed_config()
        else:
            self._store = policy_files
            layers = set(self._model._no_split_modules or ())
            self._wrapped = spread(self._model, layers, [], self._accelerator, settings.sharding)
            self._optimizer = self._trainer.create_optimizer()
        self._learning = {name: p for name, p in self._model.named_parameters() if p.requires_grad}
        self._reference = Reference(self._learning) if settings.kl else None
        self._bonus = make_entropy_bonus(settings)
        self._schedule = make_schedule(settings, config.steps)
        self._dtype = getattr(torch, config.policy.dtype)
        self._kind = settings.lora_rank, config.policy.trust_remote_code
        self._critic: Critic | None = None
        if settings.algorithm == "ppo":
            self._critic = Critic(config, self._model, checkpoint, encoder, self._accelerator)
        # DeepSpeed has moved the weights before it says what the gradient was.
        self._patience = Patience(None if settings.sharding == "deepspeed" else settings.max_skipped)
        self.version = 0

    @property
    def rank(self) -> int:
        """Which of the ranks this is."""
        return self._accelerator.process_index

    def packs(self) -> bool:
        """Whether the rollouts of a prompt share a row, wherever they are read."""
        return self._packs and (self._critic is None or self._critic.packs)

    def step(self, experiences: Sequence[Experience]) -> dict[str, float]:
        """One policy step: `epochs` passes over all experiences, with `mini_batches` optimizer steps each.

        Without any experience nothing is learned; the step counts all the same. So does one whose loss or gradient is
        not finite: an optimizer step like that is left out.

        Returns:
            Means over the optimizer steps of ``loss`` and ``grad_norm``; over rollouts' tokens of ``entropy`` in nats,
            of the ``clipped`` share (see `rl.learning.statistics.clipped_tokens`), with a reference of ``kl`` in nats
            (the k3 estimator), and with a correction of the ``importance_weight``; ``advantage_mean``,
            ``advantage_std`` and ``advantage_positive``; with a schedule ``learning_rate``; with a critic
            ``value_loss`` and ``value_grad_norm``, and the ``explained_variance`` of the values that the step began
            with; the optimizer steps ``skipped``; the ``seconds`` it took, the ``tokens`` it read, prompts included,
            and ``flops_utilisation``, nan for a device whose peak nobody knows, which leaves out what a value model of
            its own computes. Both count a prompt for each of its rollouts, also where these are packed.

        Raises:
            FloatingPointError: No optimizer step of the policy step could be taken, nor any of the `max_skipped` policy
                steps before it. With DeepSpeed, which has moved the weights by then, the first one raises.
        """
        started = time.perf_counter()
        if not experiences:
            self._end_step()
            return {"seconds": time.perf_counter() - started, "tokens": 0.0}
        rate = self._set_learning_rate()
        rows = self._rows(experiences)
        tried = [
            self._optimizer_step([rows[place] for place in places])
            for places in mini_batches(len(rows), self._settings, self._config.seed, self.version)
        ]
        taken = self._patience.taken(tried, self.version)
        self._end_step()
        metrics = over_optimizer_steps(taken)
        metrics["skipped"] = float(len(tried) - len(taken))
        if self._settings.schedule != "constant":
            metrics["learning_rate"] = rate
        if estimates := [row.estimate for row in rows if row.estimate is not None]:
            metrics["explained_variance"] = explained_variance(
                [e.values for e in estimates], [e.returns for e in estimates]
            )
        metrics |= advantage_statistics([row.experience for row in rows], self._settings.reuse_continuations)
        return metrics | self._speed(experiences, time.perf_counter() - started)

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]) -> list[list[float]]:
        """The policy's log-probability of each completion token, in nats, as the loss sees them."""
        nothing = np.zeros(0)
        experiences = [
            Experience(prompt, tuple(ids), (0.0,) * len(ids), nothing, self.version)
            for prompt, ids in zip(prompts, completions, strict=True)
        ]
        return [row.tolist() for row, _ in self._read(experiences)]

    def weights(self) -> dict[str, torch.Tensor]:
        """All weights by their Hugging Face names, in the policy's number format, on the CPU, copied; adapters are
        merged."""
        return merge_lora(self._store.whole_weights(self._wrapped, self._dtype))

    def checkpoint_weights(self) -> dict[str, torch.Tensor]:
        """`weights` as the checkpoint's files have them, by name and shape: what vLLM, which reads those, takes."""
        return checkpoint_weights(self._model, self._store.whole_weights(self._wrapped, self._dtype))

    def adapters(self) -> dict[str, torch.Tensor]:
        """The adapters alone by the names under which PEFT saves them, on the CPU, copied."""
        return adapter_weights(self._store.whole_weights(self._wrapped, only=ADAPTER))

    def disturb(self) -> None:
        """Other weights until `settle`, clearly so; not with DeepSpeed."""
        self._disturbance = Disturbance(self._learning.values())

    def settle(self) -> None:
        """The weights are what they were before `disturb`."""
        self._disturbance.end()

    def save(self, folder: Path) -> None:
        """Policy, processor and optimizer as safetensors and JSON; Transformers and vLLM load the folder."""
        state = self._store.whole_weights(self._wrapped)
        if self._accelerator.is_main_process:
            save_policy(self._model, state, folder, self._kind[0])
            self._encoder.processor.save_pretrained(folder)
        del state
        if self._reference is not None and self._settings.reference_every:
            with self._reference.in_place():
                state = self._store.whole_weights(self._wrapped)
            if self._accelerator.is_main_process:
                (folder / REFERENCE_FILE).parent.mkdir(exist_ok=True)
                save_file({name: state[name].contiguous() for name in self._learning}, folder / REFERENCE_FILE)
        extra = {
            "version": self.version,
            "in_vain": self._patience.steps_without_update,
            "entropy_bonus": self._bonus.state(),
        }
        self._store.save_optimizer(self._optimizer, self._wrapped, folder, extra, self._accelerator.is_main_process)
        if self._critic is not None:
            self._critic.save(folder)
        self._accelerator.wait_for_everyone()

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote with the same settings, by as many ranks or by others."""
        self._store.put_weights(self._wrapped, saved_weights(self._model, folder, *self._kind))
        if self._reference is not None and self._settings.reference_every:
            with self._reference.in_place():
                self._store.put_weights(self._wrapped, load_file(folder / REFERENCE_FILE))
        extra = self._store.load_optimizer(self._optimizer, self._wrapped, folder)
        self.version, self._patience.steps_without_update = extra["version"], extra["in_vain"]
        self._bonus.restore(extra["entropy_bonus"])
        if self._critic is not None:
            self._critic.load(folder)

    def offer_weights(self, backend: Backend, receivers: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Prepare vLLM's own transfer: handshake and update of a `rl.learning.weight_sender.WeightSender`."""
        self._sender = WeightSender(self._model, self.rank, backend, receivers, self._dtype)
        return self._sender.handshake, self._sender.update

    def meet_engines(self) -> None:
        """`rl.learning.weight_sender.WeightSender.meet`."""
        self._sender.meet()

    def send_weights(self) -> dict[str, Any]:
        """`rl.learning.weight_sender.WeightSender.send`."""
        return self._sender.send()

    def release_weights(self) -> None:
        """`rl.learning.weight_sender.WeightSender.release`."""
        self._sender.release()

    def release_memory(self) -> None:
        """`rewards.models.backbone.release_memory`."""
        release_memory()

    def close(self) -> None:
        """Take leave of the other ranks, all at once: one that leaves early can take the others down."""
        self._accelerator.wait_for_everyone()
        self._accelerator.end_training()

    def _set_learning_rate(self) -> float:
        """That of this policy step; it follows from the step's number, so that no checkpoint need hold it."""
        rate = self._settings.learning_rate * self._schedule(self.version)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _end_step(self) -> None:
        self.version += 1
        every = self._settings.reference_every
        if self._reference is not None and every and self.version % every == 0:
            self._reference.renew()

    def _rows(self, experiences: Sequence[Experience]) -> list[Row]:
        """The rollouts, with what is asked of the model before it learns from them."""
        before: list[Any] = [None] * len(experiences)
        reference, estimates = before.copy(), before.copy()
        if self._critic is not None:
            read = self._read(experiences, with_values=True)
            before, rewards = [logprobs for logprobs, _, _ in read], [e.advantages for e in experiences]
            estimates = self._critic.estimates(rewards, [values for _, _, values in read])
            experiences = [
                replace(experience, advantages=estimate.advantages)
                for experience, estimate in zip(experiences, estimates, strict=True)
            ]
        elif self._settings.correction != "none":
            before = [logprobs for logprobs, _ in self._read(experiences)]
        if self._reference is not None:
            with self._reference.in_place():
                reference = [logprobs for logprobs, _ in self._read(experiences)]
        return [Row(*parts) for parts in zip(experiences, before, reference, estimates, strict=True)]

    @torch.no_grad()
    def _read(self, experiences: Sequence[Experience], with_values: bool = False) -> list[list[np.ndarray]]:
        """Of each rollout: the log-probability of each token and the entropy there, both (T,) and in nats, and if
        wanted the critic's value before it (T,)."""
        self._wrapped.eval()
        found: list[tuple[int, list[np.ndarray]]] = []
        for places, mine in self._shares(experiences):
            piece = [experiences[place] for place in places]
            inputs = model_inputs(self._encoder, piece, self._accelerator.device, self._packs)
            tensors = [*self._trainer.logprobs_and_entropies(self._wrapped, inputs)]
            if with_values and self._critic is not None:
                tensors.append(self._critic.values(piece))
            arrays = [tensor.float().cpu().numpy() for tensor in tensors]
            learned = inputs["completion_mask"].bool().cpu().numpy()
            for row, place in enumerate(places if mine else []):
                found.append((place, [array[row, learned[row]] for array in arrays]))
        if self._accelerator.num_processes > 1:
            found = gather_object(found)
        return [arrays for _, arrays in sorted(found, key=lambda entry: entry[0])]

    def _optimizer_step(self, rows: Sequence[Row]) -> dict[str, float]:
        """Learn from one mini-batch."""
        trainer, bonus, critic = self._trainer, self._bonus, self._critic
        learns = critic is None or not critic.warming_up(self.version)
        experiences = [row.experience for row in rows]
        tokens = learned = sum(len(experience.token_ids) for experience in experiences)
        if trainer.top_entropy_quantile < 1:
            entropies = np.concatenate([entropy for _, entropy in self._read(experiences)])
            trainer.entropy_threshold = float(np.quantile(entropies, 1 - trainer.top_entropy_quantile))
            learned = int((entropies >= trainer.entropy_threshold).sum())
        statistics = Statistics(trainer, self._accelerator.device)
        loss, entropy = torch.zeros(2, device=self._accelerator.device)
        self._wrapped.train()
        self._optimizer.zero_grad()
        for places, mine in self._learning_shares(experiences):
            piece = [rows[place] for place in places]
            inputs = loss_inputs(self._encoder, piece, self._settings, self._accelerator.device, self._packs)
            inputs["num_items_in_batch"] = torch.tensor(float(tokens))
            with torch.set_grad_enabled(learns):
                part = trainer.compute_loss(self._wrapped, inputs)
            here = int(inputs["completion_mask"].sum())
            part = part * loss_share(self._settings.loss, len(piece) / len(rows), here / tokens)
            part_entropy = trainer.learned_entropy(inputs["completion_mask"]) / learned
            if bonus.is_used:
                part = part - bonus.weight * part_entropy
            # The gradients of the ranks are averaged; what is wanted is their sum.
            whole = part * mine * self._ranks
            if critic is not None:
                estimates = [row.estimate for row in piece if row.estimate is not None]
                whole = whole + critic.loss([row.experience for row in piece], estimates, tokens, counts=mine)
            self._accelerator.backward(whole)
            if mine:
                loss, entropy = loss + part.detach(), entropy + part_entropy.detach()
                statistics.add(inputs, [not row.experience.prefix for row in piece])
        trainer._metrics["train"].clear()
        metrics = self._move(self._summed(loss).item())
        if is_finite(metrics):
            bonus.after(self._summed(entropy).item())
        return metrics | statistics.means(self._summed)

    def _move(self, loss: float) -> dict[str, float]:
        """The optimizers' steps, if losses and gradients are numbers. Weights without a gradient stay."""
        found = {"loss": loss, "grad_norm": self._clip()}
        optimizers = [self._optimizer]
        if self._critic is not None:
            found["value_loss"], found["value_grad_norm"] = self._critic.clip_gradients()
            optimizers.append(self._critic.optimizer)
        for optimizer in optimizers:
            if is_finite(found):
                optimizer.step()
            optimizer.zero_grad()
        return found

    def _clip(self) -> float:
        """Bound the gradient's length, and say what it was."""
        if self._settings.sharding == "deepspeed":
            return float(self._wrapped.get_global_grad_norm())
        norm = torch.nn.utils.clip_grad_norm_(self._learning.values(), self._settings.max_grad_norm)
        whole = getattr(norm, "full_tensor", None)
        return float(whole() if whole else norm)

    def _shares(self, experiences: Sequence[Experience]) -> Iterator[tuple[list[int], bool]]:
        """The micro-batches that this rank computes; see `rl.learning.micro_batches.shares`."""
        for blank in (self._blank, self._critic.blank if self._critic is not None else None):
            if blank is not None:
                blank.is_shown = any(experience.prompt.images for experience in experiences)
        heads = [self._encoder.head_length(experience.prompt) for experience in experiences]
        batches = choose_micro_batches(experiences, heads, self._settings, self._ranks, self._packs)
        return shares(batches, self.rank, self._ranks)

    def _learning_shares(self, experiences: Sequence[Experience]) -> Iterator[tuple[list[int], bool]]:
        """`_shares`, where `ddp` adds gradients up once, in the end, if all micro-batches use the same weights."""
        found = list(self._shares(experiences))
        alike = len({bool(experience.prompt.images) for experience in experiences}) == 1
        for place, batch in enumerate(found):
            # DeepSpeed moves the weights as soon as it has the last gradient.
            last = self._accelerator.sync_gradients = place == len(found) - 1
            quiet = alike and not last and self._settings.sharding == "ddp"
            with self._accelerator.no_sync(self._wrapped) if quiet else nullcontext():
                yield batch

    def _summed(self, tensor: torch.Tensor) -> torch.Tensor:
        """What the ranks have of it, added up."""
        return self._accelerator.reduce(tensor, reduction="sum") if self._ranks > 1 else tensor

    def _speed(self, experiences: Sequence[Experience], seconds: float) -> dict[str, float]:
        prompts = {experience.prompt.id: experience.prompt for experience in experiences}
        read = {key: prompt_work(self._encoder, prompt, self._model) for key, prompt in prompts.items()}
        work = [replace(read[e.prompt.id], answer=len(e.path)) for e in experiences]
        before = self._settings.correction != "none" or self._critic is not None
        passes = before + (self._reference is not None)
        flops = self._size.forward(work) * (passes + self._settings.epochs)
        flops += self._size.backward(work) * self._settings.epochs
        peak = peak_flops(self._accelerator.device, self._config.policy.dtype, self._settings.peak_tflops) * self._ranks
        tokens = float(sum(one.prompt + one.answer for one in work))
        return {"seconds": seconds, "tokens": tokens, "flops_utilisation": flops / seconds / peak}
