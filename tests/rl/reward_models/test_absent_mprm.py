"""A run without an MPRM: nobody is started for it, nothing is said of it, and the policy learns as beside one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rewards.credit.batch import ScoredBatch
from rl.checkpoints.manifest import list_files
from rl.checkpoints.run_folder import open_run_folder
from rl.commands.eval_policy import find_judges, find_policy
from rl.config import Config, load_config
from rl.config.learner import WatchConfig
from rl.errors import ConfigError
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.instruments.planning.best_split import best_split
from rl.instruments.planning.launch_plan import plan_lines
from rl.instruments.planning.stage_seconds import StageSeconds, split_of
from rl.reward_models.credit import make_credit
from rl.reward_models.hacking_watch import HackingWatch
from rl.reward_models.mprm import AbsentMPRM
from rl.workers.ray_cluster import kinds_of_workers
from tests.fixtures.builders import a_prompt, a_rollout
from tests.fixtures.runs import SMOKE, Running, metrics

WITHOUT = ("mprm.enabled=false", "annotation.share=0", "learner.credit=outcome")


def scores_alone(batch: ScoredBatch) -> list[np.ndarray]:
    """A user's rule that does not say that it needs no scores."""
    return batch.on_every_token(np.array([scores.mean() for scores in batch.scores]))


def test_a_rule_that_reads_scores_is_refused_and_one_that_says_it_does_not_is_taken() -> None:
    for rule in ("progress", f"{__name__}:scores_alone"):
        with pytest.raises(ConfigError, match="needs_scores = False") as caught:
            make_credit(load_config(SMOKE, [*WITHOUT, f"learner.credit={rule}"]), np.zeros_like)
        assert f"learner.credit is {rule!r}" in str(caught.value) and "\n" not in str(caught.value)
    for rule in ("outcome", "rewards.credit.outcome:outcome"):
        assert make_credit(load_config(SMOKE, [*WITHOUT, f"learner.credit={rule}"]), np.zeros_like).needs == "outcomes"


def test_nobody_is_placed_and_no_memory_is_planned_for_it() -> None:
    config = load_config(SMOKE, WITHOUT)
    assert [kind.role for kind in kinds_of_workers(config)] == ["learner", "engine"]
    lines = "\n".join(plan_lines(config, gpu_gb=80))
    assert "mprm" not in lines and "CPU: learner" in lines and "mprm" in "\n".join(plan_lines(load_config(SMOKE), 80))


def test_a_plan_gives_its_gpus_to_the_others() -> None:
    config = load_config(SMOKE, WITHOUT)
    seconds = StageSeconds(rollout=10, learn=10, tokens=40)
    plan = best_split(config, seconds, split_of(config), 2)
    assert (plan.split.engines, plan.split.learner, plan.split.mprm) == (1, 1, 0)
    assert plan.forecast.step_seconds == pytest.approx(10, rel=0.05)
    with pytest.raises(ConfigError, match="2 or more: one each for learner, and"):
        best_split(config, seconds, split_of(config), 1)


def test_the_watch_looks_at_what_needs_no_scores() -> None:
    rollouts = [a_rollout([2, 2], outcome=1.0), a_rollout([3], outcome=0.0)]
    watch = HackingWatch(WatchConfig(baseline=1, window=1))
    scores = AbsentMPRM().call("score", [a_prompt()] * 2, rollouts)
    assert [len(scored.scores) for scored in scores] == [0, 0]
    metrics, warning = watch.after(rollouts, scores)
    assert metrics == {"reward/step_tokens": pytest.approx(7 / 3), "reward/repeated_steps": 0.0} and warning is None
    longer = [a_rollout([2] * 8, tokens=range(17))] * 2
    assert "the steps of an answer" in str(watch.after(longer, AbsentMPRM().call("score", [a_prompt()] * 2, longer))[1])


def a_run_folder(folder: Path, config: Config, has_mprm: bool) -> Path:
    """A run's configuration, and as much of a checkpoint as is looked at before anything starts."""
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    for part in ("policy", "mprm") if has_mprm else ("policy",):
        shutil.copytree(SHIPPED_POLICY, folder / "checkpoints" / "step-2" / part)
    list_files(folder / "checkpoints" / "step-2")
    return folder


@pytest.mark.parametrize("had", [True, False])
def test_an_mprm_neither_comes_nor_goes_when_a_run_is_resumed(had: bool, tmp_path: Path) -> None:
    run = a_run_folder(tmp_path, load_config(SMOKE, () if had else WITHOUT), has_mprm=had)
    assert open_run_folder(run, []).mprm.enabled is had
    with pytest.raises(ConfigError) as caught:
        open_run_folder(run, [*WITHOUT, f"mprm.enabled={str(not had).lower()}"])
    assert f"mprm.enabled is {str(not had).lower()}: allowed with --resume" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_strategies_that_want_a_judge_are_refused_for_such_a_run(tmp_path: Path) -> None:
    run = a_run_folder(tmp_path, load_config(SMOKE, WITHOUT), has_mprm=False)
    _, newest = find_policy(None, [], run, None)
    with pytest.raises(ConfigError, match=r"best_of_n_min needs a judge: name one .*step-2 has no MPRM$"):
        find_judges(["best_of_n_min"], [], [], newest)
    assert find_judges(["majority"], [], [], newest) == (("majority",), ())


def train(*arguments: object, stop: bool = False) -> int:
    """Run to the end, or to a SIGTERM after the first step; how many workers were there when it first told of one."""
    process = Running("train", *arguments)
    process.wait_for("  pace s/step ")
    if stop:  # at once: on a loaded machine, looking at the workers takes as long as a step
        process.stop()
    titles = [worker.cmdline()[0] for worker in process.workers()]
    code, said = process.end()
    assert code == 0, said
    assert ("stopping after this step" in said) == stop
    # One that does nothing bears its class's name, one at work its own and the call's, as ``mprm.score``.
    return sum(title.startswith("ray::_Resident") or "." in title for title in titles)


@pytest.mark.slow
def test_the_policy_learns_exactly_what_it_learns_beside_one_and_the_run_can_go_on(tmp_path: Path) -> None:
    """The run without one is told to stop, and resumed in one process, where the other one is all of the time."""
    beside, alone = tmp_path / "beside", tmp_path / "alone"
    shared = ["engine.kind=hf", "max_staleness=0", "evaluation.prompts=4", "learner.credit=outcome"]
    assert train(SMOKE, f"output_dir={beside}", "steps=3", "workers=inline", *shared) == 0
    assert train(SMOKE, f"output_dir={alone}", "steps=3", *shared, *WITHOUT, stop=True) == 2
    stopped_at = max(metrics(alone))
    assert 1 <= stopped_at < 3 and (alone / "checkpoints" / f"step-{stopped_at}").exists()
    assert train("--resume", alone, "workers=inline") == 0
    told, found = metrics(beside), metrics(alone)
    assert max(told) == max(found) == 3
    about_others = ("mprm/", "annotation/", "selection/", "reward/mprm", "reward/hacking_gap")
    for step, values in told.items():
        expected = {name: value for name, value in values.items() if not name.startswith(about_others)}
        assert {name: found[step].get(name) for name in expected} == expected
        assert not [name for name in found[step] if name.startswith(("mprm/", "reward/mprm", "reward/hacking_gap"))]
    assert not (alone / "checkpoints" / "step-3" / "mprm").exists()
    log = EventAccumulator(str(alone / "tensorboard"))
    log.Reload()
    assert "rollouts/0" in log.Tags()["images"]
