"""How the learner's weights come to the engines: by each of the routes of `rl.config.Config.weight_route`.

Engines take new weights behind what they were asked to sample, and before what they are asked for afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rl.config import Config
from rl.workers.answer import Answer, wait_for_all
from rl.workers.engine_pool import EnginePool
from rl.workers.group import WorkerGroup
from rl.workers.inline import InlineWorker
from rl.workers.pending import Pending
from rl.workers.worker import Worker


class WeightTransfer:
    """From one learner to all engines.

    Args:
        config: The experiment.
        learner: A worker with a `rl.learning.learner.PolicyLearner`.
        engines: As `rl.engines.making.build_engine` makes them for this configuration.

    Raises:
        WorkerError: Learner and engines do not find each other.
    """

    def __init__(self, config: Config, learner: Worker | WorkerGroup | InlineWorker, engines: EnginePool) -> None:
        self._config, self._learner, self._engines = config, learner, engines
        self._route = config.weight_route
        self._update: dict[str, Any] = {}
        self._together: list[Answer[Any]] = []
        if self._route == "nccl":
            # Whoever waits there for one that has failed answers nothing else, either.
            for worker in (learner, *engines.workers):
                worker.beside = self._together
        if self._route in ("nccl", "ipc"):
            self._meet(config.engine.tensor_parallel)

    def send(self, version: int) -> Sequence[Pending[int]]:
        """Begin to bring every engine the weights that the learner has now.

        With ``ipc`` the learner's own memory is read: all engines are waited for.

        Returns:
            One answer an engine: the version that it has then.
        """
        if self._route == "nccl":
            sent = self._learner.start("send_weights")
            received = self._engines.start_all("receive_weights", self._update, version)
            self._together[:] = [part for answer in (sent, *received) for part in answer.parts]
            return received
        if self._route == "ipc":
            handles = self._learner.start("send_weights")
            answers = self._engines.start_all("receive_weights", handles.reference, version)
            for answer in answers:
                answer.result()
            self._learner.call("release_weights")
            return answers
        weights = self._learner.start(weights_for_engines(self._config))
        return self._engines.start_all(f"load_{self._route}", weights.reference, version)

    def _meet(self, tensor_parallel: int) -> None:
        """Let the learner's first rank and every engine's GPUs open a connection: 0 and 1, 2, …"""
        receivers = len(self._engines) * tensor_parallel
        handshake, self._update = self._learner.call("offer_weights", self._route, receivers)
        places = range(1, 1 + receivers, tensor_parallel)
        met = self._learner.start("meet_engines")
        joined = self._engines.start_each("join_transfer", [(handshake, place) for place in places])
        wait_for_all([part for answer in (met, *joined) for part in answer.parts])


def weights_for_engines(config: Config) -> str:
    """Which of the learner's methods gives what engines load, where it does not go from GPU to GPU: adapters alone, or
    whole weights; vLLM has read the checkpoint's files, and Transformers has names of its own."""
    if config.weight_route == "adapters":
        return "adapters"
    return "checkpoint_weights" if config.engine.kind == "vllm" else "weights"
