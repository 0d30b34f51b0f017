"""The online loop: one controller; the workers do the work.

prompts -> engines -> rollouts -> MPRM -> step scores -> credit -> advantages -> learner -> new weights -> engines
              |                    ^
              +-> continuations -> step counts -> buffer, every few steps
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rewards.annotation.annotator import Annotation
from rewards.records import Annotated, Experience, Prompt, Rollout, StepScores
from rewards.seeds import derive_seed
from rl.config import Config
from rl.evaluating.evaluations import Evaluations
from rl.judging import join_verdicts
from rl.metrics import StageClock, annotation_metrics, group, reward_metrics, selection_metrics
from rl.monitor import Monitor
from rl.parts import Parts
from rl.progress import Batch, Progress, is_due
from rl.rollouts import make_rollouts, rollout_requests
from rl.staleness import check_one_version
from rl.workers import Pending
from selection.candidates import gather_candidates
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
        SelectorError: The user's selector failed.
    """
    while progress.step < config.steps and not stop():
        step, clock = progress.step, StageClock()

        # 1. Fresh rollouts, usually sampled while the learner took the step before.
        with clock("rollout"):
            _ask(config, parts, progress, last=step)
            batch = progress.upcoming.popleft()
            first_group = step * config.learner.prompts
            rollouts = make_rollouts(batch.prompts, batch.answers.result(), parts.encoder, parts.verifier, first_group)
            prompts = [batch.prompts[rollout.group - first_group] for rollout in rollouts]
            dropped = config.learner.prompts * config.learner.samples - len(rollouts)
            staleness = max(parts.gate.check(step, rollout.policy_version) for rollout in rollouts)

        # 2. The MPRM scores every step of every rollout, and the outcome model, if there is one, every answer.
        with clock("score"):
            judged = parts.answers.judge(prompts, rollouts)
            scores: list[StepScores] = parts.mprm.call("score", prompts, rollouts)
            check_one_version(scores)
            rewarded, answer_metrics = parts.answers.rewarded(rollouts, judged)

        # 3. Scores and outcome rewards become one advantage a token, and the policy takes its step …
        with clock("credit"):
            advantages = parts.credit(rewarded, [scored.scores for scored in scores])
            experiences = [
                Experience(prompt, rollout.token_ids, rollout.logprobs, advantage, rollout.policy_version)
                for prompt, rollout, advantage in zip(prompts, rollouts, advantages, strict=True)
            ]
        update = parts.learner.start("step", experiences)

        # 4. … while the engines continue some rollouts from each of their steps, and then sample what comes next.
        chosen = _choose(config, step, rollouts)
        annotation = _annotation(config, parts, prompts, rollouts, scores, chosen)
        continuations = parts.engines.sample(annotation.requests())
        looked_at, labelled = [prompts[i] for i in chosen], [rollouts[i] for i in chosen]
        verdicts = parts.judge.start(looked_at, labelled) if parts.judge else None
        entropy = parts.mprm.start("image_entropy", looked_at) if parts.looks_at_images else None
        _ask(config, parts, progress, last=step + config.max_staleness)

        # 5. The counts label the steps, and the buffer keeps the informative rollouts.
        with clock("annotate"):
            annotation.receive(continuations.result())
            while requests := annotation.requests():
                annotation.receive(parts.engines.sample(requests).result())
        with clock("judge"):
            counts, judge_metrics = join_verdicts(config, labelled, annotation.counts(), verdicts, monitor.say)
        with clock("select"):
            annotated = [Annotated(*entry) for entry in zip(looked_at, labelled, counts, strict=True)]
            generator = np.random.default_rng(derive_seed(config.seed, "select", step))
            candidates = gather_candidates(
                annotated, [scores[i] for i in chosen], entropy.result() if entropy else None, generator
            )
            informative = apply_selector(f"selection.selector {config.selection.selector}", parts.selector, candidates)
            for_learning = parts.held_back.split(annotated)
            offered = parts.buffer.offer([annotated[i] for i in for_learning], informative[for_learning])

        # 6. Every few steps the MPRM trains on what the buffer kept.
        with clock("teach"):
            due = (step + 1) % config.mprm.every == 0 and len(parts.buffer) > 0
            lesson = _teach(config, parts) if due else None
            answer_lesson = parts.answers.teach(step, prompts, rollouts)

        # 7. The new weights go back to the engines, behind whatever they are sampling.
        with clock("learn"):
            policy = update.result()
        with clock("sync"):
            progress.step = progress.engine_version = step + 1
            loading = parts.engines.load_weights(parts.learner.start("weights"), progress.engine_version)
        with clock("teach"):
            taught = lesson.result() if lesson else {}
            taught_answers = answer_lesson.result() if answer_lesson else {}
        bill = annotation.bill(clock.seconds("annotate"))
        progress.count(bill)

        # 8. What happened is written down.
        monitor.step(
            progress.step,
            clock.metrics()
            | {"perf/staleness": float(staleness), "perf/prompts_asked": float(progress.cursor)}
            | {"reward/dropped": float(dropped)}
            | reward_metrics(rollouts, scores, counts, chosen)
            | group("reward", answer_metrics)
            | group("reward", {f"model_{name}": value for name, value in taught_answers.items()})
            | judge_metrics
            | annotation_metrics(bill, counts, labelled)
            | group("policy", policy)
            | selection_metrics(candidates, informative, parts.buffer)
            | group("selection", offered)
            | group("mprm", taught),
        )
        monitor.distribution(progress.step, "selection/scores_offered", informative)
        monitor.distribution(progress.step, "selection/scores_kept", parts.buffer.kept_scores())
        monitor.samples(progress.step, prompts, rollouts, scores)
        with clock("sync"):
            for answer in loading:
                answer.result()
        if progress.step < config.steps:
            evaluations.after(progress.step)
        if is_due(config.checkpoint_every, progress.step) and progress.step < config.steps:
            progress.save(config, parts)


