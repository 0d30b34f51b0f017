"""Seconds that each stage takes at least on a known GPU: with nothing but the operations and bytes that it cannot do
without, at the rates that the maker states.

compute   floating-point operations (`rl.learning.flops`), with those that gradient checkpointing computes again
memory    weights, once a pass or a token that is decoded; keys and values; an optimizer's numbers
link      weights and gradients between ranks, and weights on their way to the engines, in either direction

The slowest of the three holds the stage up, as if they overlapped in full. Left out, so that less is found than is
needed: the vision tower (pictures are tokens of the prompt), a value model of its own, the models beside a reward
model and the guard of its updates, padding, and what tensor-parallel GPUs tell each other. Sequences that begin alike
are read once where they may be, and all rollouts are learned from. Attention is taken to see all tokens, of which
Gemma's local layers see the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rewards.process_model.config import MPRMConfig
from rl.config import Config
from rl.config.learner import LearnerConfig
from rl.errors import ConfigError
from rl.instruments.planning.launch_plan import checkpoints
from rl.instruments.planning.memory_estimate import FLOAT, learning_parameters
from rl.instruments.planning.model_shape import ModelShape, find_shape
from rl.instruments.planning.stage_seconds import Split, StageSeconds
from rl.instruments.planning.transfer_memory import computed_width
from rl.learning.flops import ModelSize, Work
from rl.learning.known_gpus import KnownGpu

ADAM_BYTES = {"adamw": 7 * FLOAT, "adamw_8bit": 3 * FLOAT + 4}
"""Of a weight, in an optimizer step: it, its gradient and two moments are read, and it and the moments written."""


@dataclass(frozen=True)
class Least:
    """Seconds that a stage takes at least on so many GPUs: what each of the three alone would take."""

    gpus: int
    compute: float = 0.0
    memory: float = 0.0
    link: float = 0.0

    @property
    def seconds(self) -> float:
        """All of them at once."""
        return max(self.compute, self.memory, self.link)

    @property
    def bound(self) -> Literal["compute", "memory", "link"]:
        """The slowest of them."""
        if self.seconds == self.compute:
            return "compute"
        return "memory" if self.seconds == self.memory else "link"


def least_seconds(config: Config, gpu: KnownGpu, lengths: StageSeconds, split: Split) -> dict[str, Least]:
    """Of the stages that the configuration has, by the names of `StageSeconds`.

    Args:
        config: Models, batch, number formats.
        gpu: Of every worker.
        lengths: Tokens of prompts and rollouts, and steps of these.
        split: Numbers of workers; each rank has a GPU, and each engine `engine.tensor_parallel` of them.

    Raises:
        ConfigError: The shape of a model is not known.
    """
    names = checkpoints(config)
    policy = _shape(config, names["policy"])
    found = _engines(config, policy, gpu, lengths, split.engines)
    if "mprm" in names and split.mprm:
        mprm, shape = config.mprm, _shape(config, names["mprm"])
        model = _Model(mprm, shape, computed_width(config), gpu, split.mprm, with_head=mprm.likelihood)
        scored, samples = config.learner.prompts * config.learner.samples, config.learner.samples
        found["score"] = model.least(lengths, scored, samples, forward=1)
        found["teach"] = model.least(lengths, mprm.lesson_size, samples, forward=1, backward=1, steps=mprm.batches)
    found["learn"] = _learner(config, policy, gpu, lengths, split.learner)
    found["sync"] = _sync(config, policy, gpu, split)
    return found


def _shape(config: Config, checkpoint: str) -> ModelShape:
    shape = find_shape(checkpoint, config.policy.trust_remote_code)
    if shape is None:
        raise ConfigError(f"--gpu: {checkpoint}: its shape is unknown, so that nobody can say what it takes")
    return shape


def _engines(config: Config, shape: ModelShape, gpu: KnownGpu, lengths: StageSeconds, engines: int) -> dict[str, Least]:
    """Of the engine that has most prompts: rollouts, and continuations, of whose prefixes it still has the keys."""
    prompts, gpus = -(-config.learner.prompts // engines), config.engine.tensor_parallel
    size, width = model_size(shape), computed_width(config)
    # Every GPU has the keys of some heads, and of one at least.
    keys = width * shape.cache_numbers / min(gpus, shape.language.key_value_heads)

    def decoding(answers: float, head: float, answer: float, reads: int) -> Least:
        flops = _operations(size.forward, reads, answers, head, answer)
        passes = answer * max(min(1.0, answers), answers / config.engine.max_num_seqs)
        # A sequence reads its own keys; those of the prompt at best one for all of its group.
        read = passes * width * size.weights.sum() / gpus
        read += keys * (answers * answer**2 / 2 + min(prompts, answers) * answer * head)
        return Least(engines * gpus, flops / (gpus * gpu.tflops * 1e12), float(read) / (gpu.bandwidth * 1e9))

    rollouts = prompts * config.learner.samples
    found = {"rollout": decoding(rollouts, lengths.prompt, lengths.tokens, reads=prompts)}
    if continued := rollouts * _continuations(config, lengths.steps):
        # From a step to the end: half a rollout, in the mean.
        found["annotate"] = decoding(continued, lengths.prompt, lengths.tokens / 2, reads=0)
    return found


def _continuations(config: Config, steps: float) -> float:
    """Fewest for a rollout, in the mean: some budgets may be content with one of a step, and some rules with a step."""
    annotation = config.annotation
    each = {"fixed": annotation.continuations, "triage": annotation.probe}.get(annotation.budget, 1)
    return annotation.share * each * (steps if annotation.first_error == "ignore" else 1)


def _learner(config: Config, shape: ModelShape, gpu: KnownGpu, lengths: StageSeconds, ranks: int) -> Least:
    learner = config.learner
    reading = (learner.correction != "none" or learner.algorithm == "ppo") + (learner.kl > 0)
    return _Model(learner, shape, computed_width(config), gpu, ranks).least(
        lengths,
        learner.prompts * learner.samples,
        learner.samples,
        forward=reading + learner.epochs,
        backward=learner.epochs,
        again=learner.epochs * learner.gradient_checkpointing,
        steps=learner.epochs * learner.mini_batches,
    )


@dataclass(frozen=True)
class _Model:
    """One that learns, on so many ranks; ``with_head`` where it gives the words' probabilities."""

    section: LearnerConfig | MPRMConfig
    shape: ModelShape
    width: int
    gpu: KnownGpu
    ranks: int
    with_head: bool = True

    def least(
        self,
        lengths: StageSeconds,
        answers: int,
        samples: int,
        forward: int,
        backward: int = 0,
        again: int = 0,
        steps: int = 0,
    ) -> Least:
        """Of so many passes over answers, of which ``samples`` share a prompt: there, back, and there again, but for
        the head; with so many optimizer steps."""
        section, gpu = self.section, self.gpu
        size = model_size(self.shape, section.lora_rank, self.with_head)
        learns = learning_parameters(self.shape, section.lora_rank, section.freeze_vision)
        rows = getattr(section, "micro_batch", 1) if not section.micro_batch_tokens else samples
        reads = answers / min(samples, rows) if section.pack else answers
        layers = model_size(self.shape, section.lora_rank, with_head=False)
        flops = sum(
            times * _operations(count, reads, answers, lengths.prompt, lengths.tokens)
            for times, count in ((forward, size.forward), (again, layers.forward), (backward, size.backward))
        )
        tokens = reads * lengths.prompt + answers * lengths.tokens
        pieces = tokens / section.micro_batch_tokens if section.micro_batch_tokens else answers / rows
        pieces = math.ceil(pieces / self.ranks)
        weights, again_bytes = (self.width * float(each.weights.sum()) for each in (size, layers))
        parts, others = 1 if section.sharding == "ddp" else self.ranks, (self.ranks - 1) / self.ranks
        read = pieces * ((forward + backward) * weights + again * again_bytes)
        read += steps * ADAM_BYTES[section.optimizer] * learns / parts
        # Gradients go out while weights come in, for which a pass computed again need not ask again.
        gathered = 0.0 if section.sharding == "ddp" else pieces * (forward + backward) * weights
        given = FLOAT * learns * (steps if section.sharding == "ddp" else pieces * backward)
        return Least(
            self.ranks,
            flops / (self.ranks * gpu.tflops * 1e12),
            read / (gpu.bandwidth * 1e9),
            others * max(gathered, given) / (gpu.link * 1e9),
        )


