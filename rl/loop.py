"""The online loop: one controller; the workers do the work.

prompts -> engines -> rollouts -> MPRM -> step scores -> credit -> advantages -> learner -> new weights -> engines
              |                    ^
              +-> continuations -> step counts -> buffer, every few steps

An *offer* shows the buffer the rollouts that were labelled; a *lesson* is one update of a reward model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rewards.records import Prompt, Rollout, StepCounts, StepScores
from rewards.section import is_due
from rl.annotating.labelling import Labelling
from rl.checkpoints.checkpoint import Progress
from rl.config import Config
from rl.errors import RewardHackingError
from rl.evaluating.schedule import Evaluations
from rl.monitoring.metrics import StageClock
from rl.monitoring.monitor import Monitor
from rl.monitoring.report import Delivery, Labels, Offer, Pace, Said, StepReport
from rl.parts import Parts
from rl.reward_models.credit import learner_waits_for
from rl.rollouts.staleness import check_one_version, check_versions_sent
from rl.workers.pending import Pending

Stop = Callable[[], bool]
"""Says whether the run is to stop; asked before every policy step."""


def run(
    config: Config, parts: Parts, progress: Progress, evaluations: Evaluations, monitor: Monitor, stop: Stop
) -> None:
    """Train from where ``progress`` stands to ``config.steps``, or until ``stop()`` says so after a step.

    Raises:
        WorkerError: A worker died, raised, or did not answer in time.
        UsersCodeError: The user's task, verifier, selector or credit rule failed.
        CheckpointError: A checkpoint could not be written.
        RewardHackingError: ``watch.action`` is ``stop``, and a threshold was crossed; there is a checkpoint.
    """
    waits_for = learner_waits_for(config, parts.credit.rule)
    stream, engines = parts.stream, parts.engines
    sent: Sequence[Pending[int]] = ()
    while progress.step < config.steps and not stop():
        step, clock, busy = progress.step, StageClock(), engines.busy_seconds

        # 1. Finished groups of rollouts, usually sampled while the learner took the step before.
        with clock("rollout"):
            batch = stream.take()
        prompts, rollouts = batch.prompts, batch.rollouts

        # 2. The MPRM scores every step of every rollout, and the outcome model, if there is one, every answer.
        with clock("score"):
            scoring = parts.mprm.start("score", prompts, rollouts)
            rewarded, answers = parts.answers.rewarded(prompts, rollouts)
        learn = partial(_learn, config, parts, clock, prompts, rollouts, rewarded)
        update = learn() if waits_for == "outcomes" else None
        with clock("score"):
            scores: list[StepScores] = scoring.result()
            check_one_version(scores)

        # 3. The engines begin to continue some rollouts from each step.
        with clock("annotate"):
            labelling = _begin_to_label(config, parts, step, batch, scores)

        # 4. Scores and outcome rewards become one advantage a token, and the policy takes its step …
        update = update or learn(scores, labelling if waits_for == "counts" else None)

        # 5. … while the engines sample what comes next, and the counts label steps, maybe of an earlier policy step.
        stream.prefetch()
        with clock("annotate"):
            due = parts.labeller.due(step)

        # 6. The buffer keeps the informative rollouts, and every few steps the MPRM trains on them.
        labels, offer = _offer(parts, due, step, clock, monitor)
        with clock("teach"):
            lesson = parts.lessons.begin(parts.mprm, step)
            answer_lesson = parts.answers.teach(step, prompts, rollouts)
        if parts.recording and labels.batch.rollouts:
            parts.recording.step(step + 1, labels, offer)

        # 7. The new weights go back to the engines, behind whatever they are sampling.
        with clock("rollout"):
            stream.prepare()
        with clock("learn"):
            policy = update.result()
        with clock("sync"):
            check_versions_sent(sent, step)
            sent = _send_weights(config, parts, step + 1)
        with clock("rollout"):
            _ask_ahead(config, parts)
        with clock("teach"):
            taught, taught_answers = lesson.result(), answer_lesson.result()

        # 8. What happened is told once, and written down.
        hacking, warning = parts.watch.after(rollouts, scores)
        said = Said(policy=policy, mprm=taught, outcome_model=taught_answers, answers=answers, hacking=hacking)
        pace = Pace(clock.metrics(), engines.busy_seconds - busy, len(engines), progress.advance(labels.cost))
        monitor.step(progress.step, StepReport(pace, batch, scores, labels, offer, said))

        # 9. Now and then the policy is evaluated, and the run saved; a warning of the watch may end it.
        _conclude(config, parts, progress, evaluations, monitor, warning)
    check_versions_sent(sent, progress.step)
    _label_the_rest(config, parts, progress, monitor)


def _begin_to_label(
    config: Config, parts: Parts, step: int, batch: Delivery, scores: Sequence[StepScores]
) -> Labelling:
    """Ask for continuations of a step's rollouts, and, unless that has its own time, for more of those before it."""
    with parts.engines.together():
        if not config.asks_ahead:
            parts.labeller.advance()
        return parts.labeller.begin(step, batch, scores)


