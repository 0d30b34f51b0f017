"""What each annotation budget costs, and what its labels are worth: one table, on rollouts of the shipped policy.

    python benchmarks/annotation.py                                   # 60 prompts, 8 rollouts each
    python benchmarks/annotation.py --prompts 8 --reference 16        # a quick look
    python benchmarks/annotation.py --mprm RUN/checkpoints/step-40/mprm   # also triage by a trained MPRM's scores

Every budget really runs, on the same rollouts, with seeds of its own. The prompts are none of those that the constants
of `rewards.annotation.predicted_bis` were chosen on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from rewards.annotation.annotator import Annotation, LabelCost
from rewards.annotation.budgets import Budget, fixed, make_budget
from rewards.annotation.predicted_bis import predicted_balanced_information
from rewards.models.encoding import Encoder
from rewards.records import Prompt, Rollout, StepCounts, StepScores
from rewards.seeds import derive_seed
from rl.config import Config, load_config
from rl.engines.engine import Engine
from rl.engines.making import build_engine
from rl.files.named_checkpoint import make_encoder
from rl.reward_models.mprm import build_mprm
from rl.rollouts.making import make_rollouts, rollout_requests
from rl.tasks.making import make_task, make_verifier
from selection.bis import balanced_information, step_statistics
from selection.candidates import Candidates

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
FIRST_PROMPT = 10_000
CONTINUATIONS = 16
ALPHAS = {0.1: 0.2, 0.25: 0.05}  # the paper's, for the ratios that are kept
COLUMNS = f"""\
- tokens: of continuations, as a share of those of `fixed` {CONTINUATIONS}.
- label F1: hard labels against the reference's; the mean of the F1 of positive and of negative steps, over the steps
  that were labelled. Their share of all steps is the next column.
- error of R: mean absolute difference to the reference's R, over labelled rollouts. Where sampling stops early K/N is
  biased, so there it is the posterior mean, with the group's share of right answers as a prior worth one sample.
- kept at 10 % and 25 %: of the rollouts that the reference keeps of each source by BIS, the share that is kept here;
  and the same for those that another `fixed` {CONTINUATIONS} keeps. In expectation, as ties are broken at random."""
HEADER = (
    "| budget | tokens | label F1 | labelled | error of R | kept at 10 % | kept at 25 % | rounds | seconds |",
    "|---|---|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Case:
    """One row: a budget by its name in the table, and whether it gets the MPRM's scores."""

    title: str
    budget: Budget
    uses_scores: bool = False

    @property
    def stops_early(self) -> bool:
        """Whether a step's number of samples depends on how they came out."""
        return self.budget.policy.func is not fixed


@dataclass(frozen=True)
class Labelled:
    """What one budget found: counts of all steps end to end (S,), and which rollouts it labelled (B,)."""

    correct: np.ndarray
    sampled: np.ndarray
    chosen: np.ndarray
    cost: LabelCost


@dataclass(frozen=True)
class Batch:
    """The rollouts that every budget labels."""

    prompts: list[Prompt]
    rollouts: list[Rollout]
    scores: list[StepScores] | None

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(rollout.steps) for rollout in self.rollouts])

    @property
    def source(self) -> np.ndarray:
        return np.array([rollout.source for rollout in self.rollouts])

    def per_rollout(self, values: np.ndarray) -> np.ndarray:
        """The sum of a value of every step, rollout by rollout: (S,) to (B,)."""
        rollout = np.repeat(np.arange(len(self.lengths)), self.lengths)
        return np.bincount(rollout, weights=values, minlength=len(self.lengths))

    def group_rate(self) -> np.ndarray:
        """The share of right answers in the group of each step's rollout (S,), with one of each kind added."""
        group = np.array([rollout.group for rollout in self.rollouts])
        right = np.bincount(group, weights=[rollout.outcome for rollout in self.rollouts])
        return np.repeat(((right + 1) / (np.bincount(group) + 2))[group], self.lengths)


