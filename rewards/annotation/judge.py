"""A vision-language judge behind any OpenAI-compatible endpoint: asked in the background, paid for by the token.

A judge is a second witness beside Monte-Carlo counts, never a part that a run depends on. Whatever goes wrong with it
costs a verdict, is counted by its reason, and raises nothing:

    unreachable   no connection, or one that broke     empty, unparseable   no verdict in the answer
    timeout       no answer in time                    out_of_range         a step that is not there
    rejected      HTTP 4xx                             refused              the model would not, or a filter did
    server_error  HTTP 5xx                             truncated            the answer was cut off before its verdict
    malformed     no chat completion in the reply      deadline             not done when the batch's time was up
    given_up      not asked, because ``patience`` rollouts in a row had got no reply
    broken        anything else, on our own side

The library's own retries, with growing pauses, stand behind the first four; a rollout fails after the last of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np

from rewards.annotation.judge_config import JudgeConfig
from rewards.annotation.verdicts import NoVerdictError, answer_format, parse_verdict, question, step_verdicts
from rewards.endpoints.answer_cache import AnswerCache
from rewards.endpoints.asking import image_part, make_client, problem_in_words, reason_of
from rewards.models.steps import step_texts
from rewards.records import Prompt, Rollout
from rewards.seeds import derive_seed

if TYPE_CHECKING:
    import openai

NO_REPLY = ("unreachable", "timeout", "rejected", "server_error")
LONGEST_REST = 16
MOST_TOKENS = 2**31
"""Of one call; a server that says more does not count."""


@dataclass
class Judgement:
    """What came of a batch of B rollouts.

    Attributes:
        verdicts: For each rollout (K,): 1 right, 0 wrong, NaN unknown; see `rewards.annotation.verdicts.step_verdicts`.
        judged: Rollouts with a verdict, from the judge or from the cache.
        cached: Those from the cache.
        failures: Rollouts without one although they were to be judged, by reason.
        problem: The last failure in words; empty without one. The API key is not in it.
        calls: Replies of the judge, usable or not.
        prompt_tokens, completion_tokens: What they took, as the endpoint counts.
        cost: Their price.
        cache_failed: Whether the cache could not be used.
    """

    verdicts: list[np.ndarray]
    judged: int = 0
    cached: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    problem: str = ""
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    cache_failed: bool = False


class Judge:
    """Judges batches of rollouts, one batch after another.

    An endpoint that a batch gave up on is left alone for the next batch; if it is still silent then, for the next two,
    four, and so on up to `LONGEST_REST`. What the cache knows is answered all the same.

    Args:
        settings: Whom to ask, and how; no verdict is remembered where its ``cache`` is None.
        decode: The text of completion tokens.
        api_key: Sent with every request, and written nowhere; None where the endpoint wants none.
    """

    def __init__(
        self, settings: JudgeConfig, decode: Callable[[Sequence[int]], str], api_key: str | None = None
    ) -> None:
        self._settings, self._decode = settings, decode
        self._key = api_key or "no-key"
        self._rest = self._next_rest = 0

    def start(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> Future[Judgement]:
        """Begin to judge rollouts, given the prompt of each, in a thread of its own. ``result()`` waits for it, at most
        the batch's deadline, and raises nothing."""
        answer: Future[Judgement] = Future()
        judgement = Judgement([np.full(len(rollout.steps), np.nan) for rollout in rollouts])

        def broken(error: BaseException) -> None:
            judgement.failures["broken"] += 1
            judgement.problem = problem_in_words("broken", error, self._key)

        def work() -> None:
            try:
                asyncio.run(self._judge(prompts, rollouts, judgement))
            except BaseException as error:  # a judge that breaks in a new way must not stop the run either
                broken(error)
            answer.set_result(judgement)

        try:
            Thread(target=work, name="judge", daemon=True).start()
        except RuntimeError as error:  # no more threads
            broken(error)
            answer.set_result(judgement)
        return answer

    def state(self) -> dict[str, int]:
        """How long the endpoint is to be left alone, for a run that goes on later."""
        return {"rest": self._rest, "next_rest": self._next_rest}

    def restore(self, state: Mapping[str, int]) -> None:
        """Go on from a `state`."""
        self._rest, self._next_rest = (min(max(int(state[name]), 0), LONGEST_REST) for name in ("rest", "next_rest"))

    async def _judge(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout], judgement: Judgement) -> None:
        settings = self._settings
        asked = [place for place, rollout in enumerate(rollouts) if self._is_asked(rollout)]
        if not asked:
            return
        resting, self._rest = self._rest > 0, max(0, self._rest - 1)
        client = make_client(settings, self._key)
        path = Path(settings.cache) if settings.cache is not None else None
        with AnswerCache(path, "verdicts", "first_wrong integer") as cache:
            async with client:
                silent = settings.patience if resting else 0
                batch = _Batch(settings, self._decode, client, cache, judgement, silent)
                work = [asyncio.create_task(batch.judge(place, prompts[place], rollouts[place])) for place in asked]
                _, late = await asyncio.wait(work, timeout=settings.deadline)
                for task in late:
                    task.cancel()
                    judgement.failures["deadline"] += 1
                await asyncio.gather(*late, return_exceptions=True)
            judgement.cache_failed = cache.failed
        if not resting:
            gave_up = batch.silent >= settings.patience
            self._next_rest = min(2 * self._next_rest or 1, LONGEST_REST) if gave_up else 0
            self._rest = self._next_rest

    def _is_asked(self, rollout: Rollout) -> bool:
        drawn = derive_seed("judge", rollout.prompt_id, rollout.token_ids) < self._settings.share * 2**31
        return drawn and any(span.kind in self._settings.kinds for span in rollout.steps)


