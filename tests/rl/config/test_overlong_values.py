"""Keys and numbers of any length, told in one short line."""

from __future__ import annotations

import pytest

from rl.config import load_config
from rl.errors import ConfigError


def test_a_key_of_any_length_is_told_shortened() -> None:
    with pytest.raises(ConfigError, match=r"^configuration: x{300}\.\.\.: no such key; allowed here: ") as caught:
        load_config(None, [f"{'x' * 100_000}=1"])
    assert len(str(caught.value)) < 2000


def test_whole_numbers_are_such_as_a_file_holds() -> None:
    assert load_config(None, [f"task.seed={2**63 - 1}"]).task.seed == 2**63 - 1
    for key in ("seed", "steps", "engine.max_model_len", "served.column"):
        with pytest.raises(ConfigError, match=f"^configuration: {key}: 1000.* no whole number beyond 9.2e"):
            load_config(None, [f"{key}=1{'0' * 400}"])
