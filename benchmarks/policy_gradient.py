"""What each way of learning has of the policy's gradient, and how much noise: without a training run.

    python benchmarks/policy_gradient.py configs/quickstart.yaml       # a quarter of an hour of one core
    python benchmarks/policy_gradient.py configs/beliefs.yaml --set mprm.checkpoint=runs/warm/checkpoints/step-1/mprm

Independent batches of rollouts of the start policy, each with the continuations that label a share of them. Of each
batch the gradients, all at the same weights, by outcomes alone (g), of the continuations, and by the configured credit
rule with step scores of the configured MPRM, if it is a checkpoint, and of one that knew the truth. With G the mean of
g, what is learned from is the better, the larger the part of its length that points along G:

    efficiency of x = E[x] . G / sqrt(E[|x|^2] |G|^2)

1 is a gradient without noise. Products of different batches have the right mean, and so G need not be known. An
efficiency is *worth* so many times the rollouts, learned from by outcomes alone, as have it in their mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from rewards.credit.outcome import outcome
from rewards.records import Experience, StepScores
from rewards.seeds import derive_seed
from rl.annotating.corpus import Annotator
from rl.annotating.labelling import make_configured_budget
from rl.config import Config, load_config
from rl.engines.making import LocalEngine
from rl.files.named_checkpoint import make_encoder, policy_checkpoint
from rl.learning.learner import PolicyLearner
from rl.reward_models.credit import make_credit
from rl.reward_models.mprm import build_mprm
from rl.tasks.making import make_task, make_verifier
from rl.tasks.task import KnowsSteps, truths_of

SETTINGS = "workers=inline", "engine.kind=hf", "annotation.delay=0", "learner.continuation_weight=1"
WEIGHTS = 0.1, 0.25, 0.5, 1.0
"""Of a continuation's tokens beside a rollout's."""
OUTCOMES, CONTINUATIONS, MPRM, TRUTH = "outcomes", "continuations", "step scores of the MPRM", "true step scores"
Gradients = dict[str, torch.Tensor]
Mix = Mapping[str, float]
"""What each way counts in what is learned from."""


class Gradient(PolicyLearner):
    """A learner that stays where it is, and knows which way it would have gone."""

    found: torch.Tensor

    def of(self, experiences: Sequence[Experience]) -> torch.Tensor:
        """The sum over all tokens of advantage times gradient of the log-probability, in one vector."""
        self.step(experiences)
        return self.found * sum(len(experience.token_ids) for experience in experiences)

    def _move(self, loss: float) -> dict[str, float]:
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in self._learning.values()]
        self.found = -torch.cat([gradient.flatten() for gradient in gradients])
        self._optimizer.zero_grad()
        return {"loss": loss}


@dataclass(frozen=True)
class Products:
    """Inner products of the gradients of B batches, of each two ways (B, B)."""

    of: Mapping[tuple[str, str], np.ndarray]

    def square(self, mix: Mix, batches: float = 1.0) -> float:
        """The squared length of the mean of so many batches, on average."""
        total = sum(one * other * self.of[a, b] for a, one in mix.items() for b, other in mix.items())
        across = between(total)
        return across + (float(np.trace(total)) / len(total) - across) / batches

    def efficiency(self, mix: Mix, batches: float = 1.0) -> float:
        """See above."""
        along = sum(weight * between(self.of[way, OUTCOMES]) for way, weight in mix.items())
        return float(along / np.sqrt(self.square(mix, batches) * between(self.of[OUTCOMES, OUTCOMES])))

    def worth(self, mix: Mix) -> float:
        """How many batches of rollouts, learned from by outcomes alone, are as efficient."""
        noise = self.square({OUTCOMES: 1}) / between(self.of[OUTCOMES, OUTCOMES]) - 1
        return noise / (self.efficiency(mix) ** -2 - 1)

    def without(self, batch: int) -> Products:
        """All batches but one."""
        return Products({ways: np.delete(np.delete(found, batch, 0), batch, 1) for ways, found in self.of.items()})


def main() -> None:
    """Sample, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="the experiment")
    parser.add_argument("--batches", type=int, default=64)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further settings")
    arguments = parser.parse_args()
    config = load_config(arguments.config, [*SETTINGS, *arguments.set])
    torch.set_num_threads(1)
    found, tokens = list[Gradients](), np.zeros(2)
    for gradients, sampled in batches(config, arguments.batches):
        found.append(gradients)
        tokens += sampled
        print(f"\rbatches {len(found)}/{arguments.batches}", end="", flush=True)
    ways = {way: torch.stack([gradients[way] for gradients in found]) for way in found[0]}
    products = {(a, b): (one @ other.T).double().numpy() for a, one in ways.items() for b, other in ways.items()}
    print_table(Products(products), tokens / len(found))


