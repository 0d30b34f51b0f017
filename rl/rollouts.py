"""Fresh rollouts: what to ask the engines for, and what their answers are."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.encoding import Encoder
from rewards.records import Completion, Prompt, Rollout, SamplingRequest
from rewards.seeds import derive_seed
from rewards.verification.verifiers import Verifier


class UnreadableRolloutsError(RuntimeError):
    """The policy writes nothing that a model could read back."""


def rollout_requests(prompts: Sequence[Prompt], samples: int, *seed: object) -> list[SamplingRequest]:
    """``samples`` whole answers for each prompt; ``seed`` and the prompt's id decide them."""
    return [SamplingRequest(prompt, n=samples, seed=derive_seed(*seed, prompt.id)) for prompt in prompts]


def make_rollouts(
    prompts: Sequence[Prompt],
    completions: Sequence[Sequence[Completion]],
    encoder: Encoder,
    verifier: Verifier,
    first_group: int = 0,
) -> list[Rollout]:
    """The engines' answers as records: decoded, cut into steps, and verified. Groups count up from ``first_group``.

    A completion in which the model wrote an image placeholder is dropped: no model could read it back.

    Raises:
        UnreadableRolloutsError: Nothing is left.
    """
    rollouts = []
    for group, (prompt, samples) in enumerate(zip(prompts, completions, strict=True), start=first_group):
        for sample in samples:
            if not encoder.placeholders.isdisjoint(sample.token_ids):
                continue
            text = encoder.decode(sample.token_ids)
            rollouts.append(
                Rollout(
                    prompt_id=prompt.id,
                    source=prompt.source,
                    group=group,
                    token_ids=sample.token_ids,
                    logprobs=sample.logprobs,
                    text=text,
                    steps=encoder.steps(sample.token_ids),
                    outcome=float(verifier(text, prompt.answer)),
                    finish_reason=sample.finish_reason,
                    policy_version=sample.policy_version,
                )
            )
    if not rollouts:
        raise UnreadableRolloutsError(f"the policy wrote image placeholders into all answers to {len(prompts)} prompts")
    return rollouts