@dataclass
class _Batch:
    """One batch on its way. ``silent`` counts the rollouts in a row that got no reply."""

    settings: JudgeConfig
    decode: Callable[[Sequence[int]], str]
    client: openai.AsyncOpenAI
    cache: AnswerCache
    judgement: Judgement
    silent: int

    def __post_init__(self) -> None:
        self._room = asyncio.Semaphore(self.settings.concurrency)
        self._images: dict[str, list[dict[str, Any]]] = {}

    async def judge(self, place: int, prompt: Prompt, rollout: Rollout) -> None:
        """Find the verdict on one rollout, or count the failure."""
        async with self._room:
            try:
                first_wrong = await self._find(prompt, rollout)
            except Exception as error:  # whatever is wrong with one rollout, the others have their verdicts
                self._fail("broken", error)
                return
        if first_wrong is not None:
            self.judgement.judged += 1
            self.judgement.verdicts[place] = step_verdicts(first_wrong, len(rollout.steps))

    async def _find(self, prompt: Prompt, rollout: Rollout) -> int | None:
        """The first wrong step, as the cache or the judge says; None if neither does."""
        steps = step_texts(rollout, self.decode)
        content = self._content(prompt, steps)
        key = hashlib.blake2b(json.dumps([self.settings.model, content]).encode(), digest_size=24).hexdigest()
        known = self.cache.get(key)
        if isinstance(known, int) and 0 <= known <= len(steps):
            self.judgement.cached += 1
            return known
        first_wrong = await self._ask(content, len(steps))
        if first_wrong is not None:
            self.cache.put(key, first_wrong)
        return first_wrong

    async def _ask(self, content: list[dict[str, Any]], steps: int) -> int | None:
        import openai

        if self.silent >= self.settings.patience:
            self.judgement.failures["given_up"] += 1
            return None
        try:
            reply = await self.client.chat.completions.create(
                model=self.settings.model,
                messages=[{"role": "user", "content": content}],  # type: ignore[list-item,misc]
                max_completion_tokens=self.settings.max_tokens,
                temperature=openai.omit if self.settings.temperature is None else self.settings.temperature,
                response_format=answer_format(steps) if self.settings.structured else openai.omit,  # type: ignore[arg-type]
            )
            self.silent = 0
            self._count(reply.usage)
            return self._read(reply.choices[0], steps)
        except NoVerdictError as error:
            self._fail(error.reason, error)
        except Exception as error:  # the library and a server that talks nonsense raise many kinds
            reason = reason_of(error)
            self.silent = self.silent + 1 if reason in NO_REPLY else 0
            self._fail(reason, error)
        return None

    def _read(self, choice: Any, steps: int) -> int:
        if choice.message.refusal or choice.finish_reason == "content_filter":
            raise NoVerdictError("refused", f"the judge refused: {choice.message.refusal}")
        try:
            return parse_verdict(choice.message.content or "", steps)
        except NoVerdictError as error:
            if choice.finish_reason == "length":
                raise NoVerdictError("truncated", f"cut off at {self.settings.max_tokens} tokens: {error}") from None
            raise

    def _count(self, usage: Any) -> None:
        self.judgement.calls += 1
        asked, answered = (_tokens(getattr(usage, name, None)) for name in ("prompt_tokens", "completion_tokens"))
        self.judgement.prompt_tokens += asked
        self.judgement.completion_tokens += answered
        self.judgement.cost += (self.settings.price_input * asked + self.settings.price_output * answered) / 1e6

    def _fail(self, reason: str, error: Exception) -> None:
        self.judgement.failures[reason] += 1
        self.judgement.problem = problem_in_words(reason, error, self.client.api_key)

    def _content(self, prompt: Prompt, steps: list[str]) -> list[dict[str, Any]]:
        if prompt.id not in self._images:
            self._images[prompt.id] = [image_part(image) for image in prompt.images]
        text = question(prompt, steps, self.settings.with_answer)
        return [*self._images[prompt.id], {"type": "text", "text": text}]


def _tokens(said: Any) -> int:
    """As many as a server says, which may say anything; 0 where that is no number of tokens."""
    return said if type(said) is int and 0 <= said <= MOST_TOKENS else 0
