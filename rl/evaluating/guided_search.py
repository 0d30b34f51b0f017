"""Guided greedy search (VL-PRM, arXiv 2509.23250): a judge chooses each next step among N that the policy samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np

from rewards.models.encoding import Encoder
from rewards.records import Completion, Prompt, Rollout, SamplingRequest, StepScores, StepSpan
from rewards.seeds import derive_seed
from rewards.verification.verifiers import Verifier
from rl.rollouts.making import make_rollouts

NOTHING = Completion((), (), "until", 0)
Judge = Callable[[Sequence[Prompt], Sequence[Rollout]], Any]
"""``MPRM.score``, with `StepScores` for each rollout, or ``OutcomeModel.score``, with one number for each (B,)."""


@dataclass(frozen=True)
class Sampler:
    """A policy that answers, and how its answers are read.

    Attributes:
        sample: As `rl.engines.engine.Engine.sample`.
        encoder: Decodes completions and cuts them into steps.
        verifier: Is the final answer right?
        max_completion_tokens: Most tokens of one answer.
    """

    sample: Callable[[Sequence[SamplingRequest]], list[list[Completion]]]
    encoder: Encoder
    verifier: Verifier
    max_completion_tokens: int

    def read(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Rollout]:
        """One completion to each prompt as a rollout; one that no model could read back is an empty, wrong answer."""
        kept = [[completion if self.is_readable(completion) else NOTHING] for completion in completions]
        return make_rollouts(prompts, kept, self.encoder, self.verifier)

    def is_readable(self, completion: Completion) -> bool:
        """Whether it holds no image placeholder."""
        return self.encoder.placeholders.isdisjoint(completion.token_ids)


@dataclass(frozen=True)
class Found:
    """An answer that was searched for, and the tokens that were generated for it, discarded ones included."""

    completion: Completion
    tokens: int


def guided_search(sampler: Sampler, judge: Judge, prompts: Sequence[Prompt], n: int, seed: int) -> list[Found]:
    """An answer to each prompt: again and again, the best-scored of ``n`` sampled next steps is kept.

    If all look wrong, the least wrong one is kept, and the first of equals: the search goes on to the policy's own end
    of the answer, or to the length limit. What adds no step, such as the line with the final answer, counts as much as
    the step before it.
    """
    written = [NOTHING for _ in prompts]
    tokens = [0 for _ in prompts]
    until = sampler.encoder.rule.until
    for turn in count():
        going_on = [i for i, completion in enumerate(written) if completion.finish_reason == "until"]
        if not going_on:
            return [Found(*pair) for pair in zip(written, tokens, strict=True)]
        requests = [
            SamplingRequest(
                prompts[i],
                prefix=written[i].token_ids,
                n=n,
                seed=derive_seed(seed, "guided", n, turn, prompts[i].id),
                until=until,
            )
            for i in going_on
        ]
        answers = sampler.sample(requests)
        candidates = [
            [_extended(sampler, written[i], new) for new in a] for i, a in zip(going_on, answers, strict=True)
        ]
        values = _values(sampler, judge, [prompts[i] for i in going_on], candidates)
        for i, answer, group, value in zip(going_on, answers, candidates, values, strict=True):
            written[i] = group[int(np.argmax(value))]
            tokens[i] += sum(len(completion.token_ids) for completion in answer)
    raise AssertionError("unreachable")


def _extended(sampler: Sampler, written: Completion, new: Completion) -> Completion:
    """What was written and the next step of a continuation; ``until`` is the finish reason of what can go on."""
    whole = replace(new, token_ids=written.token_ids + new.token_ids, logprobs=written.logprobs + new.logprobs)
    start = len(written.token_ids)
    ends = [span.end for span in sampler.encoder.steps(whole.token_ids) if span.end > start]
    if ends and ends[0] < len(whole.token_ids):
        # The engine could not tell where a step ends, and went on.
        whole = replace(
            whole, token_ids=whole.token_ids[: ends[0]], logprobs=whole.logprobs[: ends[0]], finish_reason="until"
        )
    can_go_on = len(whole.token_ids) < sampler.max_completion_tokens and sampler.is_readable(whole)
    return whole if can_go_on or whole.finish_reason == "stop" else replace(whole, finish_reason="length")


def _values(
    sampler: Sampler, judge: Judge, prompts: Sequence[Prompt], candidates: Sequence[Sequence[Completion]]
) -> list[list[float]]:
    """The judge's score of each candidate's newest step; nothing to judge where there is only one."""
    n = len(candidates[0])
    if n == 1:
        return [[0.0] for _ in candidates]
    asked = [prompt for prompt in prompts for _ in range(n)]
    flat = [completion for group in candidates for completion in group]
    scores = step_scores(judge, asked, sampler.read(asked, flat))
    values = [
        -1.0 if not sampler.is_readable(completion) else entry[-1] if entry else 0.0
        for completion, entry in zip(flat, scores, strict=True)
    ]
    return [values[start : start + n] for start in range(0, len(values), n)]


def step_scores(judge: Judge, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[list[float]]:
    """The scores of each rollout's steps; an outcome model's score is that of a single step.

    The judge is not shown an empty rollout, which has no scores.
    """
    scores: list[list[float]] = [[] for _ in rollouts]
    shown = [place for place, rollout in enumerate(rollouts) if rollout.token_ids]
    verdicts = judge([prompts[place] for place in shown], [rollouts[place] for place in shown]) if shown else []
    for place, verdict in zip(shown, verdicts, strict=True):
        scores[place] = list(map(float, verdict.scores if isinstance(verdict, StepScores) else [verdict]))
    return scores


def one_shot_scores(judge: Judge, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[float]:
    """One score a rollout: of all that it says, final answer included, as a single step (VL-PRM, arXiv 2509.23250).

    0, the lowest, for an empty one.
    """
    whole = step_scores(judge, prompts, [as_one_step(rollout) for rollout in rollouts])
    return [scores[-1] if scores else 0.0 for scores in whole]


def as_one_step(rollout: Rollout) -> Rollout:
    """The rollout as if it had been written in one step, which ends before the end-of-sequence token."""
    end = len(rollout.token_ids) - (rollout.finish_reason == "stop")
    return replace(rollout, steps=(StepSpan(0, end),) if end > 0 else ())
