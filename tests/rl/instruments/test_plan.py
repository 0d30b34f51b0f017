"""The simulated pipeline against closed forms, and the command that shows it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewards.credit.batch import ScoredBatch
from rl.config import Config
from rl.errors import ConfigError
from rl.instruments.planning.best_split import best_split, plan_of
from rl.instruments.planning.engine_work import EngineWork
from rl.instruments.planning.simulation import Forecast, Servers, Simulation
from rl.instruments.planning.stage_seconds import (
    Split,
    StageSeconds,
    scaled_learner,
    scaled_sync,
)

ONE = Split(1, 1, 1)
QUICKSTART = Path(__file__).parents[3] / "configs" / "quickstart.yaml"


def a_config(staleness: int = 0, **sections: Any) -> Config:
    return Config.model_validate({"max_staleness": staleness, "mprm": {"every": 1}} | sections)


def forecast(config: Config, seconds: StageSeconds, split: Split = ONE) -> Forecast:
    return Simulation(config, seconds, ONE, split).run()


# Lengths are drawn: what the engines take in twelve steps is near what was said, not equal to it.
CLOSE = 0.04


def test_without_staleness_a_step_is_the_sum_of_its_stages() -> None:
    seconds = StageSeconds(rollout=4, annotate=0, score=1, learn=3, teach=0, sync=0.5, other=0.25)
    found = forecast(a_config(), seconds)
    assert found.step_seconds == pytest.approx(4 + 1 + 3 + 0.5 + 0.25, rel=CLOSE)
    assert found.staleness == 0


@pytest.mark.parametrize(("annotate", "learn"), [(2.0, 5.0), (5.0, 2.0)])
def test_annotation_and_learning_hide_each_other(annotate: float, learn: float) -> None:
    found = forecast(a_config(), StageSeconds(rollout=4, annotate=annotate, score=1, learn=learn))
    assert found.step_seconds == pytest.approx(4 + 1 + max(annotate, learn), rel=CLOSE)


@pytest.mark.parametrize(("rollout", "learn"), [(6.0, 3.0), (3.0, 6.0)])
def test_with_staleness_the_slower_of_two_stages_is_the_step(rollout: float, learn: float) -> None:
    found = forecast(a_config(1), StageSeconds(rollout=rollout, learn=learn))
    assert found.step_seconds == pytest.approx(max(rollout, learn), rel=CLOSE)
    assert found.staleness == 1
    assert min(found.engines_idle, found.learner_idle) == pytest.approx(0, abs=0.05)
    assert max(found.engines_idle, found.learner_idle) == pytest.approx(0.5, abs=0.05)


def by_scores(batch: ScoredBatch) -> list[np.ndarray]:
    """A rule of the user's, which waits for step scores."""
    return [np.zeros(len(rollout.token_ids)) for rollout in batch.rollouts]


def by_counts(batch: ScoredBatch) -> list[np.ndarray]:
    """Another, which waits for labels."""
    return by_scores(batch)


def by_outcomes(batch: ScoredBatch) -> list[np.ndarray]:
    """A third one, which waits for neither."""
    return by_scores(batch)


by_counts.needs_counts = True  # type: ignore[attr-defined]
by_outcomes.needs_scores = False  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("learner", "step"),
    [
        ({"credit": "progress"}, 1 + 10 + 10),
        ({"credit": "outcome"}, 1 + 10),
        ({"credit": "outcome", "algorithm": "ppo"}, 1 + 10),
        ({"credit": "monte_carlo"}, 1 + 10 + 5 + 10),
        ({"credit": "outcome", "reuse_continuations": True}, 1 + 10 + 5 + 10),
        ({"credit": f"{__name__}:by_scores"}, 1 + 10 + 10),
        ({"credit": f"{__name__}:by_outcomes"}, 1 + 10 + 5),
        ({"credit": f"{__name__}:by_counts"}, 1 + 10 + 5 + 10),
    ],
)
def test_the_learner_waits_for_what_its_credit_rule_needs_and_no_longer(learner: dict[str, str], step: float) -> None:
    annotate = 5.0 if step in (16, 26) else 0.0
    found = forecast(a_config(learner=learner), StageSeconds(rollout=1, score=10, learn=10, annotate=annotate))
    assert found.step_seconds == pytest.approx(step, rel=CLOSE)


