"""From scored rollouts to what the learner trains on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rewards.annotation.annotator import Continued
from rewards.credit.batch import CreditRule, ScoredBatch, apply_rule
from rewards.credit.comparison import Comparison, make_comparison
from rewards.credit.continuations import comparison_scale, continuation_advantages
from rewards.credit.placement import without_separators
from rewards.credit.rules import CREDIT_RULES
from rewards.credit.token_rewards import TOKEN_REWARDS
from rewards.records import Completion, Experience, Prompt, Rollout, StepCounts, StepScores
from rl.config import Config
from rl.config.learner import LearnerConfig
from rl.config.users_parts import resolve
from rl.errors import ConfigError

Needs = Literal["outcomes", "scores", "counts"]


@dataclass(frozen=True)
class CreditAssignment:
    """The credit rule, and what the configuration wants before and after it.

    Attributes:
        settings: The section `learner`.
        rule: Gives one advantage a token; with `ppo`, one reward a token.
        comparison: How rewards are compared: as the rule does by itself, or as the algorithm does.
        separators: Which tokens only separate steps; see `rewards.models.encoding.Encoder.separators`.
        stops_early: Whether verdicts decide how many continuations there are.
        placeholders: Tokens that stand for images: a completion in which the policy wrote one cannot be read back.
    """

    settings: LearnerConfig
    rule: CreditRule
    comparison: Comparison
    separators: Callable[[Sequence[int]], np.ndarray]
    stops_early: bool
    placeholders: AbstractSet[int]

    @property
    def needs(self) -> Needs:
        """The last of what the rule wants to know, before which the policy's step cannot begin."""
        return needs_of(self.rule)

    def experiences(
        self,
        prompts: Sequence[Prompt],
        rollouts: Sequence[Rollout],
        scores: Sequence[StepScores] = (),
        counts: Sequence[StepCounts | None] = (),
    ) -> list[Experience]:
        """What the learner trains on.

        Truncated rollouts that are penalised lose a part of their reward here, and nowhere else. Those that are masked
        count in their group's comparison, and are left out, even if that is all of them.

        Args:
            prompts: Of each rollout.
            rollouts: With the outcome reward as their outcome.
            scores: The MPRM's, of each rollout; empty where the rule does without.
            counts: Of the rollouts that were annotated, None for the others; empty where that is not known yet.

        Raises:
            UsersCodeError: The rule failed.
        """
        settings = self.settings
        if settings.truncated == "penalise":
            rollouts = [_penalised(rollout, settings.truncation_penalty) for rollout in rollouts]
        by_rollout = [entry.scores for entry in scores] or [np.zeros(0)] * len(rollouts)
        separators: list[np.ndarray] = []
        if not settings.separator_advantages:
            separators = [self.separators(rollout.token_ids) for rollout in rollouts]
        batch = ScoredBatch(rollouts, by_rollout, counts, self.comparison, separators)
        advantages = apply_rule(f"learner.credit {settings.credit}", self.rule, batch)
        if separators:
            advantages = without_separators(advantages, separators)
        experiences = [
            Experience(prompt, rollout.token_ids, rollout.logprobs, advantage, rollout.policy_version)
            for prompt, rollout, advantage in zip(prompts, rollouts, advantages, strict=True)
        ]
        if settings.truncated != "mask":
            return experiences
        return [e for e, rollout in zip(experiences, rollouts, strict=True) if not _is_truncated(rollout)]

    def continued(
        self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout], continued: Sequence[Continued]
    ) -> list[Experience]:
        """What else the learner trains on: continuations of the rollouts, but for those that were cut off or cannot be
        read back; see `rewards.credit.continuations`. They have verdicts alone, and so the rollouts' outcomes are
        verdicts here, and not rewards. What a continuation's tokens count is in their advantages."""
        outcomes = np.array([rollout.outcome for rollout in rollouts], dtype=float)
        groups = np.array([rollout.group for rollout in rollouts])
        scale = self.settings.continuation_weight * comparison_scale(self.comparison, outcomes, groups)
        experiences = []
        for entry in continued:
            rollout = rollouts[entry.rollout]
            finished = [(one.completion, float(one.right)) for one in entry.continuations if one.right is not None]
            outcome = None if _is_truncated(rollout) else rollout.outcome
            gained = continuation_advantages([right for _, right in finished], outcome, self.stops_early)
            experiences += [
                self._going_on(prompts[entry.rollout], rollout, entry.tokens, completion, scale * advantage)
                for (completion, _), advantage in zip(finished, gained, strict=True)
                if completion is not None
                and completion.token_ids
                and self.placeholders.isdisjoint(completion.token_ids)
            ]
        return experiences

    def _going_on(
        self, prompt: Prompt, rollout: Rollout, prefix_length: int, completion: Completion, advantage: float
    ) -> Experience:
        """A continuation, behind its prefix."""
        prefix, tokens = rollout.token_ids[:prefix_length], completion.token_ids
        advantages = np.full(len(tokens), advantage)
        if not self.settings.separator_advantages:
            (advantages,) = without_separators([advantages], [self.separators(prefix + tokens)[prefix_length:]])
        return Experience(prompt, tokens, completion.logprobs, advantages, completion.policy_version, prefix)


def make_credit(
    config: Config, separators: Callable[[Sequence[int]], np.ndarray], placeholders: AbstractSet[int] = frozenset()
) -> CreditAssignment:
    """Credit as the configuration has it; for the other arguments see `CreditAssignment`.

    Raises:
        ConfigError: There is no such rule, or it wants to know what a run without an MPRM, or with labels that come
            late, cannot tell.
    """
    learner = config.learner
    rule = configured_rule(config)
    comparison = getattr(rule, "comparison", make_comparison(learner.algorithm, learner.scale_rewards))
    stops_early = config.annotation.budget != "fixed"
    credit = CreditAssignment(learner, rule, comparison, separators, stops_early, placeholders)
    if not config.mprm.enabled and credit.needs != "outcomes":
        raise ConfigError(
            f"learner.credit is {learner.credit!r}, which reads {credit.needs}: allowed with mprm.enabled false is "
            "outcome, or a rule of your own that says needs_scores = False"
        )
    if config.annotation.delay and credit.needs == "counts":
        raise ConfigError(
            f"annotation.delay is {config.annotation.delay}: allowed with learner.credit {learner.credit}, which reads "
            "counts, is 0"
        )
    return credit


def configured_rule(config: Config) -> CreditRule:
    """The credit rule that the configuration names.

    Raises:
        ConfigError: There is no such rule.
    """
    learner = config.learner
    return resolve("learner.credit", learner.credit, TOKEN_REWARDS if learner.algorithm == "ppo" else CREDIT_RULES)


def needs_of(rule: CreditRule) -> Needs:
    """The last of what a rule wants to know."""
    if getattr(rule, "needs_counts", False):
        return "counts"
    return "scores" if getattr(rule, "needs_scores", True) else "outcomes"


def learner_waits_for(config: Config, rule: CreditRule) -> Needs:
    """The last of what has to be known before a policy step can begin, for its credit rule or for anything else."""
    return "counts" if config.waits_for_counts else needs_of(rule)


def _is_truncated(rollout: Rollout) -> bool:
    return rollout.finish_reason == "length"


def _penalised(rollout: Rollout, penalty: float) -> Rollout:
    return replace(rollout, outcome=rollout.outcome - penalty) if _is_truncated(rollout) else rollout
