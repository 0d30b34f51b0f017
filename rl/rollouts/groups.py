"""The rollouts of one prompt while they are written, perhaps in several segments, and the rounds that write them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rewards.files.images import image_digest
from rewards.records import Belief, Completion, Prompt, Rollout, SamplingRequest
from rewards.seeds import derive_seed
from rl.errors import ConfigError, MixedGroupError
from rl.workers.pending import Pending, Ready
from selection.rows import Whole


@dataclass(frozen=True)
class Judged:
    """What verifier and further rewards said of a rollout: fields of it."""

    outcome: float
    score: float | None
    added: float
    said: dict[str, float]

    @staticmethod
    def of(rollout: Rollout) -> Judged:
        """Those of a rollout."""
        return Judged(rollout.outcome, rollout.score, rollout.added, dict(rollout.said))


@dataclass
class Group:
    """The rollouts of one prompt: fresh, then open while any of them may go on, then finished.

    Attributes:
        number: Of the prompts that were asked before it; also `rewards.records.Rollout.group`.
        prompt: What they answer.
        index: The prompt's place in the task's order.
        samples: Of each rollout the segments written so far, in order; empty before the first round.
        rollouts: The finished rollouts, without those that cannot be read; empty before.
        believed: Of the prompt, before this group of it was answered; None where nobody believes anything.
        judged: What was said of each finished rollout, in a group that a checkpoint held; else None.
    """

    number: int
    prompt: Prompt
    index: int
    samples: list[list[Completion]] = field(default_factory=list)
    rollouts: list[Rollout] = field(default_factory=list)
    believed: Belief | None = None
    judged: list[Judged] | None = field(default=None, compare=False)

    @property
    def is_finished(self) -> bool:
        """Whether no rollout may go on."""
        return bool(self.samples) and not self.open

    @property
    def version(self) -> int:
        """The weights that began the rollouts: the oldest among the versions of their tokens."""
        return self.samples[0][0].policy_version

    @property
    def has_signal(self) -> bool:
        """Whether the verifier calls some rollouts right and others wrong."""
        return len({rollout.outcome for rollout in self.rollouts}) > 1

    @property
    def open(self) -> list[int]:
        """The places of the rollouts that may go on."""
        return [place for place, segments in enumerate(self.samples) if segments[-1].finish_reason == "segment"]

    def requests(self, samples: int, max_tokens: int | None, *seed: object) -> list[SamplingRequest]:
        """What to ask the engines for next: ``samples`` fresh rollouts at once, or the rest of each that may go on.

        ``seed`` and the prompt's id decide what comes, and which rollout it is, if it goes on.
        """
        seeds = [*seed, self.prompt.id]
        if not self.samples:
            return [SamplingRequest(self.prompt, n=samples, seed=derive_seed(*seeds), max_tokens=max_tokens)]
        return [
            SamplingRequest(
                self.prompt, _written(self.samples[place]), seed=derive_seed(*seeds, place), max_tokens=max_tokens
            )
            for place in self.open
        ]

    def receive(self, answers: Sequence[Sequence[Completion]], version: int) -> None:
        """The engines' answers to `requests`, in their order, which ``version`` was asked for.

        Raises:
            MixedGroupError: Other weights have answered.
        """
        for completion in (completion for answer in answers for completion in answer):
            if completion.policy_version != version:
                raise MixedGroupError(
                    f"group {self.number} ({self.prompt.id}) was asked of policy version {version}, and version "
                    f"{completion.policy_version} answered: rollouts of different weights must not be compared"
                )
        if not self.samples:
            self.samples = [[completion] for completion in answers[0]]
            return
        for place, (completion,) in zip(self.open, answers, strict=True):
            self.samples[place].append(completion)

    def completions(self) -> list[Completion]:
        """The finished rollouts, each in one piece, of the version that began it."""
        return [
            Completion(
                _written(segments),
                tuple(value for segment in segments for value in segment.logprobs),
                segments[-1].finish_reason,
                segments[0].policy_version,
            )
            for segments in self.samples
        ]

    def tokens(self) -> tuple[int, int]:
        """Tokens so far, and those of them that are not of the newest weights that wrote at their rollout."""
        sizes = [
            (len(s.token_ids), s.policy_version == segments[-1].policy_version)
            for segments in self.samples
            for s in segments
        ]
        return sum(size for size, _ in sizes), sum(size for size, newest in sizes if not newest)

    def state(self) -> dict[str, Any]:
        """Plain JSON; the prompt and the finished rollouts follow from it, with what was said of these."""
        samples = [[dataclasses.asdict(segment) for segment in segments] for segments in self.samples]
        believed = None if self.believed is None else list(self.believed)
        known = {"number": self.number, "index": self.index, "prompt": _digest(self.prompt)}
        judged = [dataclasses.asdict(Judged.of(rollout)) for rollout in self.rollouts] if self.is_finished else None
        return known | {"samples": samples, "believed": believed, "judged": judged}

    @classmethod
    def restore(cls, state: dict[str, Any], prompt: Callable[[int], Prompt]) -> Group:
        """What `state` described.

        Raises:
            ConfigError: There is another prompt in that place now.
        """
        kept = msgspec.convert(state, _KeptGroup)
        index = kept.number if kept.index is None else kept.index
        found = prompt(index)
        if _digest(found) != kept.prompt:
            raise ConfigError(
                f"task: training prompt {index} ({found.id}) is not the one that rollouts of the checkpoint answer: "
                "allowed with --resume are the same prompts in the same order, so a row is mended in its place"
            )
        return cls(kept.number, found, index, kept.samples, believed=kept.believed, judged=kept.judged)


@dataclass(frozen=True)
class _KeptGroup:
    """A group's state; number and index were the same before prompts could be chosen, and nothing was believed."""

    number: Whole
    prompt: str
    samples: list[Annotated[list[Completion], Meta(min_length=1)]]
    index: Whole | None = None
    believed: Belief | None = None
    judged: list[Judged] | None = None


