"""An engine in the process that calls this, whose failures are told in one line."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.records import Completion, PromptError, SamplingRequest
from rl.config import Config
from rl.engines.engine import Engine
from rl.errors import ConfigError
from rl.experiment import build_engine
from rl.quiet import quiet_stderr


class SamplingError(RuntimeError):
    """The engine failed."""


class LocalEngine:
    """An `rl.engines.engine.Engine` as the configuration has it.

    Raises:
        SamplingError: It cannot be built.
    """

    def __init__(self, config: Config) -> None:
        try:
            with quiet_stderr():
                self._engine: Engine = build_engine(config, follows=False)
        except Exception as error:  # engines raise many kinds
            raise SamplingError(f"the engine cannot be built: {type(error).__name__}: {error}") from error

    @property
    def version(self) -> int:
        return self._engine.version

    def sample(self, requests: Sequence[SamplingRequest]) -> list[list[Completion]]:
        """See `rl.engines.engine.Engine.sample`.

        Raises:
            SamplingError: The engine failed.
            ConfigError: It does not take one of the prompts.
        """
        try:
            return self._engine.sample(requests)
        except PromptError as error:
            raise ConfigError(str(error)) from None
        except Exception as error:  # engines raise many kinds
            raise SamplingError(f"the engine failed: {type(error).__name__}: {error}") from error
