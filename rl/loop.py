"""The online loop: one controller; the workers do the work.

prompts -> engines -> rollouts -> MPRM -> step scores -> credit -> advantages -> learner -> new weights -> engines
              |                    ^
              +-> continuations -> step counts -> buffer, every few steps
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rewards.records import Prompt, Rollout, StepCounts, StepScores
from rewards.section import is_due
from rl.annotating.labelling import Labelling
from rl.checkpoints.checkpoint import Progress
from rl.config import Config
from rl.errors import RewardHackingError
from rl.evaluating.schedule import Evaluations
from rl.monitoring.metrics import (
    StageClock,
    annotation_metrics,
    group,
    pace_metrics,
    policy_metrics,
    reward_metrics,
    selection_metrics,
)
from rl.monitoring.monitor import Monitor
from rl.monitoring.recording import Offer
from rl.parts import Parts
from rl.rollouts.staleness import check_one_version, check_versions_sent
from rl.workers.pending import Pending
from selection.selectors import apply_selector


def run(
    config: Config,
    parts: Parts,
    progress: Progress,
    evaluations: Evaluations,
    monitor: Monitor,
    stop: Callable[[], bool],
) -> None:
    """Train from where ``progress`` stands to ``config.steps``, or until ``stop()`` says so after a step.

    Raises:
        WorkerError: A worker died, raised, or did not answer in time.
        UsersCodeError: The user's task, verifier, selector or credit rule failed.
        CheckpointError: A checkpoint could not be written.
        RewardHackingError: ``watch.action`` is ``stop``, and a threshold was crossed; there is a checkpoint.
    """
    stream, engines = parts.stream, parts.engines
    # The learner has to wait for what its advantages come from, and for the memory of engines that are to sleep.
    waits_for = "counts" if config.engine.sleep else parts.credit.needs
    sent: Sequence[Pending[int]] = ()
    while progress.step < config.steps and not stop():
        step, clock, busy = progress.step, StageClock(), engines.busy_seconds

        # 1. Finished groups of rollouts, usually sampled while the learner took the step before.
        with clock("rollout"):
            batch = stream.take()
            prompts, rollouts = batch.prompts, batch.rollouts

        # 2. The MPRM scores every step of every rollout, and the outcome model, if there is one, every answer.
        with clock("score"):
            judged = parts.answers.judge(prompts, rollouts)
            scoring = parts.mprm.start("score", prompts, rollouts)
            rewarded, answer_metrics = parts.answers.rewarded(rollouts, judged)
        update = _learn(config, parts, clock, prompts, rewarded) if waits_for == "outcomes" else None
        with clock("score"):
            scores: list[StepScores] = scoring.result()
            check_one_version(scores)

        # 3. The engines begin to continue some rollouts from each of their steps.
        labelling = Labelling(config, parts, step, prompts, rollouts, scores)

        # 4. Scores and outcome rewards become one advantage a token, and the policy takes its step …
        if waits_for == "scores":
            update = _learn(config, parts, clock, prompts, rewarded, scores)
        if update is None:
            with clock("annotate"):
                counted = labelling.by_rollout()
            update = _learn(config, parts, clock, prompts, rewarded, scores, counted)

        # 5. … while the engines sample what comes next, and the counts label the steps.
        stream.prefetch()
        with clock("annotate"):
            labelling.finish()
        with clock("judge"):
            annotated, judge_metrics = labelling.judged(monitor.say)
        counts = [entry.counts for entry in annotated]

        # 6. The buffer keeps the informative rollouts, and every few steps the MPRM trains on them.
        with clock("select"):
            candidates = labelling.candidates(annotated)
            informative = apply_selector(f"selection.selector {config.selection.selector}", parts.selector, candidates)
            for_learning = parts.held_back.split(annotated)
            offered = parts.buffer.offer([annotated[i] for i in for_learning], informative[for_learning])
        with clock("teach"):
            due = config.mprm.learns_after(step + 1) and len(parts.buffer) > 0
            lesson = _teach(config, parts) if due else None
            answer_lesson = parts.answers.teach(step, prompts, rollouts)
        offer = Offer(labelling.chosen, annotated, labelling.continuations(), informative, parts.buffer.kept())
        if parts.recording:
            parts.recording.step(step + 1, prompts, rollouts, scores, offer)

        # 7. The new weights go back to the engines, behind whatever they are sampling.
        with clock("rollout"):
            stream.prepare()
        with clock("learn"):
            policy = update.result()
        with clock("sync"):
            check_versions_sent(sent, progress.step)
            if config.engine.sleep:
                parts.learner.call("release_memory")
                _everywhere(parts, "wake_up")
            progress.step = step + 1
            sent = parts.transfer.send(progress.step)
            stream.weights_sent(progress.step)
        with clock("teach"):
            taught = lesson.result() if lesson else {}
            taught_answers = answer_lesson.result() if answer_lesson else {}
        bill = labelling.bill(clock.seconds("annotate"))
        progress.count(bill)

        # 8. What happened is written down.
        hacking, warning = parts.watch.after(rollouts, scores)
        stages = clock.metrics()
        monitor.step(
            progress.step,
            stages
            | pace_metrics(
                stages["perf/step_seconds"],
                policy,
                engines.busy_seconds - busy,
                len(engines),
                batch.tokens + bill.tokens,
            )
            | batch.metrics
            | reward_metrics(rollouts, scores, counts, labelling.chosen)
            | group("reward", answer_metrics)
            | group("reward", {f"model_{name}": value for name, value in taught_answers.items()})
            | hacking
            | judge_metrics
            | annotation_metrics(bill, counts, labelling.rollouts)
            | policy_metrics(policy)
            | selection_metrics(candidates, informative, parts.buffer)
            | group("selection", offered)
            | group("mprm", taught)
            | progress.ledger.finished(progress.step),
        )
        monitor.distribution(progress.step, "selection/scores_offered", informative)
        monitor.distribution(progress.step, "selection/scores_kept", parts.buffer.kept_scores())
        monitor.rollouts(progress.step, prompts, rollouts, scores, offer)
        if warning and config.watch.action == "warn":
            monitor.say(f"step {progress.step}: {warning}")
        if progress.step < config.steps:
            evaluations.after(progress.step)
        if warning and config.watch.action == "stop":
            progress.save(config, parts)
            raise RewardHackingError(f"stopped after step {progress.step}: {warning}")
        if is_due(config.checkpoint_every, progress.step) and progress.step < config.steps:
            progress.save(config, parts)
    check_versions_sent(sent, progress.step)


def _learn(
    config: Config,
    parts: Parts,
    clock: StageClock,
    prompts: Sequence[Prompt],
    rewarded: Sequence[Rollout],
    scores: Sequence[StepScores] = (),
    counts: Sequence[StepCounts | None] = (),
) -> Pending[dict[str, float]]:
    """Give credit for what is known, and begin the policy's step; engines that share its memory sleep meanwhile."""
    with clock("credit"):
        experiences = parts.credit.experiences(prompts, rewarded, scores, counts)
    if config.engine.sleep:
        _everywhere(parts, "sleep")
    return parts.learner.start("step", experiences)


def _everywhere(parts: Parts, method: str) -> None:
    """Have every engine do something, and wait for it."""
    for answer in parts.engines.start_all(method):
        answer.result()


def _teach(config: Config, parts: Parts) -> Pending[dict[str, float]]:
    """Begin an update of the MPRM, watched by its guard."""
    samples = parts.buffer.draw(config.mprm.lesson_size)
    return parts.mprm.start("update", samples, parts.held_back.entries(), config.mprm.guard_margin)
