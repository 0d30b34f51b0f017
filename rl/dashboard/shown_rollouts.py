"""Which of a policy step's rollouts are shown, and what is known of their steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rewards.process_model.labels import hard
from rewards.records import Prompt, Rollout, StepScores
from rl.dashboard.rollout_picture import ShownRollout
from rl.recording import Offer
from selection.rows import identity

SHOWN = 4


def choose_shown(
    prompts: Sequence[Prompt],
    rollouts: Sequence[Rollout],
    scores: Sequence[StepScores],
    offer: Offer,
    decode: Callable[[Sequence[int]], str],
) -> list[ShownRollout]:
    """The first rollouts of different groups, labelled ones before others.

    Args:
        prompts, rollouts, scores: All of the step's rollouts, the prompt of each, and the MPRM's scores of each.
        offer: Which of them were labelled, and kept.
        decode: From completion tokens to text.
    """
    annotated = dict(zip(offer.places, offer.annotated, strict=True))
    kept = {identity(entry) for entry in offer.kept}
    labelled_first = sorted(range(len(rollouts)), key=lambda place: place not in annotated)
    firsts = {rollouts[place].group: place for place in reversed(labelled_first)}
    shown = [place for place in labelled_first if firsts[rollouts[place].group] == place][:SHOWN]
    return [
        ShownRollout(
            prompt=prompts[place],
            rollout=rollouts[place],
            steps=[decode(rollouts[place].token_ids[span.start : span.end]).strip() for span in rollouts[place].steps],
            scores=scores[place].scores,
            counts=annotated[place].counts if place in annotated else None,
            kept=place in annotated and identity(annotated[place]) in kept,
        )
        for place in shown
    ]


def monte_carlo_labels(scores: Sequence[StepScores], offer: Offer) -> tuple[np.ndarray, np.ndarray]:
    """The MPRM's scores of the S labelled steps of a policy step, (S,), and which of them have a negative label, (S,);
    none without an MPRM."""
    scored = np.concatenate([np.zeros(0), *(scores[place].scores for place in offer.places)])
    labels = np.concatenate([np.zeros(0), *(hard(entry.counts) for entry in offer.annotated)])
    if not len(scored):
        return scored, np.zeros(0, dtype=bool)
    labelled = ~np.isnan(labels)
    return scored[labelled], labels[labelled] == 0
