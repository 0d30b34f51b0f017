"""A run whose labels come two policy steps late: none is lost, and an interruption changes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rewards.records import SamplingRequest
from rl.checkpoints.run_folder import open_run_folder
from rl.config import load_config
from rl.instruments.replay.stream import open_stream
from rl.monitoring.console import Console
from rl.train import train
from rl.workers.inline import InlineWorker
from rl.workers.pending import Ready
from tests.fixtures.runs import SMOKE, metrics

pytestmark = pytest.mark.slow
STEPS, DELAY = 5, 2
LATE = [
    *(
        "engine.kind=hf",
        "workers=inline",
        "max_staleness=1",
        f"steps={STEPS}",
        "checkpoint_every=3",
        "evaluation.every=3",
    ),
    *("evaluation.prompts=2", f"annotation.delay={DELAY}", "annotation.budget=first_success"),
    *("selection.selector=bis_visual", "selection.prompts=difficulty"),
]


@dataclass
class Asked:
    """What the engine of a run was asked for.

    Attributes:
        together: Whether each call held both rollouts and continuations.
        versions: Of the weights that were asked for continuations of each prefix, in order.
    """

    together: list[bool] = field(default_factory=list)
    versions: dict[tuple[str, tuple[int, ...]], list[int]] = field(default_factory=dict)

    def rounds(self) -> list[list[int]]:
        """The versions, counted from the first; without prefixes that would have gone on after the end."""
        return [[one - all[0] for one in all] for all in self.versions.values() if all[0] <= STEPS - DELAY]


def trained(run: Path, *settings: str) -> Asked:
    """Train such a run."""
    start, asked = InlineWorker.start_timed, Asked()

    def seen(worker: InlineWorker, method: str, requests: Sequence[SamplingRequest]) -> Ready[Any]:
        asked.together.append({bool(request.prefix) for request in requests} == {False, True})
        answer = start(worker, method, requests)
        for request, samples in zip(requests, answer.result()[1], strict=True):
            if request.prefix:
                known = asked.versions.setdefault((request.prompt.id, request.prefix), [])
                known += [sample.policy_version for sample in samples]
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InlineWorker, "start_timed", seen)
        train(load_config(SMOKE, [*LATE, *settings, f"output_dir={run}"]), run, False, Console())
    return asked


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a run, which two tests look at."""
    run = tmp_path_factory.mktemp("late") / "run"
    trained(run)
    return run


@pytest.mark.parametrize("staleness", [0, 1])
def test_each_round_is_asked_of_newer_weights(staleness: int, tmp_path: Path) -> None:
    settings = "annotation.share_prefixes=true", "selection.prompts=uniform", f"max_staleness={staleness}"
    asked = trained(tmp_path / "run", *settings)
    # One at a time twice, then two, and what is left once they are due.
    expected = [0, 1, *[DELAY] * 6]
    assert max(map(len, asked.rounds())) > 2
    assert [found for found in asked.rounds() if found != expected[: len(found)]] == []
    # In one call, after each step that has a next but one; rollouts that are waited for come alone.
    assert sum(asked.together) == (STEPS - 2 if staleness else 0)


def test_labels_come_late_and_none_is_lost(finished: Path) -> None:
    found, stream = metrics(finished), open_stream(finished)
    summary = json.loads((finished / "summary.json").read_text())
    assert stream.steps == tuple(range(1, STEPS + 1)) and stream.evaluations == (0, 3, 5)
    sampled = {step: 0 for step in stream.steps}
    for step in stream.steps:
        labelled = [rollout for rollout in stream.step(step) if rollout.annotated]
        assert labelled and {rollout.entry.counts.policy_version for rollout in labelled} == {step - 1}
        sampled[step] = sum(len(samples) for rollout in labelled for samples in rollout.continuations)
        assert found[step].get("annotation/age") == (DELAY if step > DELAY else None)
        assert found[step]["annotation/continuations"] == (sampled[step - DELAY] if step > DELAY else 0)
    assert any(found[step]["annotation/newer_weights"] > 0 for step in range(DELAY + 1, STEPS + 1))
    assert summary["annotation"]["continuations"] == sum(sampled.values())
    offered = sum(rollout.annotated for step in stream.steps for rollout in stream.step(step))
    assert found[STEPS]["selection/seen"] < summary["selection"]["seen"] <= offered, "the guard has its share"


def test_an_interruption_with_labels_under_way_changes_nothing(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "summary.json").unlink()
    shutil.rmtree(run / "checkpoints" / f"step-{STEPS}")
    config = open_run_folder(run, [])
    assert len(json.loads((run / "checkpoints" / "step-3" / "progress.json").read_text())["labellings"]) == DELAY
    train(config, run, True, Console())
    assert metrics(run) == metrics(finished)
    for path in (finished / "stream").glob("*.parquet"):
        assert (run / "stream" / path.name).read_bytes() == path.read_bytes(), path.name
    ended, whole = (json.loads((path / "summary.json").read_text()) for path in (run, finished))
    for key in ("policy", "mprm", "annotation", "selection"):
        assert ended[key] == whole[key]
