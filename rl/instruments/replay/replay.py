"""A replay: a recorded stream, fed once more to a selector, a buffer and a reward model, in this process alone.

No policy learns and nothing is sampled, so replays of one stream see the same rollouts and the same labels, and begin
with the same reward model: they differ in what their settings say, and in nothing else. They go as far as the stream's
last held-out evaluation. Selector, buffer, guard and MPRM are those of `rl.loop`, in the same order and with the same
seeds: a replay under the run's own settings keeps what the run kept, as far as no score of the MPRM decides it, and
nothing that was believed of prompts (`selection.prompts: difficulty`), which is not recorded. Labels come as many
policy steps late as `annotation.delay` of the replay's settings says, whatever it was in the run; what they say is
recorded, newer weights' continuations included.

*Equal work.* Settings that keep less must not learn less, so the number of optimizer steps does not come from what is
kept: `replay.optimizer_steps` of them are spread evenly over the updates that are due, each with `mprm.batch_size`
rollouts. An update that wants more rollouts than are kept draws again and again, so that each is seen about as often as
the others; its batches are never smaller. Where nothing is kept yet, its optimizer steps are left to the next update.

*Frozen.* With `replay.order: frozen` the same rollouts are offered all at once and in random order, before the first
update, and scored by a reward model that has learned nothing yet: the published, offline selection (exactly so where no
rollout repeats another, and without a cap on all-negative ones, `selection.max_all_negative: 1`). Updates and
evaluations come when they would online.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from rewards.seeds import derive_seed
from rl.config import Config
from rl.errors import ConfigError
from rl.files.named_checkpoint import make_encoder
from rl.instruments.replay.measuring import CellResult, area_under_curve, step_measures
from rl.instruments.replay.relabelling import Labelled, Relabelling, recorded_labels
from rl.instruments.replay.replayed_lessons import TOTALS, Learning, make_learning
from rl.instruments.replay.stream import RecordedRollout, Stream, open_stream
from rl.instruments.replay.written_by import check_written
from rl.reward_models.mprm import check_mprm

FINAL_POLICY = "final_policy/"
READ = ("mprm", "policy", "replay", "selection", "task")
"""Sections of an experiment that a replay reads; with `replay.tokens`, which labels anew, `annotation` as well."""
DELAY = "annotation.delay"
"""The key that a replay reads whoever labels."""


def replay(stream: Path, config: Config) -> CellResult:
    """Replay a recorded stream.

    Args:
        stream: A run's folder, or the folder of its stream.
        config: The experiment: its ``selection``, ``mprm``, ``replay``, ``seed`` and ``annotation.delay``, and with
            ``replay.tokens`` all of its ``annotation``.

    Returns:
        One row a recorded evaluation: `step_measures` on held-out rollouts of the policy at that time and, as
        ``final_policy/…``, of the policy at the end; `label_noise` of what is kept (both in
        `rl.instruments.replay.measuring`);
        ``kept`` rollouts, their mean ``age`` in policy versions and their ``all_negative`` share; and so far:
        ``optimizer_steps``, ``offered`` rollouts, their ``labelled_steps`` and ``continuation_tokens``. In the end the
        last row, and the area under the curve of each number that is no total, as ``area/…``: its mean over time.

    Raises:
        ConfigError: There is no such stream or it is damaged, it does not know which steps are right, or the settings
            do not fit it.
        UsersCodeError: A selector of the user's failed.
    """
    recorded = _until_last_evaluation(open_stream(stream))
    _check(config, recorded)
    # Whatever is drawn at random while a model learns is the same for all settings, and nobody else's business.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        curve = [_measured(row) for row in _rows(recorded, config)]
    return CellResult(curve, _final(curve))


def _rows(stream: Stream, config: Config) -> Iterator[dict[str, float]]:
    """Go through the stream; one row of numbers an evaluation."""
    learning = make_learning(config)
    final = _heldout(stream, stream.evaluations[-1], config)
    if 0 in stream.evaluations:
        yield _row(0, stream, config, learning, final)
    frozen = config.replay.order == "frozen"
    offers = _labelled(stream, config, learning)
    if frozen:
        learning.offer(_shuffled(list(offers), config.seed), None)
    lessons = _lessons(stream, config)
    for step in stream.steps:
        if not frozen:
            learning.offer(next(offers), step)
        if step in lessons:
            learning.learn(lessons[step])
        if step in stream.evaluations:
            yield _row(step, stream, config, learning, final)


def _row(
    step: int, stream: Stream, config: Config, learning: Learning, final: Sequence[RecordedRollout]
) -> dict[str, float]:
    at_the_end = step_measures(final, learning.score(final))
    now = at_the_end
    if step < stream.evaluations[-1]:
        heldout = _heldout(stream, step, config)
        now = step_measures(heldout, learning.score(heldout))
    renamed = {f"{FINAL_POLICY}{name}": value for name, value in at_the_end.items()}
    return {"step": float(step)} | now | renamed | learning.so_far()


def _labelled(stream: Stream, config: Config, learning: Learning) -> Iterator[Labelled]:
    """What is offered of each policy step: with the labels as they were recorded, or labelled anew."""
    if not config.replay.tokens:
        yield from (recorded_labels(stream.step(step)) for step in stream.steps)
        return
    relabelling = Relabelling(config, make_encoder(config), len(stream.steps))
    by_scores = config.annotation.budget == "triage" and config.annotation.triage_by == "mprm"
    for step in stream.steps:
        rollouts = stream.step(step)
        yield relabelling.label(step, rollouts, learning.score(rollouts) if by_scores else None)


def _shuffled(parts: Sequence[Labelled], seed: int) -> Labelled:
    """All of it as one corpus."""
    rollouts = [rollout for part in parts for rollout in part.rollouts]
    entries = [entry for part in parts for entry in part.entries]
    order = np.random.default_rng(derive_seed(seed, "shuffle")).permutation(len(entries))
    return Labelled(
        [rollouts[place] for place in order], [entries[place] for place in order], sum(part.tokens for part in parts)
    )


def _lessons(stream: Stream, config: Config) -> dict[int, int]:
    """The optimizer steps of the update after each policy step that has one."""
    due = [step for step in stream.steps if config.mprm.learns_after(step)]
    bounds = [config.replay.optimizer_steps * place // len(due) for place in range(len(due) + 1)]
    return {step: after - before for step, before, after in zip(due, bounds, bounds[1:], strict=False)}


def _heldout(stream: Stream, step: int, config: Config) -> list[RecordedRollout]:
    """The held-out rollouts to score of an evaluation.

    Raises:
        ConfigError: Nobody knows which of their steps are right.
    """
    rollouts = [rollout for rollout in stream.heldout(step, config.replay.heldout) if rollout.entry.rollout.steps]
    if not rollouts or not all(len(rollout.truth) for rollout in rollouts):
        raise ConfigError(
            f"{stream.folder}: the held-out rollouts after policy step {step} have no true step labels to measure by; "
            "allowed is the stream of a task that knows them, such as task.name grid"
        )
    return rollouts


def _until_last_evaluation(stream: Stream) -> Stream:
    last = max(stream.evaluations, default=0)
    steps = tuple(step for step in stream.steps if step <= last)
    if not steps:
        raise ConfigError(
            f"{stream.folder}: there is no held-out evaluation after a policy step; a replay ends with the last one"
        )
    return Stream(stream.folder, steps, stream.evaluations)


def _check(config: Config, stream: Stream) -> None:
    """Whether these settings can be replayed.

    Raises:
        ConfigError: They cannot.
    """
    check_mprm(config)
    check_replay(config)
    check_written(config, stream)
    if not any(config.mprm.learns_after(step) for step in stream.steps):
        raise ConfigError(
            f"mprm.every is {config.mprm.every} and mprm.until {config.mprm.until}: no update is due in the policy "
            f"steps {stream.steps[0]} to {stream.steps[-1]} of {stream.folder}"
        )


def _measured(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if np.isfinite(value)}


def _final(curve: Sequence[dict[str, float]]) -> dict[str, float]:
    """The last row, and the area under the curve of each number that is no total."""
    last = {name: value for name, value in curve[-1].items() if name != "step"}
    areas = {}
    for name in last.keys() - TOTALS:
        steps, values = zip(*((row["step"], row[name]) for row in curve if name in row), strict=True)
        areas[f"area/{name}"] = area_under_curve(steps, values)
    return last | dict(sorted(areas.items()))


def check_replay(config: Config, recorded: Config | None = None) -> None:
    """Whether a configuration can be replayed.

    Args:
        config: Of the replay.
        recorded: Of the run that is to be recorded for it, where that is known.

    Raises:
        ConfigError: It cannot.
    """
    if not config.mprm.enabled:
        raise ConfigError("mprm.enabled is false: allowed in a replay is true, as it is the reward model that learns")
    if config.mprm.warm_start:
        raise ConfigError("mprm.warm_start is set: allowed in a replay is none; name a saved mprm.checkpoint instead")
    if not config.replay.tokens or recorded is None:
        return
    wanted, there = config.annotation.continuations, recorded.annotation.continuations
    if wanted > there or recorded.annotation.budget != "fixed":
        raise ConfigError(
            f"replay.tokens is {config.replay.tokens} and annotation.continuations {wanted}: labels are made anew from "
            f"what is recorded, {recorded.annotation.budget} with {there} of a step; allowed is at most so many, of "
            "annotation.budget fixed"
        )


def check_varied(keys: Iterable[str], config: Config) -> None:
    """Whether a replay reads the keys in which it is to differ from others: if not, they would be equal without a word.

    Args:
        keys: Dotted keys that differ.
        config: Of the replay.

    Raises:
        ConfigError: It does not read one of them.
    """
    read = sorted((*READ, "annotation")) if config.replay.tokens else READ
    for key in keys:
        if key.startswith("selection.prompts"):
            raise ConfigError(f"{key} is varied: it changes nothing in a replay, whose prompts are recorded")
        if (section := key.partition(".")[0]) not in read and key != DELAY:
            labels = ", which has recorded labels unless replay.tokens is set" if section == "annotation" else ""
            raise ConfigError(
                f"{key} is varied: it changes nothing in a replay{labels}; allowed are {DELAY} and keys of "
                f"{', '.join(read)}"
            )
