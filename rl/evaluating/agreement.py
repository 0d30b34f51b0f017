"""Whether engines understand the learner's weights: found out before the first policy step, not after it.

Engine and learner are two programs for one model. Each reads the checkpoint's files in its own way, and from then on
the engine gets the learner's weights by their names. One that knows them by other names would fail a whole step into
the run, and one that reads the model differently would sample from another policy without a word.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewards.records import Completion, Prompt, SamplingRequest
from rl.config import Config
from rl.errors import ConfigError, LostWorkerError, WorkerError
from rl.parts import Parts
from rl.rollouts.staleness import check_versions_sent

LIMIT = 0.1
"""Nats a token, in the mean, that two programs may differ by: kernels and number formats make it a tenth of that."""
TOKENS, ANSWERS, PROMPTS = 16, 2, 2


def check_agreement(config: Config, parts: Parts, version: int) -> None:
    """Give the engines the learner's weights of a version once, and compare log-probabilities of what they sample.

    Raises:
        ConfigError: An engine does not take them, or is then further from the learner than `LIMIT`.
    """
    kind, checkpoint = config.engine.kind, config.policy.checkpoint
    prompts = [parts.task.prompt("train", index) for index in range(max(PROMPTS, len(parts.engines)))]
    try:
        check_versions_sent(parts.transfer.send(version), version)
    except LostWorkerError:
        raise
    except WorkerError as error:
        raise ConfigError(
            f"engine.kind {kind!r} does not take the learner's {config.weight_route} of {checkpoint!r}; allowed is a "
            f"checkpoint that it knows all of, or {_ways_out(config)}: {error}"
        ) from None
    found = _difference(parts, prompts)
    if not found <= LIMIT:
        raise ConfigError(
            f"engine.kind {kind!r} says {found:.2g} nats a token else than the learner of the same weights of "
            f"{checkpoint!r}; allowed are {LIMIT}: it takes weights for others, or reads the model in another way; "
            f"try {_ways_out(config)}"
        )


def _ways_out(config: Config) -> str:
    """What works with more models."""
    whole = "engine.sync_adapters=false, or " if config.weight_route == "adapters" else ""
    return f"{whole}engine.kind=hf"


def _difference(parts: Parts, prompts: Sequence[Prompt]) -> float:
    """Of the engines' log-probabilities of sampled tokens from the learner's: the mean size, in nats."""
    requests = [
        SamplingRequest(prompt, n=ANSWERS, seed=place, max_tokens=TOKENS) for place, prompt in enumerate(prompts)
    ]
    groups = parts.engines.sample(requests).result()
    rows = [
        (prompt, answer)
        for prompt, answers in zip(prompts, groups, strict=True)
        for answer in answers
        if parts.encoder.placeholders.isdisjoint(answer.token_ids)
    ]
    said = parts.learner.call("logprobs", [prompt for prompt, _ in rows], [answer.token_ids for _, answer in rows])
    return mean_difference([answer for _, answer in rows], said)


def mean_difference(answers: Sequence[Completion], others: Sequence[Sequence[float]]) -> float:
    """Of the log-probabilities of answers' tokens from others of the same: the mean size, in nats; 0 without a token.

    >>> mean_difference([Completion((5, 6), (-1.0, -2.0), "stop", 0)], [[-1.5, -2.0]])
    0.25
    """
    sizes = [
        abs(ours - other)
        for answer, values in zip(answers, others, strict=True)
        for ours, other in zip(answer.logprobs, values, strict=True)
    ]
    return float(np.mean(sizes)) if sizes else 0.0
