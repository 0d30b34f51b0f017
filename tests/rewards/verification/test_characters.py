"""Answers in other scripts, with characters that nobody sees, and with words that make another number of a number."""

# ruff: noqa: RUF001

import pytest

from rewards.verification.answers import answer_of
from rewards.verification.verifiers import VERIFIERS

SAME = [
    *(
        (verifier, answer, "12")
        for verifier in ("numeric", "latex", "exact")
        for answer in ("１２", "١٢", "۱۲", "१२", "๑๒")
    ),
    *((verifier, "12", "१२") for verifier in ("numeric", "latex", "boxed")),
    *(("latex", answer, right) for answer, right in (("٣٫١٤", "3.14"), ("3⁄4", "0.75"), ("𝟏𝟐", "12"), ("𝑥+1", "x+1"))),
    *(
        (verifier, f"\u200f{mark}12\u200e", "12")
        for verifier in ("numeric", "latex", "boxed")
        for mark in "\u202b\u2066\u200b"
    ),
    *(("multiple_choice", answer, "B") for answer in ("\u200fB\u200f", "(B)&nbsp;Paris", "𝐁", "（Ｂ）")),
    *(("multiple_choice", "②", right) for right in ("2", "(2)", "②")),
    *(("exact", answer, "café") for answer in ("cafe\u0301", "ca\u00adfé", "caf&eacute;")),
    ("exact", "Tom &amp; Jerry", "Tom & Jerry"),
    *(("numeric", answer, "50%") for answer in ("٥٠٪", "%50", "50&#37;")),
    *(("numeric", answer, "12 m^2") for answer in ("12 ㎡", "12 m2", "12&nbsp;m²")),
    *((verifier, "12个", "12") for verifier in ("numeric", "latex")),
    *(
        (verifier, answer, "3000000")
        for verifier in ("numeric", "latex")
        for answer in ("3 million", "3 millions", "3 Millionen Euro", "3 млн", "300万", r"3 \text{ million}", "30 lakh")
    ),
    *(("numeric", answer, "3000") for answer in ("$3K", "3 тысячи", "3千元", "€ 3 thousand")),
    ("numeric", "3千克", "3"),
    ("numeric", "5 third-graders", "5"),
]
OTHER = [
    *(
        (verifier, f"3 {word}", "3")
        for verifier in ("numeric", "latex")
        for word in ("million", "millions", "Millionen", "тысяч", "lakh", "thirds", "hundredths", "dozen")
    ),
    *((verifier, f"3{sign}", "3") for verifier in ("numeric", "latex") for sign in ("万", "千", "億", "만")),
    *(("numeric", answer, "3") for answer in ("$3M", "3 bn", "1/3 million", "не 3", "nicht 3", "menos de 3", "pas 3")),
    ("numeric", "12 m2", "12 m^3"),
    ("exact", "cafe", "café"),
]


@pytest.mark.parametrize(("verifier", "answer", "reference"), SAME)
def test_what_means_the_same_is_right(verifier: str, answer: str, reference: str) -> None:
    assert VERIFIERS[verifier](f"Answer: {answer}", reference)
    assert VERIFIERS[verifier](rf"\boxed{{{answer}}}", reference) or "%" in answer


@pytest.mark.parametrize(("verifier", "answer", "reference"), OTHER)
def test_another_number_is_wrong(verifier: str, answer: str, reference: str) -> None:
    assert not VERIFIERS[verifier](f"Answer: {answer}", reference)


@pytest.mark.parametrize("completion", ["結論：4", "<think>結論：3</think>結論：４", "結論:4"])
def test_a_marker_is_found_as_it_is_written_and_in_plain_characters(completion: str) -> None:
    marker = "結論:" if completion == "結論:4" else "結論："
    assert answer_of(completion, marker) == "4"
