"""A configuration tried in this process, without Ray: the parts of the loop, one after the other, on a few prompts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from textwrap import shorten

import numpy as np

from rewards.annotation.annotator import Annotation
from rewards.files.held_folder import scratch_folder
from rewards.records import Prompt, PromptError, Rollout, StepCounts, StepScores
from rewards.users_code import UsersCodeError
from rewards.verification.answers import answer_reader
from rl.annotating.labelling import make_configured_budget
from rl.config import Config
from rl.engines.engine import RenewableEngine
from rl.engines.making import build_engine
from rl.errors import ConfigError
from rl.files.named_checkpoint import make_encoder
from rl.files.quiet import quiet_stderr
from rl.instruments.step_preview import Given, cut
from rl.instruments.trying.rendering import answer_ends, render
from rl.instruments.trying.trial import Boundary, Stage, Trial, TriedAnswer
from rl.learning.making import build_learner
from rl.monitoring.memory import memory_in_use
from rl.monitoring.warnings import unseen_pictures
from rl.reward_models.credit import make_credit
from rl.reward_models.mprm import build_mprm, check_mprm
from rl.reward_models.outcome import AnswerRewards, build_outcome_model, check_outcome_model
from rl.reward_models.served import make_served
from rl.rollouts.making import make_group, rollout_requests
from rl.tasks.making import make_added_rewards, make_task, make_verifier
from rl.workers.pending import Here, Starts
from rl.workers.weight_transfer import weights_for_engines

MOST_CONTINUATIONS = 4
LONGEST_FAILURE = 400
"""Characters of what a library says, which can be all names of a model."""
Waiting = Callable[[str], AbstractContextManager[None]]


def small(config: Config, prompts: int, samples: int) -> Config:
    """The experiment with a policy step of so many prompts and answers, in one process, and few continuations."""
    annotation = config.annotation
    fewer = min(annotation.continuations, MOST_CONTINUATIONS)
    return config.model_copy(
        update={
            "engine": config.engine.model_copy(
                update={"count": 1, "sleep": False, "segment_tokens": None, "weight_transfer": "object_store"}
            ),
            "learner": config.learner.model_copy(
                update={"prompts": prompts, "samples": samples, "ranks": 1, "sharding": "ddp"}
            ),
            "mprm": config.mprm.model_copy(update={"ranks": 1, "sharding": "ddp"}),
            "annotation": annotation.model_copy(
                update={"continuations": fewer, "probe": min(annotation.probe, fewer)},
            ),
        }
    )


class Tryout:
    """The parts that a trial is made with, and its stages in order.

    Args:
        config: The experiment; see `small`.

    Attributes:
        trial: What was seen so far.

    Raises:
        ConfigError: A part cannot be made; it is what a run would say.
    """

    def __init__(self, config: Config) -> None:
        self.config, self.trial = config, Trial()
        self._encoder = make_encoder(config)
        self.verifier = make_verifier(config)
        self._added = make_added_rewards(config)
        self._credit = make_credit(config, self._encoder.separators)
        check_mprm(config)
        check_outcome_model(config)
        self.task = make_task(config, self._encoder)
        self.trial.ends = answer_ends(self._encoder)
        self._read = answer_reader(config.task.verifier, self.verifier, config.task.answer_marker)
        self._prompts: list[Prompt] = []
        self._rollouts: list[Rollout] = []
        self._of: list[Prompt] = []
        self._scores: list[StepScores] = []
        self._counts: list[StepCounts | None] = []

    def run(self, waiting: Waiting) -> None:
        """Go through the stages; what ends one of them early ends the trial, and is its ``failure``."""
        config = self.config
        stages: list[tuple[str, Callable[[], None], bool]] = [
            ("prompts", self._render, True),
            ("engine", self._start_engine, True),
            ("answers", self._answer, True),
            ("learner", self._start_learner, True),
            ("log-probabilities", self._compare, True),
            ("MPRM", self._start_mprm, config.mprm.enabled),
            ("step scores", self._score, config.mprm.enabled),
            ("continuations", self._continue, config.annotation.share > 0),
            ("policy step", self._learn, True),
            ("new weights", self._send, True),
            ("answers after", self._compare_after, True),
        ]
        with scratch_folder() as self._scratch:  # for a served one's cache
            for name, stage, is_wanted in stages:
                if not is_wanted or self.trial.failure:
                    continue
                with waiting(name), self._in_words(name), self._timed(name), quiet_stderr(is_told=True):
                    stage()

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.trial.stages.append(Stage(name, time.perf_counter() - began, memory_in_use()))

    @contextmanager
    def _in_words(self, name: str) -> Iterator[None]:
        try:
            yield
        except (ConfigError, PromptError, UsersCodeError) as error:
            self.trial.failure = f"{name}: {error}"
        except Exception as error:  # engines, models and processors raise many kinds
            self.trial.failure = f"{name}: {type(error).__name__}: {shorten(str(error), LONGEST_FAILURE)}"

    def _render(self) -> None:
        self._prompts = [self.task.prompt("train", number) for number in range(self.config.learner.prompts)]
        most = max(len(prompt.images) for prompt in self._prompts)
        if blind := unseen_pictures(most, int(self._encoder.sees), self.config.policy.checkpoint):
            raise ConfigError(blind)
        self.trial.prompts = [render(self._encoder, prompt) for prompt in self._prompts]

    def _start_engine(self) -> None:
        self._engine: RenewableEngine = build_engine(self.config)

    def _answer(self) -> None:
        """What a run would ask first."""
        asked = rollout_requests(self._prompts, self.config.learner.samples, self.config.seed, "rollout", 0)
        completions = self._engine.sample(asked)
        for number, (prompt, samples) in enumerate(zip(self._prompts, completions, strict=True)):
            group = make_group(prompt, samples, number, self._encoder, self.verifier, self._added)
            self.trial.dropped += len(samples) - len(group)
            self.trial.answers.append([self._tried(prompt, rollout) for rollout in group])
            self._rollouts += group
            self._of += [prompt] * len(group)
        if not self._rollouts:
            raise ConfigError("all answers hold a placeholder of a picture, which no model could read back")

    def _tried(self, prompt: Prompt, rollout: Rollout) -> TriedAnswer:
        pieces = cut(self._encoder, Given("", rollout.text, rollout.token_ids)).pieces
        stated = self._read(rollout.text)
        return TriedAnswer(rollout, pieces, stated, verdict(rollout, stated, prompt.answer))

    def _start_learner(self) -> None:
        self._learner = build_learner(self.config)

    def _compare(self) -> None:
        found = self._differences(self._of, self._rollouts)
        for answer, difference in zip(self.trial.all_answers(), found, strict=True):
            answer.difference = difference
        self.trial.difference = max(found)

    def _differences(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[float]:
        """Of each answer, the largest difference of a token's log-probability between engine and learner."""
        read = self._learner.logprobs(prompts, [rollout.token_ids for rollout in rollouts])
        return [
            float(np.abs(np.subtract(learner, rollout.logprobs)).max())
            for learner, rollout in zip(read, rollouts, strict=True)
        ]

    def _start_mprm(self) -> None:
        served = make_served(self.config, self._encoder.decode, self._scratch)
        self._mprm: Starts = served or Here(build_mprm(self.config))

    def _score(self) -> None:
        self._scores = self._mprm.start("score", self._of, self._rollouts).result()
        for answer, scores in zip(self.trial.all_answers(), self._scores, strict=True):
            answer.scores = scores.scores.tolist()

    def _continue(self) -> None:
        """Label the steps of the first answer of each group that has any."""
        with_steps = [place for place, rollout in enumerate(self._rollouts) if rollout.steps]
        if not with_steps:
            return
        chosen = sorted({self._rollouts[place].group: place for place in reversed(with_steps)}.values())
        annotation = Annotation(
            [self._rollouts[place] for place in chosen],
            [self._of[place] for place in chosen],
            make_configured_budget(self.config),
            self._encoder.decode,
            self.verifier,
            self.config.seed,
            scores=[self._scores[place] for place in chosen] if self._scores else None,
            siblings=[rollout for place, rollout in enumerate(self._rollouts) if place not in chosen],
        )
        firsts: dict[tuple[int, int], str] = {}
        while requests := annotation.requests():
            completions = self._engine.sample(requests)
            for place, (first, *_) in zip(annotation.places(), completions, strict=True):
                firsts.setdefault(place, self._encoder.decode(first.token_ids))
            annotation.receive(completions)
        self._keep_counts(chosen, annotation, firsts)

    def _keep_counts(self, chosen: list[int], annotation: Annotation, firsts: dict[tuple[int, int], str]) -> None:
        answers = list(self.trial.all_answers())
        self._counts = [None] * len(answers)
        for row, (place, counts, drawn) in enumerate(
            zip(chosen, annotation.counts(), annotation.continuations(), strict=True)
        ):
            self._counts[place] = counts
            answers[place].boundaries = [
                Boundary(correct, sampled, firsts.get((row, step), ""), of[0].right if of else None)
                for step, (correct, sampled, of) in enumerate(
                    zip(counts.correct.tolist(), counts.sampled.tolist(), drawn, strict=True)
                )
            ]
        self.trial.labelled = len(chosen)

    def _learn(self) -> None:
        model = Here(build_outcome_model(self.config)) if self.config.outcome_model.is_used else None
        rewarded, _ = AnswerRewards(self.config, model).rewarded(self._of, self._rollouts)
        experiences = self._credit.experiences(self._of, rewarded, self._scores, self._counts)
        self.trial.learned = self._learner.step(experiences)

    def _send(self) -> None:
        # By a policy step's small changes alone an engine that leaves out what it is sent would seem right.
        self._learner.disturb()
        wanted = weights_for_engines(self.config)
        weights = getattr(self._learner, wanted)()
        load = self._engine.load_adapters if wanted == "adapters" else self._engine.load_weights
        load(weights, self._learner.version)

    def _compare_after(self) -> None:
        """An answer to each prompt by the new weights."""
        completions = self._engine.sample(rollout_requests(self._prompts, 1, self.config.seed, "rollout", 1))
        rollouts = [
            (prompt, rollout)
            for number, (prompt, samples) in enumerate(zip(self._prompts, completions, strict=True))
            for rollout in make_group(prompt, samples, number, self._encoder, self.verifier)
        ]
        if rollouts:
            self.trial.difference_after = max(self._differences(*zip(*rollouts, strict=True)))


def verdict(rollout: Rollout, stated: str | None, reference: str) -> str:
    """Whether it is right, and why.

    >>> from dataclasses import replace
    >>> rollout = Rollout("p", "s", 0, (5, 6), (0.0, 0.0), "Answer: 13", (), 0.0, "stop", 0)
    >>> verdict(rollout, "13", "12"), verdict(replace(rollout, finish_reason="length"), None, "12")
    ("wrong: it states '13', and '12' is right", 'wrong: it was cut off, and states no answer')
    """
    worth = f", worth {rollout.reward:.2g}" if rollout.score is not None or rollout.added else ""
    states = f"states {stated!r}" if stated is not None else "states no answer"
    if rollout.outcome > 0:
        return f"right: it {states}{worth}"
    cut_off = "was cut off, and " if rollout.finish_reason == "length" else ""
    wanted = f", and {reference!r} is right" if stated is not None else ""
    return f"wrong: it {cut_off}{states}{wanted}{worth}"
