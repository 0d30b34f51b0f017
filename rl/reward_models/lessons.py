"""What is kept for the reward model to learn from."""

from __future__ import annotations

from rewards.seeds import derive_seed
from rl.config import Config
from rl.config.users_parts import resolve_made
from selection.buffer import StreamingBuffer
from selection.selectors import SELECTORS, Selector, make_selector


def make_buffer(config: Config) -> StreamingBuffer:
    """An empty streaming buffer."""
    return StreamingBuffer(config.selection, derive_seed(config.seed, "buffer"))


def make_configured_selector(config: Config) -> Selector:
    """The selector that the configuration names; a class of the user's is made without arguments.

    Raises:
        ConfigError: There is no such selector, or the class makes none.
    """
    selection = config.selection
    builtin = {name: make_selector(name, selection) for name in SELECTORS}
    return resolve_made("selection.selector", selection.selector, builtin)
