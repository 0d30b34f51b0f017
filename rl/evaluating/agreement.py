"""Whether engines understand the learner's weights: found out before the first policy step, not after it.

Engine and learner are two programs for one model. Each reads the checkpoint's files in its own way, and from then on
the engine gets the learner's weights by their names. One that knows them by other names would fail a whole step into
the run or, worse, leave out what it does not know; and one that reads the model differently would sample from another
policy without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rewards.models.encoding import Encoder
from rewards.records import Completion, Prompt, SamplingRequest
from rl.config import Config
from rl.errors import ConfigError, LostWorkerError, WorkerError
from rl.parts import Parts
from rl.rollouts.staleness import check_versions_sent

LIMIT = 0.1
"""Nats a token, in the mean, that two programs may differ by: kernels and number formats make it a tenth of that."""
TOKENS, ANSWERS, PROMPTS = 16, 2, 2
Rows = list[tuple[Prompt, Completion]]


def check_agreement(config: Config, parts: Parts, version: int) -> None:
    """Give the engines the learner's weights of a version, and compare log-probabilities of what they sample.

    Engines that have read the same files would agree without taking any, and adapters that have not yet learned change
    nothing: so it is compared once more with other weights, which the learner then takes back.

    Raises:
        ConfigError: An engine does not take them, or is then further from the learner than `LIMIT`.
    """
    kind, checkpoint, sent = config.engine.kind, config.policy.checkpoint, config.weight_route
    rows = _answers_after(config, parts, version)
    found = _difference(parts, rows)
    if not found <= LIMIT:
        raise ConfigError(
            f"engine.kind {kind!r} says {found:.2g} nats a token else than the learner of the same weights of "
            f"{checkpoint!r}; allowed are {LIMIT}: it takes weights for others, or reads the model in another way; "
            f"try {_ways_out(config)}"
        )
    if config.learner.sharding == "deepspeed":  # whose weights nobody else may touch
        return
    parts.learner.call("disturb")
    rows = _answers_after(config, parts, version)
    found = _difference(parts, rows)
    parts.learner.call("settle")
    check_versions_sent(parts.transfer.send(version), version)
    if not found <= min(LIMIT, _difference(parts, rows) / 2):
        raise ConfigError(
            f"engine.kind {kind!r} leaves out some of the learner's {sent} of {checkpoint!r}: once they have changed, "
            f"it says {found:.2g} nats a token else than the learner; allowed are {LIMIT}; try {_ways_out(config)}"
        )


def _answers_after(config: Config, parts: Parts, version: int) -> Rows:
    """A few answers by every engine with the learner's weights, as far as they hold no picture's placeholder.

    Raises:
        ConfigError: An engine does not take the weights, or does not answer with them, or with nothing but pictures.
    """
    checkpoint = config.policy.checkpoint
    prompts = [parts.task.prompt("train", index) for index in range(max(PROMPTS, len(parts.engines)))]
    requests = [
        SamplingRequest(prompt, n=ANSWERS, seed=place, max_tokens=TOKENS) for place, prompt in enumerate(prompts)
    ]
    try:
        check_versions_sent(parts.transfer.send(version), version)
        groups = parts.engines.sample(requests).result()
    except LostWorkerError:
        raise
    except WorkerError as error:
        raise ConfigError(
            f"engine.kind {config.engine.kind!r} does not take the learner's {config.weight_route} of {checkpoint!r}; "
            f"allowed is a checkpoint that it knows all of, or {_ways_out(config)}: {error}"
        ) from None
    rows = [
        (prompt, readable(parts.encoder, answer))
        for prompt, answers in zip(prompts, groups, strict=True)
        for answer in answers
    ]
    if not any(answer.token_ids for _, answer in rows):
        raise ConfigError(
            f"all answers of {checkpoint!r} begin with the placeholder of a picture: there is nothing to compare "
            "engine and learner by, nor to learn from"
        )
    return rows


def _ways_out(config: Config) -> str:
    """What works with more models."""
    whole = "engine.sync_adapters=false, or " if config.weight_route == "adapters" else ""
    return f"{whole}engine.kind=hf"


def readable(encoder: Encoder, answer: Completion) -> Completion:
    """An answer up to where it first stands for a picture, which a model would want to see."""
    end = next((place for place, token in enumerate(answer.token_ids) if token in encoder.placeholders), None)
    return replace(answer, token_ids=answer.token_ids[:end], logprobs=answer.logprobs[:end])


def _difference(parts: Parts, rows: Rows) -> float:
    """Of the engines' log-probabilities of sampled tokens from the learner's: the mean size, in nats."""
    said = parts.learner.call("logprobs", [prompt for prompt, _ in rows], [answer.token_ids for _, answer in rows])
    return mean_difference([answer for _, answer in rows], said)


def mean_difference(answers: Sequence[Completion], others: Sequence[Sequence[float]]) -> float:
    """Of the log-probabilities of answers' tokens from others of the same: the mean size, in nats.

    >>> mean_difference([Completion((5, 6), (-1.0, -2.0), "stop", 0)], [[-1.5, -2.0]])
    0.25
    """
    sizes = [
        abs(ours - other)
        for answer, values in zip(answers, others, strict=True)
        for ours, other in zip(answer.logprobs, values, strict=True)
    ]
    return float(np.mean(sizes))
