"""TRL's `GRPOTrainer`, made for its loss and its preparation of the model; its sampling and its rewards stay unused."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

import torch
from accelerate.utils import DistributedDataParallelKwargs
from datasets import Dataset
from transformers.integrations.liger import apply_liger_kernel
from trl import import_utils as trl_imports

from rewards.models.accelerator import Accelerator
from rewards.models.adamw import AdamW8bit
from rewards.models.backbone import add_lora, device, freeze_vision_tower, load_model
from rewards.models.encoding import Encoder
from rewards.models.truncation import Truncation
from rl.config import Config
from rl.config.checks import check_settings
from rl.config.learner import LearnerConfig
from rl.learning.offloading import keep_off_the_gpu
from rl.learning.rows import BESIDE
from rl.learning.truncated_head import truncated_head

# TRL would import vLLM, seconds and half a gigabyte of it, for sampling that happens in the engines.
trl_imports.is_vllm_available = lambda min_version=None: False
from trl import GRPOConfig, GRPOTrainer  # noqa: E402
from trl.trainer import utils as trl_utils  # noqa: E402

# Where Triton is missing TRL scores prompts and padding, too: a compiler would want the same shapes every time.
trl_utils._use_triton = lambda device: True

CISPO_EPSILON_HIGH = 5.0
"""Of `cispo` it bounds the ratio itself: ScaleRL's value (arXiv 2510.13786). TRL would take the clipping range."""
LIGER = {"fused_linear_cross_entropy": False}
"""Its kernels of layers alone: TRL has a fused head of its own, and would no longer be asked for Liger's."""
ADAPTIVE = {
    "entropy_coef": "coefficient",
    "use_adaptive_entropy": "adaptive",
    "entropy_coef_min": "least",
    "entropy_coef_max": "most",
    "entropy_coef_delta": "delta",
    "entropy_target": "target",
}


class PolicyTrainer(GRPOTrainer):
    """TRL's trainer, which lets others see what its loss was made from.

    Attributes:
        seen: Log-probabilities and entropies (B, T) of the latest pass, in nats.
        truncation: Which tokens the sampler draws from; log-probabilities and entropies are taken among these.
        entropy_threshold: With ``top_entropy_quantile``: entropy that a token needs to be learned from. TRL would find
            it for each micro-batch anew.
        keeping: Around a forward pass: where what it keeps for the backward pass goes.
    """

    seen: tuple[torch.Tensor, torch.Tensor]
    truncation = Truncation()
    entropy_threshold: float = 0.0
    keeping: AbstractContextManager[Any] = nullcontext()

    def _compute_loss(self, model: torch.nn.Module, inputs: Mapping[str, Any]) -> torch.Tensor:
        self._given = _model_inputs(inputs)
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(
        self,
        model: torch.nn.Module,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        **_: Any,
    ) -> Any:
        # As TRL has it, but for what the model reads: pictures, of which some have more than TRL knows, and trees.
        labels = input_ids.masked_fill(attention_mask == 0, -100)
        labels[:, :-logits_to_keep] = -100
        head = truncated_head(self.truncation) if self.truncation.is_used else nullcontext()
        with self.accelerator.autocast(), head, self.keeping:
            outputs = model(**self._given, labels=labels, fused_lm_head=True)
        self.seen = outputs.log_probs[:, -logits_to_keep:], outputs.entropy[:, -logits_to_keep:]
        return *self.seen, None

    def get_high_entropy_mask(self, entropies: torch.Tensor, mask: torch.Tensor, threshold: float) -> torch.Tensor:
        """See `GRPOTrainer.get_high_entropy_mask`."""
        return (entropies >= self.entropy_threshold) & mask.bool()

    def learned_entropy(self, mask: torch.Tensor) -> torch.Tensor:
        """Sum of the latest pass's entropies over the tokens that are learned from; ``mask`` (B, T) has all tokens."""
        entropies = self.seen[1]
        if self.top_entropy_quantile < 1:
            mask = self.get_high_entropy_mask(entropies, mask, 1 - self.top_entropy_quantile)
        return (entropies * mask).sum()

    def logprobs_and_entropies(
        self, model: torch.nn.Module, inputs: Mapping[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the completion tokens (B, T), in nats, of the sampler's distribution; ``inputs`` as of the loss."""
        self._given = _model_inputs(inputs)
        found = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            inputs["completion_ids"].shape[1],
        )
        return found[0], found[1]


def _model_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Of what the loss reads the model's own arguments."""
    return {name.removeprefix(BESIDE): value for name, value in inputs.items() if name.startswith(BESIDE)}


class OneRank:
    """An accelerator as if its rank were the only one.

    TRL's loss would else ask all ranks for its statistics, micro-batch by micro-batch, and wait for ever if they have
    different numbers of rollouts.
    """

    num_processes = 1

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accelerator, name)

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor itself."""
        return tensor

    def reduce(self, tensor: torch.Tensor, reduction: str = "sum") -> torch.Tensor:
        """The tensor itself."""
        return tensor


def make_trainer(checkpoint: str, encoder: Encoder, config: Config) -> PolicyTrainer:
    """A trainer around the checkpoint's model, of which what learns is float32 and requires a gradient.

    Raises:
        ValueError: See `rl.config.checks.check_settings`; Liger is to work on a CPU; or the checkpoint has no part
            that is to be frozen or adapted.
    """
    settings, policy = config.learner, config.policy
    check_settings(settings)
    # Whatever is frozen for good needs no more digits than the computation has.
    dtype = policy.dtype if settings.lora_rank else "float32"
    model = load_model(checkpoint, dtype, policy.trust_remote_code, settings.sharding)
    leave_no_dropout(model)
    if settings.lora_rank:
        add_lora(model, settings.lora_rank, config.seed)
    if settings.freeze_vision:
        freeze_vision_tower(model)
    trainer = PolicyTrainer(
        model=model,
        args=_arguments(config),
        # The trainer insists on a data set and a reward; the loop brings its own.
        train_dataset=Dataset.from_dict({"prompt": ["", ""]}),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        processing_class=encoder.processor,
    )
    trainer.truncation = config.engine.truncation
    if settings.optimizer == "adamw_8bit":
        trainer.optimizer_cls_and_kwargs = AdamW8bit, {"lr": settings.learning_rate}
    if settings.liger:
        if device() == "cpu":
            raise ValueError("learner.liger is true: its kernels want a GPU, and there is none here; allowed is false")
        apply_liger_kernel(trainer.model, LIGER)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if settings.activation_offload:
        trainer.keeping = keep_off_the_gpu(model)
    # What `importance_weights` finds is applied by TRL where it believes that vLLM sampled for it.
    trainer.use_vllm = settings.correction != "none"
    # Of TRL's own reference model, only the term of the loss is wanted.
    trainer.beta = settings.kl
    # Not every pass needs every weight: text alone does not go through the vision tower.
    trainer.accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    # Each micro-batch's loss is a mean over itself; what it counts is decided in `rl.learning.micro_batches`.
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = 1
    return trainer


def leave_no_dropout(model: torch.nn.Module) -> None:
    """A policy learns as it answers: the loss is a ratio of log-probabilities to those of an engine, which drops
    nothing. TRL's own switch leaves what is no module of its own, as in OPT, or an attention's.
    """
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        for name, value in list(vars(part).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(part, name, 0.0)


def make_entropy_bonus(settings: LearnerConfig) -> EntropyBonus:
    """The entropy bonus of the section, with TRL's defaults."""
    defaults = {field.name: field.default for field in fields(GRPOConfig)}
    return EntropyBonus(**{ours: settings.trl.get(name, defaults[name]) for name, ours in ADAPTIVE.items()})


