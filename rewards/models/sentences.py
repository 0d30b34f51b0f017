"""Sentences, in any script, as steps.

One ends with its full stop, question or exclamation mark and the brackets, quotes and stars that close after it, and at
a line break. Where scripts put a space behind it, it ends none without one, nor before a small letter or an operator
(``3! = 6``); and a full stop ends none after an abbreviation, or the number or letter of an item (``B. 12 cm``).
"""

# ruff: noqa: RUF001

from __future__ import annotations

import re
from collections.abc import Iterator

from rewards.invisible import INVISIBLE
from rewards.models.numbered_steps import NAME, NUMBER
from rewards.models.step_rule import Gap

CLOSING = rf"""["'”’»)\]}}）】」』》*_`{INVISIBLE}]*"""
SPACED, UNSPACED = ".!?…", "。！？｡۔؟।॥։።"
STOPS = SPACED + UNSPACED
"""What ends a sentence: where white space follows, and anywhere."""
STOP = re.compile(rf"(?:[{SPACED}]+{CLOSING}(?=\s)|[{UNSPACED}]+[{SPACED}]*{CLOSING})(?P<broken>\s*\n)?|\s*\n")
ITEM = re.compile(rf"[\s*_#>(\[【（-]*(?:{NUMBER}|[a-z]|[ivx]+|{NAME})", re.IGNORECASE)
NEAR = 60
"""Characters before a stop that are looked at: an item, or the last word."""
INITIALS = re.compile(r"(?<!\w)[^\W\d_]\.\s+[^\W\d_]$")  # `z. B`, `J. R`
SHORT = set("approx ca cf dr e.g i.e mr mrs ms prof resp vs z.b d.h p.ej par.ex т.е напр st vgl bzw sog inkl".split())  # noqa: SIM905
SHORT_BEFORE_NUMBERS = set("abb art ch eq eqs fig figs no nr p pp sec tab vol рис стр табл".split())  # noqa: SIM905


def sentences(text: str) -> Iterator[Gap]:
    r"""Where one sentence ends and the next begins.

    >>> text = "It is 2.5 cm, see Fig. 3.  So (approx. 3!) yes.\nB. Then? “No.” 图中有圆。它是红的"
    >>> bounds = [0, *(gap.end for gap in sentences(text)), len(text)]
    >>> [text[start:end] for start, end in zip(bounds, bounds[1:])]
    ['It is 2.5 cm, see Fig. 3.', '  So (approx. 3!) yes.\n', 'B. Then?', ' “No.”', ' 图中有圆。', '它是红的']
    """
    start = 0
    for match in STOP.finditer(text):
        goes_on = match["broken"] is None and not match[0].isspace()
        before, following = text[max(start, match.start() - NEAR) : match.start()], text[match.end() : match.end() + 9]
        if goes_on and not _ends(before, match[0], following.lstrip()):
            continue
        # A line break belongs to its line; the space before a word is a part of its token, and so of its sentence.
        start = match.end()
        yield Gap(match.start() + len(match[0].rstrip()), start)


def _ends(sentence: str, stop: str, following: str) -> bool:
    """Whether a stop, with more text in its line, ends the sentence whose last characters are given."""
    if not following or following[0].islower() or following[0] in "=+*/<>≤≥≈·×÷^,;:":
        return False
    if not stop.startswith((".", "…")):
        return True
    *_, word = ("", *sentence.split())
    word = word.strip("()[]*_").lower()
    spoken_of = word in SHORT_BEFORE_NUMBERS and re.match(r"[(\d]", following)
    if len(word) == 1 and (re.match(r"[^\W\d_]\.", following) or INITIALS.search(sentence)):
        return False
    is_item = len(sentence) < NEAR and ITEM.fullmatch(sentence)
    return word not in SHORT and not spoken_of and not is_item