def main() -> None:
    """Sample, label with every budget, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=60, help="prompts of the training split")
    parser.add_argument("--samples", type=int, default=8, help="rollouts of each")
    parser.add_argument("--reference", type=int, default=64, help="continuations a step of the reference")
    parser.add_argument("--mprm", type=Path, help="the mprm folder of a checkpoint")
    parser.add_argument("--out", type=Path, help="write the table there as well")
    arguments = parser.parse_args()
    config = load_config(CONFIG)
    engine, encoder = build_engine(config), make_encoder(config)
    batch = sample_batch(config, engine, encoder, arguments.prompts, arguments.samples, arguments.mprm)

    annotate = partial(annotated, engine, encoder, config, batch)
    reference = annotate(Case("reference", make_budget("fixed", arguments.reference)), "reference")
    another = annotate(Case("another", make_budget("fixed", CONTINUATIONS)), "another")
    lines = [conditions(batch, reference), "", *HEADER]
    print("\n".join(lines), flush=True)
    for case in cases(arguments.mprm is not None):
        lines.append(row(batch, reference, another, case, annotate(case, case.title)))
        print(lines[-1], flush=True)
    if arguments.out is not None:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def cases(with_mprm: bool) -> list[Case]:
    """All rows."""
    make: Callable[..., Budget] = partial(make_budget, continuations=CONTINUATIONS)
    free: dict[str, Any] = {"outcome_weight": 1.0, "share_prefixes": True}
    found = [Case(f"`fixed` {n}", make_budget("fixed", n)) for n in (16, 8, 4)]
    found += [Case("`fixed` 16, shared prefixes", make("fixed", share_prefixes=True))]
    for name, settings in {
        "": {},
        ", own outcome": {"outcome_weight": 1.0},
        ", shared prefixes": {"share_prefixes": True},
        ", own outcome, shared prefixes": free,
        ", stop at first error": {"first_error": "stop"},
        ", binary search": {"first_error": "search"},
        ", binary search, own outcome, shared prefixes": {"first_error": "search", **free},
    }.items():
        found += [Case(f"`first_success`{name}", make("first_success", **settings))]
    sure = {"error": 0.05, "threshold": 0.05, "prior": (0.5, 2.5)}
    for name, settings in {
        "": {},
        ", error 0.05, threshold 0.05, prior (0.5, 2.5)": sure,
        ", own outcome, shared prefixes": free,
    }.items():
        found += [Case(f"`sequential`{name}", make("sequential", **settings))]
    for ratio, alpha in ALPHAS.items():
        rank = partial(predicted_balanced_information, continuations=CONTINUATIONS, alpha=alpha)
        triage = partial(make, "triage", triage_ratio=ratio, rank=rank)
        for sharing, probes in ((False, (0, 1, 2)), (True, (0, 1, 2, 4, 8))):
            for probe, scored in [*((n, False) for n in probes), *((n, True) for n in (0, 1) if with_mprm)]:
                name = (
                    f"`triage` {100 * ratio:.0f} %, probe {probe}" + ", MPRM" * scored + ", shared prefixes" * sharing
                )
                found += [Case(name, triage(probe=probe, share_prefixes=sharing), scored)]
    return found


def sample_batch(
    config: Config, engine: Engine, encoder: Encoder, prompts: int, samples: int, mprm: Path | None
) -> Batch:
    """Fresh rollouts; those without a step are left out."""
    task, verifier = make_task(config), make_verifier(config)
    asked = [task.prompt("train", FIRST_PROMPT + i) for i in range(prompts)]
    answers = engine.sample(rollout_requests(asked, samples, config.seed, "benchmark"))
    rollouts = [rollout for rollout in make_rollouts(asked, answers, encoder, verifier) if rollout.steps]
    owners = [asked[rollout.group] for rollout in rollouts]
    scores = None
    if mprm is not None:
        model = build_mprm(config)
        model.load(mprm)
        scores = model.score(owners, rollouts)
    return Batch(owners, rollouts, scores)


def annotated(engine: Engine, encoder: Encoder, config: Config, batch: Batch, case: Case, seed: str) -> Labelled:
    """Label the batch for real."""
    annotation = Annotation(
        batch.rollouts,
        batch.prompts,
        case.budget,
        encoder.decode,
        make_verifier(config),
        derive_seed("annotation benchmark", seed),
        batch.scores if case.uses_scores else None,
    )
    started = time.perf_counter()
    while requests := annotation.requests():
        annotation.receive(engine.sample(requests))
    cost = annotation.cost(time.perf_counter() - started)
    counts: list[StepCounts] = annotation.counts()
    correct, sampled = (np.concatenate([getattr(c, name) for c in counts]) for name in ("correct", "sampled"))
    return Labelled(correct, sampled, annotation.chosen, cost)


def conditions(batch: Batch, reference: Labelled) -> str:
    """What was measured, and what the columns mean."""
    prompts = len({prompt.id for prompt in batch.prompts})
    right = np.mean([rollout.outcome for rollout in batch.rollouts])
    steps, each = len(reference.correct), reference.cost.continuations // len(reference.correct)
    positive = np.mean(reference.correct > 0)
    return (
        f"{len(batch.rollouts)} rollouts ({100 * right:.0f} % right) of {prompts} prompts, {steps} steps, "
        f"{100 * positive:.0f} % of them positive in a reference of {each} continuations a step.\n\n{COLUMNS}"
    )


def row(batch: Batch, reference: Labelled, another: Labelled, case: Case, labelled: Labelled) -> str:
    """One line of the table."""
    known = labelled.sampled > 0
    truth = reference.correct[known] > 0
    f1 = 100 * f1_score(truth, labelled.correct[known] > 0, average="macro")
    found, true = reliability(batch, labelled, case.stops_early), reliability(batch, reference, False)
    error = np.abs(found - true)[labelled.chosen].mean()
    cells = [kept_cell(batch, reference, another, case, labelled, ratio) for ratio in ALPHAS]
    full_price = reference.cost.tokens * CONTINUATIONS * len(known) / reference.cost.continuations
    return (
        f"| {case.title} | {100 * labelled.cost.tokens / full_price:.1f} % | {f1:.1f} | {100 * known.mean():.0f} % "
        f"| {error:.3f} | {cells[0]} | {cells[1]} | {labelled.cost.rounds} | {labelled.cost.seconds:.0f} |"
    )


def kept_cell(
    batch: Batch, reference: Labelled, another: Labelled, case: Case, labelled: Labelled, ratio: float
) -> str:
    """How much of what the reference and another ``fixed`` keep is kept."""
    if case.budget.triage is None:
        kept = kept_chance(batch, labelled, ratio, posterior=case.stops_early)
    elif case.budget.triage.ratio == ratio:
        kept = labelled.chosen.astype(float)
    else:
        return ""
    wanted = [kept_chance(batch, other, ratio, posterior=False) for other in (reference, another)]
    return " / ".join(f"{(kept * other).sum() / other.sum():.2f}" for other in wanted)


def kept_chance(batch: Batch, labelled: Labelled, ratio: float, posterior: bool) -> np.ndarray:
    """The probability that each rollout is kept (B,): the top ``ratio`` of its source, equal scores drawn at random."""
    statistics = step_statistics(Candidates(batch.lengths, labelled.correct, labelled.sampled))
    scores = balanced_information(
        replace(statistics, reliability=reliability(batch, labelled, posterior)), ALPHAS[ratio]
    )
    chance = np.zeros(len(scores))
    for source in np.unique(batch.source):
        places = np.flatnonzero((batch.source == source) & ~np.isnan(scores))
        most = max(1, int(len(places) * ratio))
        threshold = np.sort(scores[places])[-most]
        above, equal = places[scores[places] > threshold], places[scores[places] == threshold]
        chance[above] = 1
        chance[equal] = (most - len(above)) / len(equal)
    return chance


def reliability(batch: Batch, labelled: Labelled, posterior: bool) -> np.ndarray:
    """R of each rollout (B,); 1 without a positive step, as published."""
    prior = 1.0 if posterior else 0.0
    positive = labelled.correct > 0
    score = (labelled.correct + prior * batch.group_rate()) / np.where(positive, labelled.sampled + prior, 1)
    count = batch.per_rollout(positive)
    return np.where(count > 0, batch.per_rollout(np.where(positive, score, 0)) / np.maximum(count, 1), 1)


if __name__ == "__main__":
    main()
