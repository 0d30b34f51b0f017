"""The section of a configuration on the outcome reward model."""

from __future__ import annotations

from typing import Literal

from rewards.process_model.config import Combine
from rewards.section import Count, Positive, Section, Weight

OutcomeReward = Literal["rule", "model", "hybrid"]


class OutcomeModelConfig(Section):
    """The outcome reward model, which judges whole answers; made only where `reward` or `harvest` asks for it."""

    reward: OutcomeReward = "rule"
    """What an answer is worth: `rule` (the verifier's verdict, or its score), `model` (the outcome model's score), or
    `hybrid` (1 if the verifier says right, else the outcome model's score)."""
    checkpoint: str | None = None
    """Where it starts from: a folder that `sieve train-outcome` wrote, or a Transformers checkpoint; null for the
    policy's own. Its vocabulary must be the policy's."""
    beside: tuple[str, ...] = ()
    """Folders of saved outcome models or MPRMs that judge beside it, and learn nothing; an MPRM's score of an answer is
    the mean of its step scores."""
    combine: Combine = "mean"
    """How their scores of an answer become one: `mean`, `minimum`, or a list of weights, its own first."""
    pairs: tuple[str, ...] = ()
    """Preference pairs to learn from before the first step: JSON lines, or folders of `*.jsonl`."""
    pairs_epochs: Count = 1
    """Passes over them."""
    harvest: bool = False
    """Whether it goes on learning from right and wrong answers to the same prompt, as they come."""
    pairs_per_group: Count = 4
    """Of `harvest`: most pairs of one group."""
    capacity: Count = 1024
    """Of `harvest`: most pairs kept; the oldest go first."""
    every: Count = 2
    """Of `harvest`: policy steps between two updates."""
    batches: Count = 2
    """Of `harvest`: optimizer steps of one update."""
    batch_size: Count = 32
    """Pairs of one optimizer step."""
    learning_rate: Positive = 1e-4
    """Of AdamW, constant; the paper has 3e-6 for a model of 7 billion parameters."""
    weight_decay: Weight = 0.0
    """Of AdamW."""
    micro_batch_tokens: Count = 16384
    """Most tokens of one forward pass, padding and image tokens included."""
    pack: bool = True
    """Whether the answers to one prompt in a micro-batch are read in one row, the prompt once: the same numbers for
    less work. A model whose attention cannot be held to that reads each in a row of its own, as with false."""
    freeze_vision: bool = False
    """Whether the vision tower stays as it is."""
    num_cpus: Weight = 0
    """CPUs that Ray reserves; 0 to share those of the others."""
    num_gpus: Weight = 0
    """GPUs that Ray reserves."""

    @property
    def is_used(self) -> bool:
        """Whether the run has an outcome model."""
        return self.reward != "rule" or self.harvest

    @property
    def lesson_size(self) -> int:
        """Pairs of one update."""
        return self.batches * self.batch_size
