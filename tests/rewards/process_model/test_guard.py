"""The guard: areas within groups as a plain double loop has them, and updates that make things worse taken back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from rewards.models.encoding import Encoder
from rewards.process_model.config import MPRMConfig
from rewards.process_model.guard import HeldBack, group_area
from rewards.process_model.labels import hard
from rewards.process_model.mprm import MPRM
from rewards.records import Annotated, Prompt, Rollout, SamplingRequest, StepCounts, StepScores
from rewards.verification.verifiers import exact
from rl.engines.hf_engine import HfEngine
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.rollouts.making import make_rollouts
from rl.tasks.grid import GridTask
from tests.fixtures.builders import a_prompt, a_rollout, some_counts

pytestmark = pytest.mark.slow

STEP = st.tuples(st.integers(0, 2), st.sampled_from([0, 2]), st.sampled_from([0.1, 0.5, 0.5001, 0.9]))
ROLLOUTS = st.lists(st.tuples(st.integers(0, 2), st.lists(STEP, min_size=1, max_size=4)), max_size=8)


def entry(group: int, correct: list[int], sampled: list[int]) -> Annotated:
    rollout = a_rollout([1] * len(correct), group=group)
    return Annotated(a_prompt(), rollout, some_counts(np.minimum(correct, sampled).tolist(), sampled))


@given(ROLLOUTS)
def test_the_area_is_the_share_of_pairs_in_order(drawn: list[tuple[int, list[tuple[int, int, float]]]]) -> None:
    annotated = [entry(group, [k for k, _, _ in steps], [n for _, n, _ in steps]) for group, steps in drawn]
    scores = [StepScores(np.array([s for _, _, s in steps]), 0) for _, steps in drawn]
    ordered, pairs = 0.0, 0
    for group in range(3):
        labelled = [(min(k, n) > 0, s) for g, steps in drawn if g == group for k, n, s in steps if n]
        for right, high in labelled:
            for other, low in labelled:
                if right and not other:
                    pairs += 1
                    ordered += 1.0 if high > low else 0.5 if high == low else 0.0
    found = group_area(annotated, scores)
    assert found.pairs == pairs
    assert found.area == pytest.approx(ordered / pairs, nan_ok=True) if pairs else np.isnan(found.area)


def test_one_group_gives_the_plain_area() -> None:
    rng = np.random.default_rng(0)
    correct, scores = rng.integers(0, 2, 40), rng.random(40)
    found = group_area([entry(0, correct.tolist(), [1] * 40)], [StepScores(scores, 0)])
    assert found.area == pytest.approx(roc_auc_score(correct, scores))


def test_groups_are_held_back_whole_and_in_the_share_asked_for(tmp_path: Path) -> None:
    held = HeldBack(0.2, capacity=10_000, seed=3)
    entries = [entry(group, [1, 0], [1, 1]) for group in range(2000) for _ in range(2)]
    rest = held.split(entries)
    kept_groups = {entries[place].rollout.group for place in rest}
    held_groups = {each.rollout.group for each in held.entries()}
    assert not kept_groups & held_groups and len(rest) + len(held) == len(entries)
    assert len(held_groups) == pytest.approx(400, abs=60)
    held.save(tmp_path / "held.parquet")
    again = HeldBack(0.2, capacity=10_000, seed=3)
    again.load(tmp_path / "held.parquet")
    assert [each.rollout for each in again.entries()] == [each.rollout for each in held.entries()]


def test_the_oldest_go_first_and_no_share_holds_nothing_back() -> None:
    held = HeldBack(0.999, capacity=3, seed=0)
    held.split([entry(group, [1], [1]) for group in range(100)])
    assert [each.rollout.group for each in held.entries()] == sorted(each.rollout.group for each in held.entries())
    assert len(held) == 3 and held.entries()[-1].rollout.group >= 98
    none = HeldBack(0.0, capacity=3, seed=0)
    assert none.split([entry(group, [1], [1]) for group in range(100)]) == list(range(100)) and not len(none)


@pytest.fixture(scope="module")
def lessons() -> list[Annotated]:
    """The shipped policy's own rollouts; steps of odd prompts' second halves are called wrong."""
    task, encoder = GridTask(), Encoder(str(SHIPPED_POLICY))
    prompts = [task.prompt("train", index) for index in range(6)]
    samples = HfEngine(str(SHIPPED_POLICY)).sample([SamplingRequest(prompt, n=4, seed=1) for prompt in prompts])
    rollouts = make_rollouts(prompts, samples, encoder, exact)
    return [labelled(prompts[rollout.group], rollout, flip=False) for rollout in rollouts]


def labelled(prompt: Prompt, rollout: Rollout, flip: bool) -> Annotated:
    late = np.arange(len(rollout.steps)) >= 2
    return Annotated(prompt, rollout, StepCounts((late == flip) * 4, np.full(len(late), 4), 0))


def test_an_update_that_unlearns_is_taken_back_and_a_good_one_stays(lessons: list[Annotated]) -> None:
    lies = [labelled(each.prompt, each.rollout, flip=True) for each in lessons]
    settings = MPRMConfig(learning_rate=3e-3, batch_size=12, head="value", likelihood=False)
    model, plain = (MPRM(str(SHIPPED_POLICY), Encoder(str(SHIPPED_POLICY)), hard, settings) for _ in range(2))
    prompts, rollouts = [each.prompt for each in lessons], [each.rollout for each in lessons]
    for _ in range(6):
        good = model.update(lessons, lessons, margin=0.05)
        plain.train(lessons)
    assert good["rolled_back"] == 0 and good["guard_auc_after"] > 0.9 and model.version == 6

    before = model.score(prompts, rollouts)
    for _ in range(3):
        bad = model.update(lies * 4, lessons, margin=0.05)
        assert bad["rolled_back"] == 1 and bad["guard_auc_after"] < bad["guard_auc_before"] - 0.05
    assert model.version == 6
    for left, right in zip(before, model.score(prompts, rollouts), strict=True):
        assert np.array_equal(left.scores, right.scores) and right.mprm_version == 6

    # The optimizer was taken back, too: what follows is what would have followed.
    assert model.train(lessons) == plain.train(lessons)
    watched = plain.update(lies * 4, lessons, margin=None)
    assert "rolled_back" not in watched and plain.version == 8 and watched["guard_auc_after"] < 0.9


def test_without_pairs_there_is_nothing_to_guard(lessons: list[Annotated]) -> None:
    model = MPRM(
        str(SHIPPED_POLICY),
        Encoder(str(SHIPPED_POLICY)),
        hard,
        MPRMConfig(batch_size=12, likelihood=False, learning_rate=1e-3),
    )
    assert "guard_pairs" not in model.update(lessons, [], margin=0.0) and model.version == 1