def _ask_ahead(config: Config, parts: Parts) -> None:
    """Where labels may be late, ask the new weights for the next rollouts and more continuations in one call."""
    if config.asks_ahead:
        with parts.engines.together():
            parts.stream.prefetch()
            parts.labeller.advance()


def _learn(
    config: Config,
    parts: Parts,
    clock: StageClock,
    prompts: Sequence[Prompt],
    rollouts: Sequence[Rollout],
    rewarded: Sequence[Rollout],
    scores: Sequence[StepScores] = (),
    labelling: Labelling | None = None,
) -> Pending[dict[str, float]]:
    """Give credit for what is known, the counts of ``labelling`` included, if it is given, and begin the policy's step;
    engines that share its memory sleep meanwhile."""
    counts: Sequence[StepCounts | None] = ()
    if labelling:
        with clock("annotate"):
            counts = labelling.by_rollout()
    with clock("credit"):
        experiences = parts.credit.experiences(prompts, rewarded, scores, counts)
        if labelling and config.learner.reuse_continuations:
            experiences += parts.credit.continued(prompts, rollouts, labelling.continued())
    if config.engine.sleep:
        _everywhere(parts, "sleep")
    return parts.learner.start("step", experiences)


def _send_weights(config: Config, parts: Parts, version: int) -> Sequence[Pending[int]]:
    """Begin to bring the engines the learner's weights; engines that sleep wake up for them."""
    if config.engine.sleep:
        for part in (parts.learner, *([parts.mprm] if config.places_mprm else [])):
            part.call("release_memory")
        _everywhere(parts, "wake_up")
    sent = parts.transfer.send(version)
    parts.stream.weights_sent(version)
    return sent


def _offer(parts: Parts, labelling: Labelling, step: int, clock: StageClock, monitor: Monitor) -> tuple[Labels, Offer]:
    """Wait in policy step ``step`` for what a labelling says, and show the buffer."""
    with clock("annotate"):
        labelling.finish()
    with clock("judge"):
        labels = labelling.labels(step, clock.seconds("annotate"), monitor.say)
    with clock("select"):
        known = labelling.scores, labelling.entropy(), labelling.chance
        return labels, parts.lessons.offer(labels.step, labels.annotated, *known)


def _label_the_rest(config: Config, parts: Parts, progress: Progress, monitor: Monitor) -> None:
    """After the last policy step, keep and count the labels that no further step is going to get."""
    for labelling in parts.labeller.rest() if progress.step == config.steps else ():
        labels, offer = _offer(parts, labelling, progress.step, StageClock(), monitor)
        progress.count(labels.cost)
        if parts.recording:
            parts.recording.step(progress.step, labels, offer)


def _everywhere(parts: Parts, method: str) -> None:
    """Have every engine do something, and wait for it."""
    for answer in parts.engines.start_all(method):
        answer.result()


def _conclude(
    config: Config,
    parts: Parts,
    progress: Progress,
    evaluations: Evaluations,
    monitor: Monitor,
    warning: str | None,
) -> None:
    """Do what is due after a policy step: pass on the watch's warning, evaluate, and write a checkpoint."""
    if warning and config.watch.action == "warn":
        monitor.say(f"step {progress.step}: {warning}")
    if progress.step < config.steps:
        evaluations.after(progress.step)
    if warning and config.watch.action == "stop":
        progress.save(config, parts)
        raise RewardHackingError(f"stopped after step {progress.step}: {warning}")
    if is_due(config.checkpoint_every, progress.step) and progress.step < config.steps:
        progress.save(config, parts)
