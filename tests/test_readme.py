"""The README says what is there."""

from __future__ import annotations

import re
from pathlib import Path

from rl.config import load_config
from rl.monitoring.metric_table import metrics_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_metric_table_is_the_one_in_the_code() -> None:
    assert metrics_table() in README


def test_every_make_target_and_file_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)\b", README)) - {"the"} <= targets
    for path in re.findall(r"\]\(([a-z][\w./-]+)\)", README):
        assert (ROOT / path).exists(), path


def test_every_key_and_override_it_names_is_a_key() -> None:
    resolved = load_config(ROOT / "configs" / "quickstart.yaml").model_dump()
    (keys,) = re.findall(r"^\| key \| what it does \|\n((?:\|.*\n)+)", README, re.MULTILINE)
    (parts,) = re.findall(r"^\| key \| contract \| see \|\n((?:\|.*\n)+)", README, re.MULTILINE)
    for key in re.findall(r"^\| ((?:`[a-z_.]+`(?:, )?)+) \|", keys + parts, re.MULTILINE):
        for name in re.findall(r"`([a-z_.]+)`", key):
            value = resolved
            for part in name.split("."):
                assert part in value, name
                value = value[part]
