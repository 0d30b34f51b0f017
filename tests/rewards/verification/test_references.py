"""References that a verifier cannot read whole are counted, and the first ones named."""

from __future__ import annotations

import pytest

from rewards.verification import references
from rewards.verification.references import reads_whole, unreadable_line


@pytest.mark.parametrize(
    ("name", "reference", "whole"),
    [
        *(
            ("latex", text, True)
            for text in ("12", "1/2", r"\boxed{\frac{1}{2}}", r"1 - \frac{1}{\mathrm{e}}", "11 5/6", "x^2+1")
        ),
        *(("latex", text, True) for text in ("$12$ cm", r"\{1, 2\}", r"(-\infty, 3]", "x = 3", r"5\pi \text{ cm}^2")),
        *(
            ("latex", text, False)
            for text in (r"1, 2, \ldots, n", "isosceles", "", r"\frac{1}{", "x +", "1/0", "the first one")
        ),
        *(("numeric", text, True) for text in ("12", "12 cm", "50%", "1,250.5", r"\frac{1}{2}")),
        *(("numeric", text, False) for text in ("x + 1", "twelve", "12 or 13", "1,5", r"\sqrt{2}")),
        *(("multiple_choice", text, True) for text in ("B", "(B) 12 cm", "12 cm", "B, C")),
        *(("multiple_choice", text, False) for text in ("", "D, not B")),
        *((name, "what ever", True) for name in ("exact", "boxed", "my_verifier:mine")),
    ],
)
def test_what_is_read_whole(name: str, reference: str, whole: bool) -> None:
    assert reads_whole(name, reference) is whole


def test_the_first_ones_are_named_and_all_counted() -> None:
    rows = [(f"a.jsonl: row {row}", text) for row, text in enumerate(["12", "x", "none", "y", "7", "none", "z" * 99])]
    assert unreadable_line("numeric", rows) == (
        "task.verifier numeric cannot read 5 of 7 reference answers whole and compares them as text:"
        " a.jsonl: row 1 'x'; a.jsonl: row 2 'none'; a.jsonl: row 3 'y', and 2 more"
    )
    assert unreadable_line("numeric", rows[:1]) is None and unreadable_line("exact", rows) is None
    assert unreadable_line("my_verifier:mine", rows) is None


def test_a_look_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "SECONDS", -1.0)
    assert unreadable_line("numeric", [("row 0", "none")]) is None
