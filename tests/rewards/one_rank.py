"""Run by `tests/rewards/test_ranks.py`, in one process or in several ranks: trains, scores, saves and goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from rewards.models.encoding import Encoder
from rewards.process_model.labels import hard
from rewards.process_model.mprm import MPRM, MPRMSettings
from rewards.records import Annotated, Prompt, Rollout, StepCounts, StepSpan
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.tasks.grid import GridTask
from rl.tasks.grid_steps import demonstrate
from tests.ranks import learn_all


def lessons(encoder: Encoder, number: int) -> list[Annotated]:
    """Written solutions of different lengths, with made-up labels."""
    task, rng = GridTask(), np.random.default_rng(0)
    made = []
    for index in range(number):
        prompt: Prompt = task.prompt("train", index)
        lines = demonstrate(task.puzzle("train", index)).splitlines()[:-1]
        tokens: list[int] = []
        spans = []
        for line in lines:
            start = len(tokens)
            tokens += encoder.tokens(line + "\n")
            spans.append(StepSpan(start, len(tokens)))
        rollout = Rollout(prompt.id, prompt.source, index // 2, tuple(tokens), (), "", tuple(spans), 1.0, "stop", 0)
        sampled = rng.integers(0, 5, len(spans))
        made.append(
            Annotated(prompt, rollout, StepCounts(np.minimum(rng.integers(0, 5, len(spans)), sampled), sampled, 0))
        )
    return made


def learn(folder: Path, head: str, sharding: str) -> MPRM:
    """``folder`` gets what the first rank saw, and the MPRM that it saved."""
    encoder = Encoder(str(SHIPPED_POLICY))
    annotated = lessons(encoder, 11)
    settings = MPRMSettings(
        head=head,  # type: ignore[arg-type]
        likelihood=True,
        batch_size=11,  # one optimizer step an update: differences in rounding grow from step to step
        micro_batch_tokens=250,
        sharding=sharding,  # type: ignore[arg-type]
    )
    model = MPRM(str(SHIPPED_POLICY), encoder, hard, settings)
    metrics = [model.train(annotated)]
    model.save(folder / "saved")
    metrics += [model.update(annotated, annotated, margin=None), model.update(annotated, annotated, margin=0.0)]
    after = model.score([entry.prompt for entry in annotated], [entry.rollout for entry in annotated])
    model.load(folder / "saved")
    metrics.append(model.train(annotated))
    model.save(folder / "again")
    entropy = model.image_entropy([entry.prompt for entry in annotated[:2]])
    seen = {"metrics": metrics, "scores": [entry.scores.tolist() for entry in after], "entropy": entropy.tolist()}
    (folder / f"rank-{model.rank}.json").write_text(json.dumps(seen))
    return model


if __name__ == "__main__":
    learn_all(learn)