def _ask(config: Config, parts: Parts, progress: Progress, last: int) -> None:
    """Ask the engines for the batches up to policy step ``last`` that are not yet asked for, if staleness allows."""
    last = min(last, config.steps - 1)
    while progress.asked <= last and parts.gate.may_sample(progress.asked, progress.engine_version):
        prompts = [parts.task.prompt("train", progress.cursor + i) for i in range(config.learner.prompts)]
        requests = rollout_requests(prompts, config.learner.samples, config.seed, "rollout", progress.asked)
        progress.upcoming.append(Batch(progress.cursor, prompts, parts.engines.sample(requests)))
        progress.cursor += config.learner.prompts
        progress.asked += 1


def _teach(config: Config, parts: Parts) -> Pending[dict[str, float]]:
    """Begin an update of the MPRM, watched by its guard."""
    samples = parts.buffer.draw(config.mprm.lesson_size)
    return parts.mprm.start("update", samples, parts.held_back.entries(), config.mprm.guard_margin)


def _choose(config: Config, step: int, rollouts: Sequence[Rollout]) -> list[int]:
    """The places of the rollouts to annotate: a random share of those that have steps, in order."""
    generator = np.random.default_rng(derive_seed(config.seed, "annotate", step))
    size = int(np.ceil(len(rollouts) * config.annotation.share))
    chosen = generator.choice(len(rollouts), size=size, replace=False).tolist()
    return sorted(place for place in chosen if rollouts[place].steps)


def _annotation(
    config: Config,
    parts: Parts,
    prompts: Sequence[Prompt],
    rollouts: Sequence[Rollout],
    scores: Sequence[StepScores],
    chosen: Sequence[int],
) -> Annotation:
    """The labelling of the chosen rollouts; the others of their groups are evidence by their outcomes."""
    by_mprm = config.annotation.budget == "triage" and config.annotation.triage_by == "mprm"
    others = sorted(set(range(len(rollouts))) - set(chosen))
    return Annotation(
        [rollouts[i] for i in chosen],
        [prompts[i] for i in chosen],
        parts.budget,
        parts.encoder.decode,
        parts.verifier,
        config.seed,
        scores=[scores[i] for i in chosen] if by_mprm else None,
        siblings=[rollouts[i] for i in others],
    )
