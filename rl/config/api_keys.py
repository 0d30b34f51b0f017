"""Keys of models behind a URL: in the environment, and written nowhere."""

from __future__ import annotations

import os

from rewards.endpoints.config import EndpointConfig
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
