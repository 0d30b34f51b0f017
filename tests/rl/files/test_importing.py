"""Imports that the garbage collector keeps out of."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from rl.files.importing import importing


@pytest.fixture(autouse=True)
def nothing_set_aside() -> Iterator[None]:
    """Nothing that a test sets aside stays so, nor is anything of before."""
    gc.unfreeze()
    yield
    gc.unfreeze()
    sys.modules.pop("this", None)


def test_what_is_imported_is_never_looked_through(capsys: pytest.CaptureFixture[str]) -> None:
    with importing():
        assert not gc.isenabled()
        import this
    assert gc.isenabled()
    assert gc.is_tracked(this.__dict__) and not any(this.__dict__ is found for found in gc.get_objects())
    assert capsys.readouterr().out, "the module was imported just now"


def test_without_an_import_the_caller_s_objects_can_be_collected() -> None:
    held = gc.get_freeze_count()
    with importing():
        pass
    assert gc.isenabled() and gc.get_freeze_count() == held == 0


def test_it_goes_on_collecting_after_a_failure_and_not_where_it_did_not_before() -> None:
    with pytest.raises(ImportError), importing():
        raise ImportError("no such library")
    assert gc.isenabled()
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_one_inside_another_leaves_it_to_the_outer_one() -> None:
    with importing():
        with importing():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