class _Arguments(GRPOConfig):
    """`GRPOConfig` for a model that is where it belongs: the trainer would move all of it onto every rank's GPU."""

    place_model_on_device = False


def _arguments(config: Config) -> GRPOConfig:
    settings = config.learner
    further = {name: value for name, value in settings.trl.items() if name not in ADAPTIVE}
    if settings.loss == "cispo":
        further.setdefault("epsilon_high", CISPO_EPSILON_HIGH)
    if settings.sharding == "deepspeed":
        further["deepspeed"] = {
            "zero_optimization": {"stage": 3},
            "bf16": {"enabled": config.policy.dtype == "bfloat16"},
            "gradient_clipping": settings.max_grad_norm,
            "train_micro_batch_size_per_gpu": settings.micro_batch,
            "gradient_accumulation_steps": 1,
        }
    return _Arguments(
        output_dir=tempfile.gettempdir(),
        loss_type=settings.loss,
        epsilon=settings.clip,
        beta=0.0,
        temperature=config.engine.temperature,
        max_completion_length=config.engine.max_completion_tokens,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        lr_scheduler_type="constant",
        per_device_train_batch_size=2,
        num_generations=2,
        gradient_checkpointing=False,
        router_aux_loss_coef=0.0,
        bf16=config.policy.dtype == "bfloat16",
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
        ddp_timeout=math.ceil(config.deadline),
        seed=config.seed,
        **further,
    )


@dataclass
class EntropyBonus:
    """What a nat of mean token entropy is worth: the loss is the policy's minus ``weight`` times the entropy.

    Adaptive, the coefficient rises by ``delta`` after an optimizer step whose entropy was at most ``target``, else it
    falls by as much; and it counts only while the entropy is that low (Skywork-OR1, arXiv 2505.22312, section 5).

    Attributes:
        coefficient: The current one.
        last: Mean token entropy in the last optimizer step, in nats.
    """

    coefficient: float
    adaptive: bool
    least: float
    most: float
    delta: float
    target: float
    last: float = math.inf

    @property
    def is_used(self) -> bool:
        """Whether there is a bonus, now or ever."""
        return self.adaptive or self.coefficient != 0

    @property
    def weight(self) -> float:
        """What counts in the next optimizer step."""
        return self.coefficient if not self.adaptive or self.last <= self.target else 0.0

    def after(self, entropy: float) -> None:
        """An optimizer step had this mean token entropy."""
        if self.adaptive:
            low = entropy <= self.target
            self.coefficient += self.delta if low else -self.delta
            self.coefficient = min(self.coefficient, self.most) if low else max(self.coefficient, self.least)
            self.last = entropy

    def state(self) -> dict[str, float]:
        """For a checkpoint."""
        return {"coefficient": self.coefficient, "last": self.last if math.isfinite(self.last) else -1.0}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.coefficient = state["coefficient"]
        self.last = state["last"] if state["last"] >= 0 else math.inf
