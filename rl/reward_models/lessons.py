"""What is kept for the reward model to learn from."""

from __future__ import annotations

from rewards.seeds import derive_seed
from rl.config import Config
from rl.config.users_parts import resolve_made
from selection.buffer import BufferSettings, StreamingBuffer
from selection.selectors import SELECTORS, Selector, SelectorSettings, make_selector


def make_buffer(config: Config) -> StreamingBuffer:
    """An empty streaming buffer."""
    selection = config.selection
    settings = BufferSettings(
        keep_ratio=selection.keep_ratio,
        capacity=selection.capacity,
        half_life=selection.half_life,
        max_all_negative=selection.max_all_negative,
        draw=selection.draw,
        fresh=selection.fresh,
    )
    return StreamingBuffer(settings, seed=derive_seed(config.seed, "buffer"))


def make_configured_selector(config: Config) -> Selector:
    """The selector that the configuration names; a class of the user's is made without arguments.

    Raises:
        ConfigError: There is no such selector, or the class makes none.
    """
    selection = config.selection
    settings = SelectorSettings(selection.alpha, selection.prior, selection.threshold, selection.visual_weight)
    builtin = {name: make_selector(name, settings) for name in SELECTORS}
    return resolve_made("selection.selector", selection.selector, builtin)
