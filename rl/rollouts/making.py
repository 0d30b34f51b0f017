"""Fresh rollouts: what to ask the engines for, and what their answers are."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.models.encoding import Encoder
from rewards.records import Completion, Prompt, Rollout, SamplingRequest
from rewards.seeds import copies, derive_seed
from rewards.verification.added_rewards import AddedReward
from rewards.verification.verdict import Answer, verdict_of
from rewards.verification.verifiers import Verifier
from rl.errors import UnreadableRolloutsError


def rollout_requests(prompts: Sequence[Prompt], samples: int, *seed: object) -> list[SamplingRequest]:
    """``samples`` whole answers for each prompt; ``seed``, its id, and how often it stands before decide them."""
    return [
        SamplingRequest(prompt, n=samples, seed=derive_seed(*seed, *copy, prompt.id))
        for prompt, copy in zip(prompts, copies(prompt.id for prompt in prompts), strict=True)
    ]


def make_rollouts(
    prompts: Sequence[Prompt],
    completions: Sequence[Sequence[Completion]],
    encoder: Encoder,
    verifier: Verifier,
    first_group: int = 0,
) -> list[Rollout]:
    """The engines' answers as records, see `make_group`. Groups count up from ``first_group``.

    Raises:
        UnreadableRolloutsError: Nothing is left.
    """
    rollouts = [
        rollout
        for number, (prompt, samples) in enumerate(zip(prompts, completions, strict=True), start=first_group)
        for rollout in make_group(prompt, samples, number, encoder, verifier)
    ]
    check_readable(rollouts, len(prompts))
    return rollouts


def make_group(
    prompt: Prompt,
    completions: Sequence[Completion],
    number: int,
    encoder: Encoder,
    verifier: Verifier,
    rewards: Sequence[AddedReward] = (),
) -> list[Rollout]:
    """The engines' answers to one prompt as records: decoded, cut into steps, verified, and rewarded with ``rewards``
    besides.

    A completion in which the model wrote an image placeholder is dropped: no model could read it back.
    """
    readable = [c for c in completions if encoder.placeholders.isdisjoint(c.token_ids)]
    return [_rollout(prompt, completion, number, encoder, verifier, rewards) for completion in readable]


def _rollout(
    prompt: Prompt,
    completion: Completion,
    number: int,
    encoder: Encoder,
    verifier: Verifier,
    rewards: Sequence[AddedReward],
) -> Rollout:
    answer = Answer(encoder.decode(completion.token_ids), prompt, completion.token_ids)
    verdict = verdict_of(verifier, answer)
    said = {f"parts/{name}": value for name, value in verdict.parts.items()}
    if verdict.score is not None:
        said["score"] = verdict.score
    earned = [(reward, value) for reward in rewards if (value := reward(answer)) is not None]
    return Rollout(
        prompt_id=prompt.id,
        source=prompt.source,
        group=number,
        token_ids=completion.token_ids,
        logprobs=completion.logprobs,
        text=answer.text,
        steps=encoder.steps(completion.token_ids),
        outcome=float(verdict.correct),
        finish_reason=completion.finish_reason,
        policy_version=completion.policy_version,
        score=verdict.score,
        added=sum(reward.weight * value for reward, value in earned),
        said=said | {f"added/{reward.name}": value for reward, value in earned},
    )


def check_readable(rollouts: Sequence[Rollout], prompts: int) -> None:
    """Whether anything is left of the answers to so many prompts.

    Raises:
        UnreadableRolloutsError: Nothing is.
    """
    if not rollouts:
        raise UnreadableRolloutsError(f"the policy wrote image placeholders into all answers to {prompts} prompts")
