"""The online loop: one controller; the workers do the work.

prompts -> engines -> rollouts -> MPRM -> step scores -> credit -> advantages -> learner -> new weights -> engines
              |                    ^
              +-> continuations -> step counts -> buffer, every few steps
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rewards.annotator import continuation_requests, count_correct
from rewards.records import Annotated, Experience, StepScores
from rewards.seeds import derive_seed
from rl.config import Config
from rl.evaluation import evaluate
from rl.experiment import Parts
from rl.metrics import StageClock, annotation_metrics, group, reward_metrics
from rl.monitor import Monitor
from rl.progress import Batch, Progress, is_due
from rl.rollouts import make_rollouts, rollout_requests


def run(config: Config, parts: Parts, progress: Progress, monitor: Monitor, stop: Callable[[], bool]) -> None:
    """Train from where ``progress`` stands to ``config.steps``, or until ``stop()`` says so after a step.

    Raises:
        WorkerError: A worker died, raised, or did not answer in time.
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

        # 2. The MPRM scores every step of every rollout.
        with clock("score"):
            scores: list[StepScores] = parts.mprm.call("score", prompts, rollouts)

        # 3. Scores and outcomes become one advantage a token, and the policy takes its step …
        with clock("credit"):
            advantages = parts.credit(rollouts, [scored.scores for scored in scores])
            experiences = [
                Experience(prompt, rollout.token_ids, rollout.logprobs, advantage, rollout.policy_version)
                for prompt, rollout, advantage in zip(prompts, rollouts, advantages, strict=True)
            ]
        update = parts.learner.start("step", experiences)

        # 4. … while the engines continue some rollouts from each of their steps, and then sample what comes next.
        chosen = _choose(config, step, len(rollouts))
        asked, continued = [prompts[i] for i in chosen], [rollouts[i] for i in chosen]
        requests = continuation_requests(continued, asked, config.annotation.continuations, config.seed)
        continuations = parts.engines.sample(requests)
        _ask(config, parts, progress, last=step + config.max_staleness)

        # 5. The counts label the steps, and the buffer keeps the informative rollouts.
        with clock("annotate"):
            completions = continuations.result()
            counts = count_correct(continued, asked, completions, parts.encoder.decode, parts.verifier)
            annotated = [Annotated(*entry) for entry in zip(asked, continued, counts, strict=True)]
        with clock("select"):
            selection = parts.buffer.offer(annotated)

        # 6. Every few steps the MPRM trains on what the buffer kept.
        with clock("teach"):
            due = (step + 1) % config.mprm.every == 0 and len(parts.buffer) > 0
            lesson = parts.mprm.start("train", parts.buffer.draw(config.mprm.lesson_size)) if due else None

        # 7. The new weights go back to the engines, behind whatever they are sampling.
        with clock("learn"):
            policy = update.result()
        with clock("sync"):
            progress.step = progress.engine_version = step + 1
            loading = parts.engines.load_weights(parts.learner.start("weights"), progress.engine_version)
        with clock("teach"):
            taught = lesson.result() if lesson else {}
        progress.count(completions)

        # 8. What happened is written down.
        monitor.step(
            progress.step,
            clock.metrics()
            | {"perf/staleness": float(staleness), "perf/prompts_asked": float(progress.cursor)}
            | {"reward/dropped": float(dropped)}
            | reward_metrics(rollouts, scores, counts, chosen)
            | annotation_metrics(completions)
            | group("policy", policy)
            | group("selection", selection | parts.buffer.shares())
            | group("mprm", taught),
        )
        monitor.samples(progress.step, prompts, rollouts, scores)
        with clock("sync"):
            for answer in loading:
                answer.result()
        if is_due(config.evaluation.every, progress.step) and progress.step < config.steps:
            monitor.evaluation(progress.step, evaluate(config, parts))
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


def _choose(config: Config, step: int, rollouts: int) -> list[int]:
    """The places of the rollouts to annotate: a random share of them, in order."""
    generator = np.random.default_rng(derive_seed(config.seed, "annotate", step))
    size = int(np.ceil(rollouts * config.annotation.share))
    return sorted(generator.choice(rollouts, size=size, replace=False).tolist())