def model_size(shape: ModelShape, lora_rank: int = 0, with_head: bool = True) -> ModelSize:
    """The language model's matrices, and its adapters; of those that learn, all or the adapters alone."""
    language, table = shape.language, shape.vocabulary * shape.language.hidden
    # Some layers have no gate, and then less than `layer_matrices`.
    layers = min(language.layers * language.layer_matrices, language.parameters - table)
    adapters = language.adapter_parameters(lora_rank)
    weights = np.array([layers + adapters, table * with_head, 0, 0], float)
    trained = np.array([adapters, 0, 0, 0], float) if lora_rank else weights
    return ModelSize(weights, trained, language.layers * language.query_width)


def _operations(
    count: Callable[[Sequence[Work]], float], reads: float, answers: float, prompt: float, answer: float
) -> float:
    """By ``count``, forward or backward, of answers of so many tokens behind prompts that are read ``reads`` times."""
    head = count([Work(int(prompt), 0, 0, 0)])
    return reads * head + answers * (count([Work(int(prompt), int(answer), 0, 0)]) - head)


def _sync(config: Config, shape: ModelShape, gpu: KnownGpu, split: Split) -> Least:
    """New weights: gathered in float32 where ranks share them, then sent in the number format of the computation."""
    route, learner = config.weight_route, config.learner
    whole = computed_width(config) * shape.parameters
    others = (split.learner - 1) / split.learner if learner.sharding != "ddp" else 0.0
    gathered = FLOAT * learning_parameters(shape, learner.lora_rank, learner.freeze_vision) * others / gpu.link
    gpus = split.engines * config.engine.tensor_parallel
    if route == "ipc":
        return Least(gpus, memory=2 * whole / gpu.bandwidth / 1e9)
    if route == "nccl":
        return Least(gpus, link=max(gathered, whole / gpu.link) / 1e9)
    sent = FLOAT * shape.language.adapter_parameters(learner.lora_rank) if route == "adapters" else whole
    # All of it is in the machine's memory before any of it leaves that again.
    into = sent / config.engine.tensor_parallel if route == "weights" else 0.0
    return Least(gpus, link=max(gathered, (sent + into) / gpu.host) / 1e9)