@dataclass(frozen=True)
class Round:
    """Groups that the engines are writing at, all of them with the same weights.

    Attributes:
        version: Those weights.
        groups: Fresh ones and open ones.
        answers: The completions that each of their requests will get, in the order of groups and requests.
        is_fresh: Whether new prompts are among them.
    """

    version: int
    groups: list[Group]
    answers: Pending[list[list[Completion]]]
    is_fresh: bool

    def receive(self) -> int:
        """Wait for the answers, and give each group its own.

        Returns:
            Tokens that came.

        Raises:
            MixedGroupError: Other weights have answered.
        """
        answers = self.answers.result()
        start = 0
        for group in self.groups:
            end = start + max(1, len(group.open))
            group.receive(answers[start:end], self.version)
            start = end
        return sum(len(completion.token_ids) for answer in answers for completion in answer)

    def state(self) -> dict[str, Any]:
        """Plain JSON; waits for the answers, since no later weights could give them again."""
        answers = [[dataclasses.asdict(c) for c in answer] for answer in self.answers.result()]
        groups = [group.state() for group in self.groups]
        return {"version": self.version, "groups": groups, "answers": answers, "is_fresh": self.is_fresh}

    @classmethod
    def restore(cls, state: dict[str, Any], prompt: Callable[[int], Prompt]) -> Round:
        """What `state` described.

        Raises:
            ConfigError: There is another prompt in a place now.
            ValueError, IndexError: No round has such a state.
        """
        kept = msgspec.convert(state, _KeptRound)
        groups = [Group.restore(entry, prompt) for entry in kept.groups]
        asked = sum(max(1, len(group.open)) for group in groups)
        if len(kept.answers) != asked or not all(kept.answers):
            raise ValueError(f"a round has {len(kept.answers)} answers to {asked} requests; allowed is one to each")
        return cls(kept.version, groups, Ready(kept.answers), kept.is_fresh)


@dataclass(frozen=True)
class _KeptRound:
    """A round's state."""

    version: Whole
    groups: list[dict[str, Any]]
    answers: list[list[Completion]]
    is_fresh: bool


def _digest(prompt: Prompt) -> str:
    """Of what is asked, what is right, and the pictures; a file's ids are places, and say nothing of it."""
    known_by = (prompt.question, prompt.answer, [image_digest(image) for image in prompt.images])
    return hashlib.sha256(repr(known_by).encode(errors="surrogatepass")).hexdigest()


def _written(segments: Sequence[Completion]) -> tuple[int, ...]:
    return tuple(token for segment in segments for token in segment.token_ids)
