"""The tabular twin: puzzles and credit as the loop has them, exact chances, and learning that goes the right way."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import norm

from rewards.credit.batch import ScoredBatch
from rewards.credit.rules import CREDIT_RULES
from rl.config import Config
from rl.errors import ConfigError
from rl.instruments.study.twin import (
    Beliefs,
    K,
    Rollouts,
    Table,
    advantages,
    chances,
    learn_labels,
    learn_policy,
    read_puzzles,
    roll_out,
    step_scores,
    tabulate,
)
from rl.instruments.study.twin_config import TwinConfig
from rl.instruments.study.twin_run import CREDITS, Twin, check_twin, run_twin
from rl.tasks.beliefs import BeliefsTask
from rl.tasks.grid_steps import check_steps, written_answer
from rl.tasks.teacher import teach
from rl.tasks.worlds import LETTERS, World
from tests.fixtures.builders import a_rollout

WORLD = World("C")
SHORT = {
    "steps": 4,
    "task": {"name": "beliefs"},
    "learner": {"prompts": 4, "samples": 4, "credit": "progress"},
    "annotation": {"share": 0.5, "budget": "fixed"},
    "selection": {"selector": "bis", "keep_ratio": 0.5},
    "mprm": {"every": 1, "batches": 2, "batch_size": 8},
    "evaluation": {"prompts": 32, "samples": 2, "every": 2},
}


@pytest.fixture(scope="module")
def beliefs() -> Beliefs:
    return tabulate(WORLD)


def rolled(beliefs: Beliefs, seeds: int = 2, prompts: int = 8, samples: int = 4) -> Rollouts:
    puzzles, rng = read_puzzles("train", prompts), np.random.default_rng(0)
    which = np.tile(np.repeat(np.arange(prompts), samples), (seeds, 1))
    sure = np.tile(beliefs.sure, (seeds, 1))
    return roll_out(beliefs, puzzles, which, sure, rng.random((seeds, prompts * samples, K)))


def test_sure_of_the_right_result_it_solves_every_puzzle_and_else_it_writes_what_the_teacher_writes(
    beliefs: Beliefs,
) -> None:
    puzzles, task = read_puzzles("heldout", 60), BeliefsTask()
    which = np.arange(60)[None]
    right = roll_out(beliefs, puzzles, which, np.ones((1, len(beliefs.sure))), np.full((1, 60, K), 0.5))
    assert right.right.all() and right.own.all()
    likeliest = roll_out(beliefs, puzzles, which, beliefs.sure[None], np.full((1, 60, K), 0.5))
    for index in range(60):
        puzzle = task.puzzle("heldout", index)
        lines = teach(WORLD, puzzle).split("\n")
        truths = check_steps(puzzle, lines[:-1])
        results = [line.rpartition(" = ")[2] for line in lines[:-1]]
        numbers = [LETTERS.index(result) if result in LETTERS else int(result) for result in results]
        there = likeliest.written[0, index]
        assert likeliest.values[0, index][there].tolist() == numbers
        assert likeliest.own[0, index][there].tolist() == [truth.own for truth in truths]
        assert likeliest.so_far[0, index][there].tolist() == [truth.so_far for truth in truths]
        assert likeliest.right[0, index] == (written_answer(lines[-1]) == puzzle.answer)


def test_chances_are_exact(beliefs: Beliefs) -> None:
    """Against the share of many draws; and 1 where nothing can go wrong."""
    puzzles, rng = read_puzzles("heldout", 12), np.random.default_rng(0)
    exact = chances(beliefs, puzzles, beliefs.sure[None])[0]
    which = np.tile(np.arange(12), 4000)[None]
    drawn = roll_out(beliefs, puzzles, which, beliefs.sure[None], rng.random((1, 48_000, K)))
    share = drawn.right.reshape(4000, 12).mean(0)
    assert np.all(abs(share - exact) < 4.5 * np.sqrt(0.25 / 4000))
    assert chances(beliefs, puzzles, np.ones((1, len(beliefs.sure)))) == pytest.approx(np.ones((1, 12)))


def test_what_stands_is_gone_on_with(beliefs: Beliefs) -> None:
    begun = rolled(beliefs)
    puzzles, seeds = read_puzzles("train", 8), np.ones((2, len(beliefs.sure)))
    kept = np.tile(np.arange(32) % (K + 1), (2, 1))
    ends = roll_out(beliefs, puzzles, begun.puzzle, seeds, np.full(begun.own.shape, 0.5), begun, kept)
    stands = np.arange(K) < kept[..., None]
    assert np.array_equal(ends.values[stands], begun.values[stands])
    assert np.array_equal(ends.own[stands], begun.own[stands]) and ends.own[~stands].all()
    whole = kept == K
    assert np.array_equal(ends.right[whole], begun.right[whole])


@pytest.mark.parametrize("credit", CREDITS)
def test_credit_is_that_of_the_loop_for_steps_of_one_token(beliefs: Beliefs, credit: str) -> None:
    rollouts = rolled(beliefs)
    scores = np.random.default_rng(1).random(rollouts.own.shape)
    found = advantages(credit, rollouts, scores, 4)
    for seed in range(2):
        lengths = rollouts.written[seed].sum(1)
        batch = ScoredBatch(
            [
                a_rollout([1] * n, outcome=float(right), group=int(puzzle))
                for n, right, puzzle in zip(lengths, rollouts.right[seed], rollouts.puzzle[seed], strict=True)
            ],
            [row[:n] for row, n in zip(scores[seed], lengths, strict=True)],
        )
        for own, theirs, n in zip(found[seed], CREDIT_RULES[credit](batch), lengths, strict=True):
            assert own[:n] == pytest.approx(theirs[:n], abs=1e-3)


def test_a_reward_model_learns_which_results_are_right_from_true_labels(beliefs: Beliefs) -> None:
    """And the loss's gradient is that of finite differences."""
    rollouts = rolled(beliefs, seeds=1, prompts=64)
    logits = np.random.default_rng(2).normal(0, 1, (1, len(beliefs.sure) + 1, 2))

    def loss(values: np.ndarray) -> float:
        score, label = step_scores(values, rollouts), rollouts.so_far
        entropy = -np.log(np.where(label, score, 1 - score))
        return float(entropy[rollouts.written].mean())

    table = Table.of(logits.copy(), 1.0)
    learn_labels(table, rollouts, rollouts.so_far)
    gradient = table.momentum / 0.1
    for place in ((0, int(rollouts.fact[0, 0, 3]), 1), (0, int(rollouts.fact[0, 9, 3]), 0), (0, -1, 1)):
        shifted = [logits.copy(), logits.copy()]
        shifted[0][place] += 1e-5
        shifted[1][place] -= 1e-5
        assert gradient[place] == pytest.approx((loss(shifted[0]) - loss(shifted[1])) / 2e-5, abs=1e-6)
    table, before = Table.of(logits.copy(), 0.1), loss(logits)
    for _ in range(60):
        learn_labels(table, rollouts, rollouts.so_far)
    assert loss(table.logits) < 0.3 * before


