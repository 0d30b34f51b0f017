"""Models behind a URL: whom a run asks, and their keys, which are in the environment and written nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from rewards.endpoints.config import EndpointConfig, host_of
from rl.config.experiment import Config
from rl.errors import ConfigError


def api_key(settings: EndpointConfig, section: str) -> str | None:
    """The key that a section's endpoint wants; None if it wants none.

    Raises:
        ConfigError: The environment does not hold it.
    """
    if settings.api_key_env is None:
        return None
    if key := os.environ.get(settings.api_key_env):
        return key
    raise ConfigError(f"{section}.api_key_env: the environment variable {settings.api_key_env!r} is not set")


def asked_elsewhere(config: Config, sections: Sequence[str] = ("judge", "served")) -> Iterator[str]:
    """Whom a run will send rollouts and pictures, a line each, and with which variable's key."""
    for section in sections:
        settings: EndpointConfig = getattr(config, section)
        if settings.endpoint is not None:
            key = f"the key in {settings.api_key_env}" if settings.api_key_env else "no key"
            plainly = ", for all on the way to read" if settings.endpoint.startswith("http:") else ""
            yield f"{section}: rollouts and their pictures go to {host_of(settings.endpoint)}, with {key}{plainly}"
