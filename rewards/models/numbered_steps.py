"""Steps that are numbered, or called steps, in the languages that models write.

At the beginning of a line a step begins with an item's number (``2.``, ``2)``, ``(2)``, ``2:``, a circled number, a
Chinese one), a heading (``## …``) or its name (``Step 2``, ``**Schritt 2:**``); in the middle of a line with its name
alone, where a colon or a bracket follows, unless it is only spoken of (``see Step 2: …``). Items indented by more than
two spaces belong to the item above them. Bold, brackets and, before a name, a bullet may stand before it.
"""

# ruff: noqa: RUF001

from __future__ import annotations

import re

from rewards.models.step_rule import Gap

NUMBER = r"(?:\d{1,3}(?:\.\d{1,3})*|[一二三四五六七八九十]{1,3})"
NAME = (
    r"(?:(?:step|schritt|(?:é|e\u0301?)tape|paso|passo|шаг|крок|krok|stap|steg|trin|vaihe|adım|bước|langkah|βήμα|步骤|步驟|"
    rf"ステップ|手順|단계|الخطوة|خطوة|चरण|कदम|ধাপ|ขั้นตอนที่)\s*[-#№]?\s*(?:{NUMBER}|(?:one|two|three|four|five|six|seven|eight|nine|ten)\b)"
    rf"|第\s*{NUMBER}\s*[步歩]|{NUMBER}\s*단계)"
)
ITEM = rf"(?:{NUMBER}(?:[.):](?!\d)|[、．：）])|[(（]{NUMBER}[)）]|[①-⑳❶-❿]|\d\ufe0f?\u20e3|\#{{1,6}}[^\S\n])"
UNSEEN = "\u200b\u200e\u200f\u202b\u2067\ufeff"
"""What may stand where a line is written from right to left, or was put together."""
OPENING = rf"*_【\[（(«{UNSEEN}"
AT_LINE = re.compile(
    rf"""\s*\n(?=[^\S\n]{{0,2}}(?:
        [*_{UNSEEN}]*{ITEM}[*_]*[^\S\n]*\S
        | (?:[-•*+>][^\S\n]+)?[{OPENING}]*{NAME}[*_]*(?:\W|\Z)
    ))""",
    re.IGNORECASE | re.VERBOSE,
)
IN_LINE = re.compile(
    rf"(?:(?<!\s)[^\S\n]+|(?<=[^\w\s{OPENING}])|(?<=\w)(?=[*【\[]))(?=[{OPENING}]*{NAME}[*_)\s]*[:：】\]])",
    re.IGNORECASE,
)
SPOKEN_OF = re.compile(r"\b(?:after|and|as|at|before|by|from|in|of|per|see|to|using|with)\Z", re.IGNORECASE)


def numbered_steps(text: str) -> list[Gap]:
    r"""Where one numbered step ends and the next begins.

    >>> text = "I count.\n1. Red: 2.5\n   2) a detail\n2. Blue, as in Step 1: 3. Step 3: So 5.5"
    >>> bounds = [0, *(gap.end for gap in numbered_steps(text)), len(text)]
    >>> [text[start:end] for start, end in zip(bounds, bounds[1:])]
    ['I count.\n', '1. Red: 2.5\n   2) a detail\n', '2. Blue, as in Step 1: 3.', ' Step 3: So 5.5']
    """
    gaps = [Gap(*match.span()) for match in AT_LINE.finditer(text)]
    for match in IN_LINE.finditer(text):
        # The space before a word is a part of its token, and belongs to the step that the word begins.
        place = match.start()
        line = text[text.rfind("\n", 0, place) + 1 : place]
        if re.search(r"\w", line) and not SPOKEN_OF.search(line):
            gaps.append(Gap(place, place))
    return gaps
