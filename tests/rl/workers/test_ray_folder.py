"""A folder that Ray cannot use is named with its variable, and nothing is tried again."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from rl.errors import ConfigError
from rl.workers.ray_cluster import join_ray


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Whether Ray was started."""
    started: list[object] = []
    monkeypatch.setattr(ray, "init", lambda *arguments, **named: started.append(arguments))
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    return started


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize("length", [100, 60, 4000])
def test_a_folder_that_is_too_far_down(
    variable: str, length: int, no_ray: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = "/tmp/" + "a" * (length - 5)
    monkeypatch.setenv(variable, folder)
    with pytest.raises(ConfigError) as caught:
        join_ray()
    said = str(caught.value)
    assert said.startswith(f"{variable} is '{folder}', of {length} characters: ") and "RAY_TMPDIR" in said
    assert no_ray == []


@pytest.mark.parametrize("folder", ["/proc", "/nowhere", "/dev/null"])
def test_a_folder_that_cannot_be_written_to(folder: str, no_ray: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", folder)
    with pytest.raises(ConfigError, match=f"RAY_TMPDIR is '{folder}', which cannot be written to: "):
        join_ray()
    assert no_ray == []


def test_others_are_used(tmp_path: Path, no_ray: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    join_ray()
    monkeypatch.setenv("TMPDIR", "/tmp")
    join_ray()
    monkeypatch.setenv("TMPDIR", "/tmp/" + "a" * 95)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")  # is Ray's first choice
    join_ray()
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv("RAY_ADDRESS", "auto")  # somebody else has started it
    join_ray()
    assert len(no_ray) == 4
