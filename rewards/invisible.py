"""Characters that nobody sees: marks of the direction of writing, of where a line may break, of how a sign is drawn."""

from __future__ import annotations

INVISIBLE = "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff"
"""As they stand in a class of a regular expression. They are no part of an answer, and steps begin behind them."""
