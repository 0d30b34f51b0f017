"""Step scores from a process reward model that others serve: by vLLM's pooling endpoint, or from a judge.

`pooling` posts each rollout as a conversation, question and pictures from the user, and the steps from the assistant,
    each with ``step_marker`` after it; the answer has a row of numbers for each step. That is how vLLM serves reward
    models whose pooler reads at step markers.
`judge` asks `rewards.annotation.judge` for the first wrong step: steps before it score 1, it and those after it 0, as
    of a solution that is right up to there, or is not.

Credit cannot be given without scores. So what costs a judge of labels a verdict ends this: in one line that names the
URL and says what came. The cache keeps what was answered until then.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rewards.annotation.judge import Judge
from rewards.annotation.judge_config import JudgeConfig
from rewards.endpoints.answer_cache import AnswerCache
from rewards.endpoints.asking import image_part, make_client, problem_in_words, reason_of
from rewards.endpoints.config import EndpointConfig
from rewards.endpoints.served_config import ServedConfig
from rewards.files.json_text import read_json
from rewards.models.steps import step_texts
from rewards.records import Prompt, Rollout, StepScores

if TYPE_CHECKING:
    import openai

SHOWN = 80
"""Characters of an answer that are shown where it is no scores."""


class ServedModelError(RuntimeError):
    """A served reward model gave no scores; the message names the URL and says what came, in one line."""


class ServedPRM:
    """Scores steps as `rewards.process_model.mprm.MPRM` does; its version is always 0.

    Args:
        settings: Whom to ask, and how.
        decode: The text of a rollout's tokens.
        api_key: Sent with every request, and written nowhere; None where the server wants none.
    """

    def __init__(
        self, settings: ServedConfig, decode: Callable[[Sequence[int]], str], api_key: str | None = None
    ) -> None:
        self._settings, self._decode, self._key = settings, decode, api_key or "no-key"
        asked = settings.model_dump(include=set(EndpointConfig.model_fields))
        self._judge = Judge(JudgeConfig(**asked), decode, api_key)

    def score(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[StepScores]:
        """The probability that each step is right, as the server says.

        Raises:
            ServedModelError: A rollout has none.
        """
        ask = self._judged if self._settings.interface == "judge" else self._pooled
        return [StepScores(scores, mprm_version=0) for scores in ask(prompts, rollouts)]

    def _judged(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[np.ndarray]:
        judgement = self._judge.start(prompts, rollouts).result()
        if judgement.failures:
            left = f" ({judgement.failures.total()} of {len(rollouts)} rollouts have no verdict)"
            problem = judgement.problem or f"deadline: not done after {self._settings.deadline:g} s"
            raise ServedModelError(f"{self._settings.endpoint}: {problem}{left}")
        return [np.nan_to_num(verdicts, nan=0.0) for verdicts in judgement.verdicts]

    def _pooled(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[np.ndarray]:
        return asyncio.run(self._ask_all(prompts, rollouts))

    async def _ask_all(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[np.ndarray]:
        settings, room = self._settings, asyncio.Semaphore(self._settings.concurrency)
        path = Path(settings.cache) if settings.cache is not None else None
        with AnswerCache(path, "scores", "scores text") as cache:
            async with make_client(settings, self._key) as client:

                async def ask(prompt: Prompt, rollout: Rollout) -> np.ndarray:
                    async with room:
                        return await self._ask(client, cache, prompt, rollout)

                try:
                    async with asyncio.timeout(settings.deadline):
                        return await asyncio.gather(*map(ask, prompts, rollouts))
                except TimeoutError:
                    raise self._error(f"deadline: not done after {settings.deadline:g} s") from None

    async def _ask(
        self, client: openai.AsyncOpenAI, cache: AnswerCache, prompt: Prompt, rollout: Rollout
    ) -> np.ndarray:
        steps = [step.strip() for step in step_texts(rollout, self._decode)]
        if not steps:
            return np.zeros(0)
        body = self._body(prompt, steps)
        key = hashlib.blake2b(json.dumps([self._settings.column, body]).encode(), digest_size=24).hexdigest()
        known = _known(cache.get(key), len(steps))
        if known is not None:
            return known
        try:
            reply = await client.post("/pooling", cast_to=str, body=body)
        except Exception as error:  # the library's own kinds
            raise self._error(problem_in_words(reason_of(error), error, self._key)) from None
        scores = self._read(reply, len(steps))
        cache.put(key, json.dumps(scores.tolist()))
        return scores

    def _body(self, prompt: Prompt, steps: Sequence[str]) -> dict[str, Any]:
        marker, system = self._settings.step_marker, self._settings.system
        pictures = [image_part(image) for image in prompt.images]
        messages = [
            *([{"role": "system", "content": system}] if system is not None else []),
            {"role": "user", "content": [*pictures, {"type": "text", "text": prompt.question}]},
            # A step that spells the marker would count twice.
            {"role": "assistant", "content": "".join(step.replace(marker, "") + marker for step in steps)},
        ]
        return {"model": self._settings.model, "messages": messages, "encoding_format": "float"}

    def _read(self, content: str, steps: int) -> np.ndarray:
        """The scores of the steps in an answer.

        Raises:
            ServedModelError: They are not there, not one a step, or no probabilities.
        """
        try:
            (entry,) = read_json(content)["data"]
            rows = np.array(entry["data"], dtype=float)
        except (ValueError, TypeError, LookupError, OverflowError):
            raise self._error(f"malformed: {content[:SHOWN]!r}, and not scores as of /pooling") from None
        if rows.ndim < 2:
            rows = rows.reshape(-1, 1)
        if len(rows) != steps:
            raise self._error(
                f"wrong count: {len(rows)} scores for {steps} steps; allowed is one at each "
                f"{self._settings.step_marker!r}"
            )
        if rows.ndim != 2 or not -rows.shape[1] <= self._settings.column < rows.shape[1]:
            raise self._error(f"wrong count: scores of shape {list(rows.shape)} have no column {self._settings.column}")
        scores = rows[:, self._settings.column]
        if not _are_shares(scores):
            step = int(np.argmin((scores >= 0) & (scores <= 1)))
            raise self._error(f"out of range: step {step + 1} has a score of {scores[step]:g}; allowed is 0 to 1")
        return scores

    def _error(self, problem: str) -> ServedModelError:
        return ServedModelError(f"{str(self._settings.endpoint).rstrip('/')}/pooling: {problem}")


def _known(answer: object, steps: int) -> np.ndarray | None:
    """The scores that a cache has of so many steps; None where it has none, or its file is damaged."""
    try:
        scores = np.array(read_json(answer), dtype=float) if isinstance(answer, str) else None
    except (ValueError, TypeError, OverflowError):
        return None
    return scores if scores is not None and scores.shape == (steps,) and _are_shares(scores) else None


def _are_shares(scores: np.ndarray) -> bool:
    """Written so that it is false with NaN among them."""
    return bool(((scores >= 0) & (scores <= 1)).all())
