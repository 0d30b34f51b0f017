"""Users' own parts: found by name, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl.config.users_parts import resolve, resolve_made
from rl.errors import ConfigError

BUILTIN = {"exact": str.strip, "boxed": str.lower}


@pytest.fixture
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rules.py").write_text(
        "LIMIT = 3\ndef rule(text):\n    return text + '!'\nclass Task: ...\n"
        "class Broken:\n    def __init__(self):\n        raise OSError('no\\nweights')\n"
        "class Wanting:\n    def __init__(self, weights): ...\n"
        "class Rule:\n    def __call__(self, text):\n        return text + '?'\n"
    )
    (tmp_path / "my_broken_rules.py").write_text("raise RuntimeError('no weights\\nat all')\n")
    (tmp_path / "my_misspelt_rules.py").write_text("def rule(:\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_built_in_parts_come_first() -> None:
    assert resolve("task.verifier", "boxed", BUILTIN) is BUILTIN["boxed"]
    assert resolve("task.verifier", "my_rules:rule", {"my_rules:rule": len}) is len


@pytest.mark.usefixtures("own_modules")
def test_own_parts_are_imported() -> None:
    assert resolve("task.verifier", "my_rules:rule", BUILTIN)("right") == "right!"
    assert resolve("task.name", "my_rules:Task", {}).__name__ == "Task"
    assert resolve("task.verifier", "os.path:join", BUILTIN)("a", "b") == str(Path("a", "b"))


@pytest.mark.usefixtures("own_modules")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("exakt", "is not one of exact, boxed, nor package.module:Name"),
        ("", "is not one of exact, boxed"),
        ("my_rules", "is not one of exact, boxed"),
        ("my_rules:other", "no attribute 'other'"),
        ("my_rules:", "cannot be imported"),
        ("no_such_module:rule", "No module named 'no_such_module'"),
        ("my_rules.deeper:rule", "No module named 'my_rules.deeper'"),
        (":rule", "cannot be imported"),
        (".my_rules:rule", "cannot be imported"),
        ("my_broken_rules:rule", "RuntimeError: no weights at all"),
        ("my_misspelt_rules:rule", "SyntaxError"),
        ("my_rules:LIMIT", "is a int; allowed is a function or a class"),
    ],
)
def test_what_is_no_part_is_refused_in_one_line(name: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("task.verifier", name, BUILTIN)
    message = str(caught.value)
    assert message.startswith(f"task.verifier: {name!r} ")
    assert told in message
    assert "\n" not in message


@pytest.mark.usefixtures("own_modules")
def test_a_class_stands_for_what_it_makes() -> None:
    assert resolve_made("selection.selector", "my_rules:Rule", BUILTIN)("right") == "right?"
    assert resolve_made("selection.selector", "my_rules:rule", BUILTIN)("right") == "right!"
    assert resolve_made("selection.selector", "boxed", BUILTIN) is BUILTIN["boxed"]


@pytest.mark.usefixtures("own_modules")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("my_rules:Broken", "cannot be made: OSError: no weights"),
        ("my_rules:Wanting", "cannot be made: TypeError: "),
        ("my_rules:Task", "makes a Task; allowed is what can be called"),
        ("my_rules:other", "cannot be imported"),
    ],
)
def test_a_class_that_makes_nothing_is_refused_in_one_line(name: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_made("selection.selector", name, BUILTIN)
    assert str(caught.value).startswith(f"selection.selector: {name!r} {told}")
    assert "\n" not in str(caught.value)
