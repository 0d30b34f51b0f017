"""A served reward model where a run has its MPRM: asked in the background, and never taught."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards.records import Prompt, Rollout, StepScores
from rewards.served.step_scores import ServedModelError, ServedPRM
from rl.config import Config
from rl.config.api_keys import api_key
from rl.errors import WorkerError
from rl.reward_models.mprm import AbsentMPRM
from rl.workers.pending import Pending

CACHE = "served.sqlite"


class ServedMPRM(AbsentMPRM):
    """Answers like the MPRM's worker, from this process: its scores come from a server, and nothing is kept.

    Args:
        model: What asks the server.
    """

    def __init__(self, model: ServedPRM) -> None:
        self._model = model
        self._asking = ThreadPoolExecutor(1, "served reward model")

    def start(self, method: str, *arguments: Any) -> Pending[Any]:
        """Like `rl.workers.worker.Worker.start`, of `AbsentMPRM`'s methods."""
        return _Asked(self._asking.submit(getattr(self, method), *arguments))

    def call(self, method: str, *arguments: Any) -> Any:
        """Like `rl.workers.worker.Worker.call`."""
        return self.start(method, *arguments).result()

    def score(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> list[StepScores]:
        """See `rewards.served.step_scores.ServedPRM.score`."""
        return self._model.score(prompts, rollouts)


@dataclass(frozen=True)
class _Asked:
    """An answer on its way from a server."""

    answer: Future[Any]

    def result(self) -> Any:
        try:
            return self.answer.result()
        except ServedModelError as error:
            raise WorkerError(f"the served reward model: {error}") from None


def make_served(config: Config, decode: Callable[[Sequence[int]], str], folder: Path) -> ServedMPRM | None:
    """The served reward model that the configuration names, if it names one; its cache is in the run folder unless it
    says where.

    Raises:
        ConfigError: The environment does not hold the key.
    """
    served = config.served
    if served.endpoint is None:
        return None
    key = api_key(served, "served")
    cache = served.cache if served.cache is not None else str(folder / CACHE)
    return ServedMPRM(ServedPRM(served.model_copy(update={"cache": cache}), decode, key))
