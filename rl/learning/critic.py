"""PPO's critic: what a rollout is still going to earn, foretold before each of its tokens.

A state is a prompt with the tokens so far. Its value is read from the hidden state that predicts the next token: of the
policy's own forward pass, which the loss needs anyway, or of a second model's. The head is two layers whose last starts
at 0: every value is 0 at first, and so is what the value loss does to a shared backbone; being no linear map, it learns
values of its own before it has to bend the backbone to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from transformers import AutoTokenizer

from rewards.models.accelerator import Accelerator
from rewards.models.adamw import make_adamw
from rewards.models.backbone import BlankPicture, load_model
from rewards.models.encoding import Encoder
from rewards.models.optimizer_files import WHOLE, load_optimizer, save_optimizer
from rewards.models.reading_check import check_reading
from rewards.models.sharding import spread
from rewards.models.token_tree import pack_batch
from rewards.models.tree_attention import read_trees
from rewards.process_model.step_scorer import TwoLayerHead
from rewards.records import Experience
from rl.config import Config
from rl.learning.advantages import generalized_advantages, whitened

FOLDER, WEIGHTS_FILE = "critic", "critic.safetensors"


@dataclass(frozen=True)
class Estimate:
    """What the critic says of one rollout of T tokens.

    Attributes:
        values: Before each token, as foretold at the start of the policy step (T,), in units of the reward.
        returns: The lambda-returns (T,), which the critic learns.
        advantages: Whitened over the policy step (T,), dimensionless.
    """

    values: np.ndarray
    returns: np.ndarray
    advantages: np.ndarray


def value_loss(values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, clip: float) -> torch.Tensor:
    """PPO's clipped value loss of each token, half the larger of two squared errors (arXiv 2005.12729, section 3):

        1/2 max((V - R)^2, (V_old + clamp(V - V_old, -clip, clip) - R)^2)

    so that a value that has moved by more than ``clip`` towards its return learns no further.

    >>> old, returns = torch.zeros(2), torch.ones(2)
    >>> [round(loss, 2) for loss in value_loss(torch.tensor([0.0, 0.9]), old, returns, clip=0.2).tolist()]
    [0.5, 0.32]
    """
    near = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2)


class LastStates:
    """The last hidden states of a model's latest forward pass, just as its language head read them.

    Caught on their way by a hook on the model's body, of any family, whatever wraps the model later.
    """

    def __init__(self, model: Any) -> None:
        self._states: torch.Tensor | None = None
        model.base_model.register_forward_hook(self._keep)

    def take(self) -> torch.Tensor:
        """(B, L, H), once: they hold on to the memory of the pass.

        Raises:
            RuntimeError: There was no pass since the last time.
        """
        if self._states is None:
            raise RuntimeError("the policy has read nothing since its hidden states were last taken")
        states, self._states = self._states, None
        return states

    def _keep(self, _module: torch.nn.Module, _inputs: Any, outputs: Any) -> None:
        self._states = outputs.last_hidden_state


class Critic:
    """Foretells returns and learns from them, in one process or in several ranks.

    For one policy step the learner calls `values` on every micro-batch and `estimates` once; then, for every
    mini-batch, `loss` on its micro-batches, and after the backward passes `clip_gradients` and the optimizer's step.

    Args:
        config: The experiment, whose section `value` says what it reads and how it learns.
        policy: The policy's Transformers model, perhaps with adapters.
        checkpoint: What the policy started from.
        encoder: The policy's processor.
        accelerator: Of the learner's ranks.

    Attributes:
        optimizer: Of the head, and of a model of its own.
        blank: What a model of its own that ranks share sees where there is no picture; None for any other.
        packs: Whether a model of its own reads the rollouts of a prompt in one row; True without one.

    Raises:
        ValueError: A checkpoint of its own has another vocabulary than the policy.
    """

    def __init__(
        self, config: Config, policy: Any, checkpoint: str, encoder: Encoder, accelerator: Accelerator
    ) -> None:
        self._config = config
        self.settings = settings = config.value
        self._encoder, self._accelerator = encoder, accelerator
        self._policy_states = LastStates(policy) if settings.backbone == "policy" else None
        # The head is in no wrapper, which would make its number format that of the backbone.
        self._model, self.blank, self.packs = torch.nn.ModuleDict(), None, True
        shape = policy.config
        if settings.backbone == "own":
            own = self._own_backbone(settings.checkpoint or checkpoint)
            shape = own.config
            layers = set(own._no_split_modules or ())
            if config.learner.sharding != "ddp" and accelerator.num_processes > 1 and encoder.sees:
                self.blank = BlankPicture(own, encoder.blank_picture())
            self._model["backbone"] = spread(own, layers, [], accelerator, config.learner.sharding)  # type: ignore[arg-type]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._model["head"] = TwoLayerHead(shape.get_text_config().hidden_size).to(accelerator.device)
        groups = [{"params": list(part.parameters())} for part in self._model.values()]
        self.optimizer = make_adamw(config.learner.optimizer, groups, settings.learning_rate)
        self._loss = torch.zeros((), dtype=torch.float64, device=accelerator.device)

    def warming_up(self, version: int) -> bool:
        """Whether the policy, ``version`` steps old, is still to stay as it is."""
        return version < self.settings.warm_up

    def values(self, experiences: Sequence[Experience]) -> torch.Tensor:
        """The values before the tokens of these rollouts, right-padded (B, T), in units of the reward.

        With a shared backbone they are read from the policy's latest pass, which must have been over the same rollouts.
        """
        length = max(len(experience.token_ids) for experience in experiences)
        states = self._own_states(experiences) if self._policy_states is None else self._policy_states.take()
        return self._model["head"](states[:, -length - 1 : -1]).squeeze(-1)

    def estimates(self, rewards: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> list[Estimate]:
        """Advantages and returns of a policy step's rollouts, from what each token earned and the value before it."""
        gains = [
            generalized_advantages(earned, foretold, self.settings.discount, self.settings.gae_lambda)
            for earned, foretold in zip(rewards, values, strict=True)
        ]
        return [
            Estimate(foretold, foretold + gain, advantages)
            for foretold, gain, advantages in zip(values, gains, whitened(gains), strict=True)
        ]

    def loss(
        self, experiences: Sequence[Experience], estimates: Sequence[Estimate], tokens: float, counts: bool = True
    ) -> torch.Tensor:
        """What a micro-batch of rollouts adds to the loss of its mini-batch: a scalar to add to the policy's.

        Args:
            experiences: The rollouts; see `values`.
            estimates: Theirs.
            tokens: Those of the whole mini-batch, over all ranks.
            counts: False for a micro-batch that only keeps step with other ranks, and counts for nothing.
        """
        values = self.values(experiences)
        old_values, returns = self._rows([e.values for e in estimates]), self._rows([e.returns for e in estimates])
        mask = self._rows([np.ones(len(e.values)) for e in estimates])
        losses = value_loss(values, old_values, returns, self.settings.clip)
        part = (losses * mask).sum() / tokens * counts
        self._loss += part.detach()
        # The gradients of the ranks are averaged; what is wanted is their sum.
        return part * self.settings.coefficient * self._accelerator.num_processes

    def clip_gradients(self) -> tuple[float, float]:
        """The mini-batch's value loss, a mean over its tokens in squared units of the reward, and how long the gradient
        of the head, and of a model of its own, was before it was cut to `max_grad_norm`. The same on all ranks."""
        loss, self._loss = self._loss, torch.zeros_like(self._loss)
        if self._accelerator.num_processes > 1:
            loss = self._accelerator.reduce(loss, reduction="sum")
            for parameter in self._model["head"].parameters():
                parameter.grad = self._accelerator.reduce(parameter.grad, reduction="mean")
        gradients = [[p.grad for p in part.parameters() if p.grad is not None] for part in self._model.values()]
        # One by one, since parts of a sharded backbone and the head cannot be in one list.
        norm = torch.stack([_whole(torch.nn.utils.get_total_norm(part)) for part in gradients]).norm()
        for part in self._model.values():
            torch.nn.utils.clip_grads_with_norm_(part.parameters(), self._config.learner.max_grad_norm, norm)
        return loss.item(), norm.item()

    def save(self, folder: Path) -> None:
        """Weights and optimizer into ``critic/`` of a checkpoint's folder; all ranks call it."""
        state: dict[str, Any] = get_model_state_dict(self._model, options=WHOLE)
        writes = self._accelerator.is_main_process
        if writes:
            (folder / FOLDER).mkdir(parents=True, exist_ok=True)
            save_file({name: value.contiguous() for name, value in state.items()}, folder / FOLDER / WEIGHTS_FILE)
        save_optimizer(self.optimizer, self._model, folder / FOLDER, {}, writes)

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote with the same settings, by as many ranks or by others."""
        state: dict[str, Any] = load_file(folder / FOLDER / WEIGHTS_FILE)
        set_model_state_dict(self._model, state, options=WHOLE)
        load_optimizer(self.optimizer, self._model, folder / FOLDER)

    def _own_backbone(self, checkpoint: str) -> Any:
        """A model without its language head, for which values have no use; its weights are float32."""
        trust = self._config.policy.trust_remote_code
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=trust)
        if tokenizer.get_vocab() != self._encoder.tokenizer.get_vocab():
            raise ValueError(f"value.checkpoint is {checkpoint!r}: allowed is one with the policy's vocabulary")
        whole = load_model(checkpoint, "float32", trust, self._config.learner.sharding)
        check_reading(whole, self._encoder)
        self.packs = self._config.learner.pack and read_trees(whole, self._encoder)
        model = whole.base_model
        if self._config.learner.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return model

    def _own_states(self, experiences: Sequence[Experience]) -> torch.Tensor:
        """(B, L, H) last hidden states of the critic's own backbone."""
        prompts, answers = [e.prompt for e in experiences], [e.token_ids for e in experiences]
        batch = pack_batch(self._encoder, prompts, answers) if self.packs else self._encoder.batch(prompts, answers)
        backbone = self._model["backbone"].train(torch.is_grad_enabled())
        inputs = batch.model_inputs(self._accelerator.device) | {"use_cache": False}
        return backbone(**inputs).last_hidden_state

    def _rows(self, values: Sequence[np.ndarray]) -> torch.Tensor:
        """Right-padded (B, T) floats on the model's device."""
        rows = [torch.as_tensor(row, dtype=torch.float32) for row in values]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self._accelerator.device)


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor's whole content, also where ranks hold parts of it."""
    whole = getattr(tensor, "full_tensor", None)
    return whole() if whole else tensor