def test_a_policy_learns_what_is_rewarded_and_nothing_else(beliefs: Beliefs) -> None:
    rollouts = rolled(beliefs, seeds=1, prompts=64)
    table = Table.of(np.zeros((1, len(beliefs.sure))), 0.1)
    learn_policy(table, rollouts, np.where(rollouts.own, 1.0, -1.0))
    met = np.isin(np.arange(len(beliefs.sure)), rollouts.fact)
    assert (table.logits[0, met] > 0).all() and (table.logits[0, ~met] == 0).all()
    still = Table.of(np.zeros((1, len(beliefs.sure))), 0.1)
    learn_policy(still, rollouts, np.zeros(rollouts.own.shape))
    assert (still.logits == 0).all()


def test_a_seeds_numbers_are_its_own_and_arms_of_a_seed_begin_alike() -> None:
    config, settings = Config.model_validate(SHORT), TwinConfig(warm_rollouts=16, warm_steps=4)
    together, alone = run_twin(config, settings, [3, 4, 5]), run_twin(config, settings, [4])
    assert together[1] == alone[0] and together[0] != together[1]
    other = config.model_copy(update={"learner": config.learner.model_copy(update={"credit": "outcome"})})
    (outcome,) = run_twin(other, settings, [4])
    assert outcome.curve[0] == alone[0].curve[0] and outcome.curve[-1] != alone[0].curve[-1]
    assert [row["step"] for row in outcome.curve] == [0, 2, 4]
    assert {"area/policy/accuracy", "mprm/auc_weighted_reasoning", "label_noise"} <= outcome.final.keys()