def batches(config: Config, number: int) -> Iterator[tuple[Gradients, np.ndarray]]:
    """Of each batch the gradients, and the tokens (2,) that were sampled for rollouts and for continuations."""
    encoder = make_encoder(config)
    task, verifier = make_task(config, encoder), make_verifier(config)
    learner = Gradient(policy_checkpoint(config), encoder, config)
    mprm = build_mprm(config) if config.mprm.checkpoint else None
    by_steps = make_credit(config, encoder.separators, encoder.placeholders)
    by_outcomes = replace(by_steps, rule=outcome)
    annotator = Annotator(config, LocalEngine(config), encoder, verifier, make_configured_budget(config))
    size = config.learner.prompts
    for first in range(0, number * size, size):
        prompts = [task.prompt("train", index) for index in range(first, first + size)]
        rollouts = annotator.rollouts(prompts, first)
        asked = [prompts[rollout.group - first] for rollout in rollouts]
        generator = np.random.default_rng(derive_seed(config.seed, "chosen", first))
        wanted = round(len(rollouts) * config.annotation.share)
        chosen = np.sort(generator.permutation(len(rollouts))[:wanted]).tolist()
        annotation = annotator.label([rollouts[place] for place in chosen], [asked[place] for place in chosen])
        entries = [replace(entry, rollout=chosen[entry.rollout]) for entry in annotation.continued()]
        learned_from = {
            OUTCOMES: by_outcomes.experiences(asked, rollouts),
            CONTINUATIONS: by_outcomes.continued(asked, rollouts, entries),
        }
        if mprm is not None:
            learned_from[MPRM] = by_steps.experiences(asked, rollouts, mprm.score(asked, rollouts))
        if isinstance(task, KnowsSteps):
            truths = [truths_of(task, *pair, encoder.decode) for pair in zip(asked, rollouts, strict=True)]
            scores = [StepScores(np.array([truth.so_far for truth in steps], dtype=float), 0) for steps in truths]
            learned_from[TRUTH] = by_steps.experiences(asked, rollouts, scores)
        sampled = sum(len(rollout.token_ids) for rollout in rollouts), annotation.cost().tokens
        yield {way: learner.of(experiences) for way, experiences in learned_from.items()}, np.array(sampled)


def between(products: np.ndarray) -> float:
    """The mean product of two batches."""
    number = len(products)
    return float((products.sum() - np.trace(products)) / (number * (number - 1)))


def with_error(products: Products, measure: Callable[[Products], float], digits: int) -> str:
    """A measure, and its standard error by leaving out one batch after another (jackknife)."""
    left_out = np.array([measure(products.without(batch)) for batch in range(len(products.of[OUTCOMES, OUTCOMES]))])
    error = np.sqrt((len(left_out) - 1) * left_out.var())
    return f"{measure(products):.{digits}f} ± {error:.{digits}f}"


def print_table(products: Products, tokens: np.ndarray) -> None:
    """The efficiency of what one might learn from, and what it costs."""
    rolled, continued = tokens
    more = (rolled + continued) / rolled
    mixes: list[tuple[str, Mix]] = [("outcomes", {OUTCOMES: 1})]
    mixes += [(f"outcomes, continuations at {weight:g}", {OUTCOMES: 1, CONTINUATIONS: weight}) for weight in WEIGHTS]
    mixes += [(way, {way: 1}) for way in (CONTINUATIONS, MPRM, TRUTH) if (way, way) in products.of]
    number = len(products.of[OUTCOMES, OUTCOMES])
    print(f"\n\n{number} batches, {rolled:,.0f} tokens of rollouts and {continued:,.0f} of continuations each;")
    print("standard errors by jackknife\n")
    print("| learned from | efficiency | worth |\n|---|---|---|")
    for name, mix in mixes:
        efficiency = with_error(products, partial(Products.efficiency, mix=mix), 3)
        worth = with_error(products, partial(Products.worth, mix=mix), 2)
        print(f"| {name} | {efficiency} | {worth} |")
    efficiency = with_error(products, partial(Products.efficiency, mix={OUTCOMES: 1}, batches=more), 3)
    print(f"| outcomes, {more:.1f} times the rollouts | {efficiency} | {more:.2f} |")


if __name__ == "__main__":
    main()