def test_an_outcome_model_is_waited_for() -> None:
    config = a_config(learner={"credit": "outcome"}, outcome_model={"reward": "model", "harvest": True})
    assert forecast(config, StageSeconds(rollout=1, score=10, learn=10)).step_seconds == pytest.approx(21, rel=CLOSE)


def test_a_rule_that_is_not_there_is_said_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"learner\.credit: 'nowhere:rule' cannot be imported"):
        forecast(a_config(learner={"credit": "nowhere:rule"}), StageSeconds(rollout=1, learn=1))


def test_an_update_of_the_mprm_is_waited_for_every_few_steps() -> None:
    seconds = StageSeconds(rollout=2, learn=1, teach=4)
    every = [forecast(a_config(mprm={"every": n}), seconds).step_seconds for n in (1, 2, 4)]
    # It begins with the learner's step, and outlasts it by 3 s.
    assert np.diff(every) == pytest.approx([-1.5, -0.75], abs=0.1)


def test_later_rounds_of_continuations_wait_behind_the_next_rollouts() -> None:
    seconds = StageSeconds(rollout=4, annotate=2, rounds=2)
    # Round one, the next rollouts, round two: nothing is ever free, and nothing waits for more.
    assert forecast(a_config(1), seconds).step_seconds == pytest.approx(6, rel=CLOSE)
    assert forecast(a_config(1), seconds).engines_idle == pytest.approx(0, abs=1e-9)


def test_the_next_rollouts_do_not_wait_for_continuations_that_may_come_late() -> None:
    seconds = StageSeconds(rollout=4, annotate=2, score=3, learn=3)
    assert forecast(a_config(1), seconds).step_seconds == pytest.approx(3 + 2 + 4, rel=CLOSE)
    late = [forecast(a_config(1, annotation={"delay": delay}), seconds).step_seconds for delay in (1, 2)]
    assert late == pytest.approx([2 + 4] * 2, rel=CLOSE), "nobody waits but for the engines"
    in_rounds = StageSeconds(rollout=4, annotate=2, score=3, learn=5, rounds=2)
    late = [forecast(a_config(1, annotation={"delay": delay}), in_rounds).step_seconds for delay in (0, 1, 2)]
    assert late == pytest.approx([3 + 1 + 4 + 1, 3 + 5, 3 + 5], rel=CLOSE), "nobody waits but for the learner"


def test_sleeping_engines_and_the_learner_take_turns() -> None:
    seconds = StageSeconds(rollout=4, annotate=2, learn=3)
    asleep = forecast(a_config(engine={"sleep": True, "num_gpus": 0.5}), seconds)
    assert asleep.step_seconds == pytest.approx(4 + 2 + 3, rel=CLOSE)


def test_work_is_conserved_whatever_the_overlap() -> None:
    seconds = StageSeconds(rollout=5, annotate=2, score=1, learn=3, teach=2, sync=0.1)
    for staleness in (0, 1, 2):
        found = forecast(a_config(staleness), seconds)
        worked = np.array([1 - found.engines_idle, 1 - found.learner_idle, 1 - found.mprm_idle]) * found.step_seconds
        assert worked == pytest.approx([5 + 2 + 0.1, 3, 1 + 2], rel=2 * CLOSE)


