"""Steps that are numbered, or called steps, in the languages that models write.

At the beginning of a line a step begins with an item's number (``2.``, ``2)``, ``(2)``, ``[2]``, ``2:``, a circled
number, a Chinese one), a heading (``## …``) or its name (``Step 2``, ``**Schritt 2:**``); in the middle of a line with
its name alone, where a colon or a bracket follows, unless it is only spoken of (``see Step 2: …``). Items indented by
more than two spaces belong to the item above them. Bold, brackets and, before a name, a bullet or a tag may stand
before it.
"""

# ruff: noqa: RUF001

from __future__ import annotations

import re

from rewards.invisible import INVISIBLE
from rewards.models.step_rule import Gap

NUMBER = r"(?:\d{1,3}(?:\.\d{1,3})*|[一二三四五六七八九十]{1,3})"
WORD = (
    r"(?:step|schritt|(?:é|e\u0301?)tape|paso|passo|шаг|крок|krok|stap|steg|trin|vaihe|adım|bước|langkah|lépés|korak"
    r"|hakbang|βήμα|步骤|步驟|ステップ|手順|단계|الخطوة|خطوة|مرحلة|مرحله|گام|שלב|चरण|कदम|ধাপ|ขั้นตอนที่)"
)
IN_WORDS = r"(?:one|two|three|four|five|six|seven|eight|nine|ten|(?-i:[IVX]{1,4}))\b"
NAME = rf"(?:{WORD}\s*[-#№]?\s*(?:{NUMBER}|{IN_WORDS})|第\s*{NUMBER}\s*[步歩]|{NUMBER}\s*단계)"
BRACKETED = rf"[(（]{NUMBER}[)）]|\[{NUMBER}\]"
ITEM = rf"(?:{NUMBER}(?:[.):](?!\d)|[、．：）])|{BRACKETED}|[①-⑳❶-❿➀-➓]|\d\ufe0f?\u20e3|\#{{1,6}}[^\S\n])"
OPENING = rf"*_<【\[（(«{INVISIBLE}"
TAG = r"<\w{1,6}>|\\\w{1,9}\{"
"""HTML's and LaTeX's bold, and their like."""
AT_LINE = re.compile(
    rf"""\s*\n(?=[^\S\n]{{0,2}}(?:
        [*_{INVISIBLE}]*{ITEM}[*_]*[^\S\n]*\S
        | (?:[-•*+>][^\S\n]+)?(?:{TAG})?[{OPENING}]*{NAME}[*_]*(?:\W|\Z)
    ))""",
    re.IGNORECASE | re.VERBOSE,
)
IN_LINE = re.compile(
    rf"(?:(?<!\s)[^\S\n]+|(?<=[^\w\s>{{{OPENING}])|(?<=\w)(?=[*【\[]))(?=(?:{TAG})?[{OPENING}]*{NAME}[*_)\s]*[:：】\]])",
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
        if re.search(r"\w", re.sub(TAG, "", line)) and not SPOKEN_OF.search(line):
            gaps.append(Gap(place, place))
    return gaps
