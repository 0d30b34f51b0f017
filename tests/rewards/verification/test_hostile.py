"""Whatever a model writes, a verifier gives a verdict, in time."""

from __future__ import annotations

import random
import resource
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.verification import latex as latex_module
from rewards.verification import verifiers as verifiers_module
from rewards.verification.latex import Comparer, compare_expressions
from rewards.verification.verifiers import VERIFIERS, boxed, exact, latex, multiple_choice, numeric


@pytest.mark.slow
@pytest.mark.parametrize(
    "hostile",
    [r"10^{10^{10}}", r"9^{9^{9^{9}}}", r"(10^{10})!", r"2^{2^{40}}-1", r"\sum_{n=1}^{10^9} \sin(n)", "(" * 5000],
)
def test_an_expression_that_never_ends_is_wrong_in_time_and_the_next_one_is_judged(hostile: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert latex(rf"Answer: {hostile}", "7") is False
    spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert spent < 20 * latex_module.SECONDS, "with all that the child had compared before"
    assert latex(r"\boxed{\frac{14}{2}}", "7") is True


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


@pytest.mark.parametrize("name", ["exact", "boxed", "numeric", "multiple_choice"])
def test_long_texts_take_linear_time(name: str) -> None:
    shuffled = "".join(random.Random(0).choices(PIECES, k=20_000))
    for text in (*HOSTILE, shuffled):
        before = time.process_time()
        for completion in (text, f"Answer: {text}"):
            VERIFIERS[name](completion, "1")
        VERIFIERS[name]("Answer: 1", text)
        assert time.process_time() - before < 10, text[:40]


def test_what_no_process_is_asked_about_takes_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifiers_module, "compare_expressions", lambda answer, reference: "different")
    for text in (*HOSTILE, r"\(" * 45_000, r"\[" * 45_000, "$ " * 45_000, "(a" * 300, "sqrt(" * 190, "^(" * 300):
        before = time.process_time()
        for completion in (text, f"Answer: {text}"):
            latex(completion, "1")
        latex("Answer: 1", text)
        assert time.process_time() - before < 10, text[:40]


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