def test_a_given_area_is_that_of_right_results_against_wrong_ones() -> None:
    for area in (0.6, 0.9):
        twin = Twin(Config.model_validate(SHORT), TwinConfig(world="H", given_auc=area), range(40))
        wrong, right = np.moveaxis(twin.mprm.logits[:, :-1], 2, 0)
        won = np.mean([right[s, i] > wrong[s, j] for s, i, j in product(range(40), range(0, 200, 9), range(0, 200, 9))])
        assert won == pytest.approx(area, abs=0.03)
        # Log-odds: where it says 73 %, that is so.
        distance = np.sqrt(2) * norm.ppf(area)
        assert norm.pdf(1, distance**2 / 2, distance) / norm.pdf(1, -(distance**2) / 2, distance) == pytest.approx(np.e)
        assert right.mean() == pytest.approx(distance**2 / 2, abs=0.05)


def gained_by_step_scores(area: float, seeds: int) -> np.ndarray:
    """Of each seed the accuracy after 30 steps by `progress`, from scores of this area, minus that by outcomes."""
    longer = SHORT | {"steps": 30, "learner": SHORT["learner"] | {"prompts": 16, "samples": 8}}
    found = {}
    for credit in ("outcome", "progress"):
        config = Config.model_validate(longer | {"learner": longer["learner"] | {"credit": credit}})
        results = run_twin(config, TwinConfig(given_auc=area), range(seeds))
        found[credit] = np.array([result.final["exact_accuracy"] for result in results])
        assert all(r.final["exact_accuracy"] > r.curve[0]["exact_accuracy"] + 0.05 for r in results)
    return found["progress"] - found["outcome"]


def test_a_perfect_reward_model_teaches_more_than_outcomes() -> None:
    more = gained_by_step_scores(0.99, 4)
    assert more.mean() > 2 * more.std(ddof=1) / np.sqrt(len(more))


def test_and_one_that_knows_nothing_does_not() -> None:
    """Nothing but what it says may be in the difference: two points were, of rewards that are never quite equal."""
    more = gained_by_step_scores(0.500001, 16)
    assert abs(more.mean()) < 0.003 < 2 * gained_by_step_scores(0.99, 4).mean()


def test_evaluations_of_arms_with_and_without_a_reward_model_draw_alike() -> None:
    """Of the same policy they say the same, at every step."""
    alone = {
        "mprm": {"enabled": False},
        "learner": {"credit": "outcome"},
        "annotation": {"budget": "fixed", "share": 0},
    }
    config, without = Config.model_validate(SHORT), Config.model_validate(SHORT | alone)
    one, other = Twin(config, TwinConfig(), [0, 1]), Twin(without, TwinConfig(), [0, 1])
    for _ in range(3):
        assert [row["policy/accuracy"] for row in one.measure()] == [row["policy/accuracy"] for row in other.measure()]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"task": {"name": "grid"}}, "task.name is 'grid': the twin knows beliefs"),
        ({"learner": {"credit": "ps_grpo"}}, "learner.credit is 'ps_grpo': the twin knows outcome, additive"),
        ({"mprm": {"label": "soft"}}, "mprm.label is 'soft': the twin knows hard"),
        ({"mprm": {"guard_share": 0.5}}, "mprm.guard_share is 0.5: the twin knows 0"),
        ({"learner": {"epochs": 4}}, "learner.epochs is 4: the twin knows 1"),
        ({"engine": {"temperature": 0.3}}, "engine.temperature is 0.3: the twin knows 1"),
        ({"selection": {"selector": "bis_visual"}}, "selection.selector is 'bis_visual': the twin knows bis,"),
        ({"annotation": {"budget": "first_success"}}, "annotation.budget is 'first_success': the twin knows fixed"),
    ],
)
def test_what_it_does_not_know_is_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_twin(Config.model_validate({"task": {"name": "beliefs"}, "annotation": {"budget": "fixed"}} | changes))