def test_more_staleness_and_more_engines_are_never_slower() -> None:
    seconds = StageSeconds(rollout=8, annotate=4, score=1, learn=5, teach=3, rounds=3, tokens=40)
    by_staleness = [forecast(a_config(staleness), seconds).step_seconds for staleness in (0, 1, 2, 4)]
    assert all(later <= earlier * 1.01 for earlier, later in itertools.pairwise(by_staleness))
    by_engines = [forecast(a_config(), seconds, Split(n, 1, 1)).step_seconds for n in (1, 2, 4, 8, 16)]
    assert by_engines == sorted(by_engines, reverse=True)
    # More engines than prompts have nothing to do.
    assert forecast(a_config(), seconds, Split(32, 1, 1)).step_seconds == pytest.approx(by_engines[-1], rel=CLOSE)


def test_a_forecast_is_the_same_every_time() -> None:
    seconds = StageSeconds(rollout=8, annotate=4, learn=5)
    assert forecast(a_config(1), seconds) == forecast(a_config(1), seconds)


def test_engines_take_what_was_measured_on_as_many() -> None:
    config, seconds = a_config(), StageSeconds(rollout=8, annotate=4, rounds=2, tokens=40)
    for engines in (1, 4):
        work = EngineWork(config, seconds, engines)
        drawn = [work.step(step, engines) for step in range(100)]
        assert np.mean([rollouts.max() for rollouts, _ in drawn]) == pytest.approx(8, rel=0.03)
        assert np.mean([sum(part.max() for part in rounds) for _, rounds in drawn]) == pytest.approx(4, rel=0.03)


def test_segments_leave_the_longest_answers_out_of_a_round() -> None:
    seconds = StageSeconds(rollout=8, tokens=40)
    whole, cut = (
        EngineWork(a_config(2, engine={"segment_tokens": limit}), seconds, 1).step(0, 16)[0] for limit in (None, 16)
    )
    assert np.ptp(cut) < np.ptp(whole)


def test_ranks_divide_rows_at_a_loss_and_weights_travel_further() -> None:
    assert scaled_learner(8.0, 128, 1, 1) == 8.0
    assert scaled_learner(8.0, 128, 4, 1) == pytest.approx(2.0 / 0.95**2)
    assert scaled_learner(8.0, 128, 100, 128) == pytest.approx(16.0 / 0.95 ** np.log2(100 / 128))
    assert [scaled_sync(2.0, engines, 1) for engines in (1, 2, 1024)] == [2.0, 4.0, 22.0]


def test_servers_take_work_in_order_and_only_those_that_have_a_part() -> None:
    servers = Servers(2)
    assert servers.submit(1.0, np.array([2.0, 0.0])) == 3.0
    assert servers.submit(1.0, np.array([1.0, 1.0])) == 4.0
    assert servers.submit(9.0, 0.0) == 9.0
    assert servers.busy.tolist() == [3.0, 1.0]


def test_the_best_split_feeds_whoever_is_slowest() -> None:
    config = a_config(1, learner={"prompts": 64, "samples": 8})
    sampling = best_split(config, StageSeconds(rollout=100, learn=10, tokens=40), ONE, 16)
    learning = best_split(config, StageSeconds(rollout=10, learn=100, tokens=40), ONE, 16)
    assert sampling.split.engines > sampling.split.learner
    assert learning.split.engines < learning.split.learner
    for plan in (sampling, learning):
        assert plan.gpus <= 16
        even = plan_of(config, StageSeconds(rollout=100, learn=10, tokens=40), ONE, Split(5, 5, 5))
        assert sampling.forecast.step_seconds <= even.forecast.step_seconds * 1.02
    assert sampling.gpu_hours(100) == pytest.approx(sampling.gpus * sampling.forecast.step_seconds * 100 / 3600)


@pytest.mark.slow
def test_thousands_of_gpus_are_planned() -> None:
    config = a_config(1, learner={"prompts": 4096, "samples": 16})
    seconds = StageSeconds(rollout=4000, annotate=2000, score=500, learn=6000, teach=50, tokens=40)
    large = best_split(config, seconds, ONE, 8192)
    assert large.gpus > 1024
    small = best_split(config, seconds, ONE, 64)
    assert large.forecast.step_seconds < small.forecast.step_seconds / 10
