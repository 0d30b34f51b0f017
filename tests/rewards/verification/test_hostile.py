"""Whatever a model writes, a verifier gives a verdict, and comes to its end."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable
from multiprocessing import get_context

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.verification import latex as latex_module
from rewards.verification import verifiers as verifiers_module
from rewards.verification.latex import Comparer, compare_expressions
from rewards.verification.verifiers import VERIFIERS, boxed, exact, latex, multiple_choice, numeric

LONG_ENOUGH = 600.0
"""Seconds after which something does not end: many times what a slow machine needs, and far less than for ever."""

ENDLESS = [r"10^{10^{10}}", r"9^{9^{9^{9}}}", r"(10^{10})!", r"2^{2^{40}}-1", r"\sum_{n=1}^{10^9} \sin(n)", "(" * 5000]


def _comes_to_its_end(function: Callable[..., None], *arguments: object, seconds: float = LONG_ENOUGH) -> bool:
    """Whether a function returns in a process of its own."""
    process = get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join(seconds)
    ended = process.exitcode == 0
    process.kill()
    process.join()
    return ended


def _never_ends() -> None:
    re.fullmatch("(a|a)*b", "a" * 200)


def test_what_does_not_end_is_noticed() -> None:
    assert not _comes_to_its_end(_never_ends, seconds=1.0) and not _comes_to_its_end(int, "no number")
    assert _comes_to_its_end(int, "1")


def _judge_endless() -> None:
    for endless in ENDLESS:
        assert latex(rf"Answer: {endless}", "7") is False
        assert latex(r"\boxed{\frac{14}{2}}", "7") is True


@pytest.mark.slow
def test_an_expression_that_never_ends_is_wrong_and_the_next_one_is_judged() -> None:
    assert _comes_to_its_end(_judge_endless)


def test_a_comparer_that_lost_its_child_starts_another() -> None:
    comparer = Comparer()
    assert comparer.compare("1", "1") == "equal"
    assert comparer._child is not None
    comparer._child.kill()
    comparer._child.wait()
    assert comparer.compare("1", "1") == "", "nobody could say so"
    assert comparer.compare("1", "1") == "equal" and comparer.compare("1", "2") == "different"
    assert (
        comparer.compare("1 +", "1") == "unreadable answer" and comparer.compare("1", "1 +") == "unreadable reference"
    )


def test_without_math_verify_nothing_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latex_module.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="is math-verify installed"):
        Comparer().compare("1", "1")


def test_threads_get_their_own_verdicts() -> None:
    verdicts: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda i=i: verdicts.update({i: compare_expressions(f"{i} + 1", f"{i + i % 2}")}))
        for i in range(24)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == {i: "equal" if i % 2 == 1 else "different" for i in range(24)}


PIECES = [
    *(
        "Answer:",
        "answer is",
        r"\boxed{",
        "}",
        "(",
        ")",
        r"\frac{1}{2}",
        r"\text{",
        "B",
        "b.",
        "12",
        ",",
        ".",
        "%",
        "-",
    ),
    *("/", "\n", " ", "$", r"\\", "=", "10^{3}", "é", "\x00", "\ud800", "٣", "1e5", "{,}", "^", "_", "cm"),
]
TEXTS = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=14).map("".join))


@settings(max_examples=400)
@given(TEXTS, TEXTS)
def test_plain_verifiers_never_raise_and_say_the_same_again(completion: str, reference: str) -> None:
    for verifier in (exact, boxed, numeric, multiple_choice):
        verdict = verifier(completion, reference)
        assert isinstance(verdict, bool) and verifier(completion, reference) is verdict


@settings(max_examples=60)
@given(TEXTS, TEXTS)
def test_latex_never_raises_and_says_the_same_again(completion: str, reference: str) -> None:
    verdict = latex(completion, reference)
    latex_module.compare_expressions.cache_clear()
    assert isinstance(verdict, bool) and latex(completion, reference) is verdict


HOSTILE = [
    *(
        "1," * 50_000,
        "1 " * 50_000,
        "answer " * 20_000,
        r"\boxed{" * 20_000,
        "(" * 90_000,
        "answer to " * 9_000,
        "x:\n" * 30_000,
    ),
    *("a" + " " * 90_000 + "b", "a" * 90_000, "$$\n" * 30_000, "```\n" * 20_000, "<answer>" * 10_000, "a. " * 30_000),
    *(
        '"answer": ' * 10_000,
        '{"answer": [' * 8_000,
        '"answer": "' + "\\" * 40_000,
        "#### \n" * 15_000,
        "\\begin{x}\n" * 9_000,
    ),
    *(
        "." * 1_990,
        "*" * 1_990,
        "{" * 990 + "}" * 990,
        "a" * 40 + "^ 5",
        "5 " + "a" * 480 + "!",
        "B" + " " * 1_900 + "x",
    ),
    *(
        "aaaa " * 390 + "!",
        "5 " + "min" * 150 + "!",
        "5 " + "mm/" * 150 + "!",
        "5 " + r"\text{" * 150,
        "~" * 1_990,
        "-" * 400 + "5",
    ),
]


def _judge_long_texts(name: str) -> None:
    verifiers_module.compare_expressions = lambda answer, reference: "different"  # type: ignore[assignment]
    shuffled = "".join(random.Random(0).choices(PIECES, k=20_000))
    further = [r"\(" * 45_000, r"\[" * 45_000, "$ " * 45_000, "(a" * 300, "sqrt(" * 190, "^(" * 300]
    for text in (*HOSTILE, *further, shuffled):
        for completion in (text, f"Answer: {text}"):
            VERIFIERS[name](completion, "1")
        VERIFIERS[name]("Answer: 1", text)


@pytest.mark.parametrize("name", VERIFIERS)
def test_long_texts_come_to_their_end_without_a_process_that_compares(name: str) -> None:
    assert _comes_to_its_end(_judge_long_texts, name)


def test_a_comparer_that_is_interrupted_asks_another_child(monkeypatch: pytest.MonkeyPatch) -> None:
    comparer = Comparer()
    assert comparer.compare("1", "1") == "equal"
    child = comparer._child
    assert child is not None and child.stdin is not None
    with monkeypatch.context() as patched:
        patched.setattr(child.stdin, "flush", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            comparer.compare("1", "2")
    assert comparer.compare("3", "3") == "equal", "and no verdict of another question"


def _interrupt() -> None:
    raise KeyboardInterrupt
