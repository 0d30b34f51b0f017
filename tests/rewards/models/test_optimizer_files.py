"""An optimizer that ranks share is loaded without any of them having more of it than its part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fixtures.ranks import run_in_two_ranks

SCRIPT = Path(__file__).parents[2] / "fixtures" / "one_part_rank.py"


@pytest.mark.slow
def test_a_rank_holds_its_part_of_the_optimizer_while_it_is_loaded(tmp_path: Path) -> None:
    run_in_two_ranks(SCRIPT, {"adamw": {}}, tmp_path)
    for rank in range(2):
        seen = json.loads((tmp_path / "adamw" / f"rank-{rank}.json").read_text())
        assert seen["equal"] and seen["extra"] == {"a": 1}
        assert seen["held"] and max(seen["held"]) <= seen["part"], "of 66 GB of moments at 7B all would be gathered"
