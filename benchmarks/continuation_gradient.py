"""How much of the policy's gradient is in the continuations of its rollouts, and how much noise.

    python benchmarks/continuation_gradient.py configs/quickstart.yaml      # a quarter of an hour of one core
    python benchmarks/continuation_gradient.py configs/beliefs.yaml

Independent batches of rollouts of the start policy, each with the continuations that label a share of them, and the
gradients g of the one and c of the other, by outcomes alone and at the same weights. With G the mean of g, what is
learned from is the better, the larger the part of its length that points along G:

    efficiency of x = E[x] . G / sqrt(E[|x|^2] |G|^2)

1 is a gradient without noise. G is known from batches alone, too: products of two batches have the right mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from rewards.records import Experience
from rewards.seeds import derive_seed
from rl.annotating.corpus import Annotator
from rl.annotating.labelling import make_configured_budget
from rl.config import Config, load_config
from rl.engines.making import LocalEngine
from rl.files.named_checkpoint import make_encoder, policy_checkpoint
from rl.learning.learner import PolicyLearner
from rl.reward_models.credit import make_credit
from rl.tasks.making import make_task, make_verifier

SETTINGS = (
    *("workers=inline", "engine.kind=hf", "annotation.delay=0"),
    *("learner.credit=outcome", "learner.continuation_weight=1"),
)
WEIGHTS = 0.1, 0.25, 0.5, 1.0
"""Of a continuation's tokens beside a rollout's."""


class Gradient(PolicyLearner):
    """A learner that stays where it is, and knows which way it would have gone."""

    found: torch.Tensor

    def of(self, experiences: Sequence[Experience]) -> torch.Tensor:
        """The sum over all tokens of advantage times gradient of the log-probability, in one vector."""
        self.step(experiences)
        return self.found * sum(len(experience.token_ids) for experience in experiences)

    def _move(self, loss: float) -> dict[str, float]:
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in self._learning.values()]
        self.found = torch.cat([gradient.flatten() for gradient in gradients])
        self._optimizer.zero_grad()
        return {"loss": loss}


@dataclass(frozen=True)
class Products:
    """Inner products of the gradients of B batches, all (B, B).

    Attributes:
        rollouts: g_i . g_j.
        mixed: c_i . g_j.
        continuations: c_i . c_j.
    """

    rollouts: np.ndarray
    mixed: np.ndarray
    continuations: np.ndarray

    def efficiency(self, of_rollouts: float, of_continuations: float, batches: float = 1.0) -> float:
        """Of what is learned from if the gradients of rollouts and continuations count so much, in the mean of so many
        batches."""
        along = of_rollouts * between(self.rollouts) + of_continuations * between(self.mixed)
        parts = (of_rollouts**2, self.rollouts), (2 * of_rollouts * of_continuations, self.mixed)
        parts += ((of_continuations**2, self.continuations),)
        within = sum(weight * np.trace(product) / len(product) for weight, product in parts)
        across = sum(weight * between(product) for weight, product in parts)
        square = across + (within - across) / batches
        return float(along / np.sqrt(square * between(self.rollouts)))

    def without(self, batch: int) -> Products:
        """All batches but one."""
        others = np.delete(np.arange(len(self.rollouts)), batch)
        return Products(*(matrix[np.ix_(others, others)] for matrix in vars(self).values()))


def main() -> None:
    """Sample, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="the experiment")
    parser.add_argument("--batches", type=int, default=64)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further settings")
    arguments = parser.parse_args()
    config = load_config(arguments.config, [*SETTINGS, *arguments.set])
    torch.set_num_threads(1)
    gradients, tokens = list[tuple[torch.Tensor, torch.Tensor]](), np.zeros(2)
    for rolled, continued, sampled in batches(config, arguments.batches):
        gradients.append((rolled, continued))
        tokens += sampled
        print(f"\rbatches {len(gradients)}/{arguments.batches}", end="", flush=True)
    rolled, continued = (torch.stack(column) for column in zip(*gradients, strict=True))
    pairs = (rolled, rolled), (continued, rolled), (continued, continued)
    print_table(Products(*((one @ other.T).double().numpy() for one, other in pairs)), tokens / len(gradients))


def batches(config: Config, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, np.ndarray]]:
    """Of each batch the gradients of rollouts and continuations, and the tokens (2,) that were sampled of both."""
    encoder = make_encoder(config)
    task, verifier = make_task(config, encoder), make_verifier(config)
    learner = Gradient(policy_checkpoint(config), encoder, config)
    credit = make_credit(config, encoder.separators, encoder.placeholders)
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
        experiences = credit.experiences(asked, rollouts), credit.continued(asked, rollouts, entries)
        sampled = sum(len(rollout.token_ids) for rollout in rollouts), annotation.cost().tokens
        yield *map(learner.of, experiences), np.array(sampled)


def between(products: np.ndarray) -> float:
    """The mean product of two batches."""
    number = len(products)
    return float((products.sum() - np.trace(products)) / (number * (number - 1)))


def with_error(products: Products, measure: Callable[[Products], float]) -> str:
    """A measure, and its standard error by leaving out one batch after another (jackknife)."""
    left_out = np.array([measure(products.without(batch)) for batch in range(len(products.rollouts))])
    error = np.sqrt((len(left_out) - 1) * left_out.var())
    return f"{measure(products):.3f} ± {error:.3f}"


def print_table(products: Products, tokens: np.ndarray) -> None:
    """The efficiency of what one might learn from, and what it costs."""
    rolled, continued = tokens
    more = (rolled + continued) / rolled
    print(f"\n\n{len(products.rollouts)} batches, standard errors by jackknife\n")
    print("| learned from | tokens of a batch | efficiency |\n|---|---|---|")
    rows = [("rollouts", rolled, 1.0, 0.0, 1.0), ("continuations alone", rolled + continued, 0.0, 1.0, 1.0)]
    rows += [(f"both, continuations at {weight:g}", rolled + continued, 1.0, weight, 1.0) for weight in WEIGHTS]
    rows.append((f"{more:.1f} times the rollouts", rolled + continued, 1.0, 0.0, more))
    for name, spent, *settings in rows:
        found = with_error(products, lambda some, settings=tuple(settings): some.efficiency(*settings))  # type: ignore[misc]
        print(f"| {name} | {spent:,.0f} | {found} |")
    length = with_error(products, lambda some: float(np.trace(some.continuations) / np.trace(some.rollouts)))
    signal = with_error(products, lambda some: between(some.mixed) / between(some.rollouts))
    print(f"\nof the rollouts' gradient the continuations have {signal} along it, and {length} of its squared length")


if __name__ == "__main__":
    main()
