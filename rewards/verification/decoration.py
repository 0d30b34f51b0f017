r"""What people put around an answer and do not mean: maths and Markdown marks, quotes, punctuation at its ends."""

from __future__ import annotations

import re

LONGEST = 2000
"""Characters of a text that is looked at; a longer one is no answer."""

_PAIRS = (
    *(("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("__", "__"), ("*", "*"), ("_", "_")),
    *(("``", "``"), ("`", "`"), ("==", "=="), ('"', '"'), ("'", "'"), ("“", "”"), ("„", "“"), ("„", "”"), ("”", "”")),
    *(("‘", "’"), ("‚", "‘"), ("«", "»"), ("»", "«"), ("‹", "›"), ("「", "」"), ("『", "』")),  # noqa: RUF001
    *((f"<{tag}>", f"</{tag}>") for tag in ("b", "strong", "i", "em", "u", "ins", "mark", "code", "span", "p")),
)
_STYLES = (
    r"\\(?:displaystyle|textstyle|bf|rm|it|sf|tt|bfseries|boldmath|small|normalsize|large|Large|LARGE|huge|Huge)"
    r"(?![a-zA-Z])"
)
_COMMAND = re.compile(
    r"(?:\\(?:text(?:bf|it|rm|normal|sf|tt|up|sc)?|emph|under(?:line|bar)|math(?:bf|rm|it|sf|tt)|boldsymbol|bm"
    r"|(?:m|f|frame)?box(?:ed)?|ensuremath|(?:text)?color(?:box)?\s*\{[^{}]*\})\s*)?(\{.*\})",
    re.DOTALL,
)
_FENCE = re.compile(r"```[^\n`]*\n(.*?)\n?[ \t]*```", re.DOTALL)
_ENVIRONMENT = re.compile(
    r"\\begin\{(equation|align(?:ed)?|gather(?:ed)?|split|displaymath|math)(\*?)\}(.*)\\end\{\1\2\}", re.DOTALL
)
_SPACE = rf"[\s~]|\\(?:[,;:! ]|q?quad(?![a-zA-Z])|\\|tag\*?\{{[^{{}}]*\}})|{_STYLES}|<\|[\w ]+\|>"
_SIGNS = "[\u2713\u2714\u2705\u2728\u2b50\U0001f389\U0001f38a\U0001f3af\U0001f3c6\U0001f44d\U0001f4a1]\ufe0f?"
_BEFORE = re.compile(
    rf"(?:{_SPACE}|{_SIGNS}|[\u2022\u2192\u27a1\U0001f449]\ufe0f?|[:=](?!=)|\\color\s*\{{[^{{}}]*\}}(?!\s*\{{)"
    r"|</b>|</strong>)+"
)
_AFTER = re.compile(
    rf"(?:{_SPACE}|{_SIGNS}|(?<!\\)[,;:。、，；：،؛۔।]|(?<![.\\])\.(?!\.)|(?<=[$*`])!|(?<=\\[)\]])!|</s>)$"  # noqa: RUF001
)
_SPELLINGS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\\(?:text(?:bf|it|rm|normal)?|math(?:bf|rm|it)|mbox|boldsymbol|bm)\s*\{([^{}]*)\}", r"\1"),
        (r"\\(?:[dtcs]|nice)frac", r"\\frac"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\(?:left|right|displaystyle|[Bb]igg?[lrm]?)(?![a-zA-Z])", ""),
        (r"(?<!\\)\\[()\[\],;:! ]|\\q?quad(?![a-zA-Z])|\{,\}|[$~]|\*\*", ""),
        (r"(?<!\d)\s+|\s+(?!\d)|(?<=\d)\s(?=\d{3}(?!\d))", ""),
        (r"([_^])\{(\w)\}", r"\1\2"),
        (r"\(?\\pmod(?![a-zA-Z])\{?(\w+)\}?\)?|\(\\?b?mod(\w+)\)", r"(mod\1\2)"),
        (r"\\equiv(?![a-zA-Z])", "≡"),
        (r"\\(?:ldots|cdots|dots)(?![a-zA-Z])|\.\.\.", "…"),
        (r"\\%", "%"),
        (r"[\u2212\u2013]", "-"),
    ]
]
_WORD = re.compile(r"(?<!\\)(?<![^\W\d_])[^\W\d_]{2,}")


def undecorated(text: str) -> str:
    r"""A text without what stands around it: ``**``, ``$``, quotes, code marks, ``\text{…}``, a full stop, a comma.

    What belongs to an answer stays: the point of ``.5``, the factorial of ``5!``, dots (``1, 2, …``), brackets.

    >>> undecorated(r"**$\frac{1}{2}$.**"), undecorated("`B`;"), undecorated(r"\textbf{(B)}"), undecorated("5!")
    ('\\frac{1}{2}', 'B', '(B)', '5!')
    """
    text = text.strip()
    if len(text) > LONGEST:
        return text
    while True:
        inner = _inside(_between_ends(text))
        if inner == text or not inner:
            return text
        text = inner


def same_text(left: str, right: str) -> bool:
    r"""Whether two answers are the same text, but for spaces, capitals of words, and spellings that LaTeX does not set
    apart.

    >>> same_text(r"1, 2, \ldots, n", "1,2,...,n"), same_text("The  left one", "the left one"), same_text("n", "N")
    (True, True, False)
    """
    return bool(left) and normal_text(left) == normal_text(right)


def normal_text(text: str) -> str:
    """The one way to write an answer that is compared as text."""
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, _WORD.sub(lambda word: word[0].casefold(), text))
    return text


def _between_ends(text: str) -> str:
    while found := _BEFORE.match(text):
        text = text[found.end() :]
    while found := _AFTER.search(text):
        text = text[: found.start()]
    for mark in ("**", "__", "`", "*", "_"):  # half of a pair whose other half stands before the marker: **Answer: 12**
        if text.count(mark) == 1:
            text = text.removesuffix(mark).removeprefix(mark)
    return text


def _inside(text: str) -> str:
    if match := _FENCE.fullmatch(text):
        return match[1]
    for opening, closing in _PAIRS:
        inner = text[len(opening) : -len(closing)]
        if text == opening + inner + closing and opening not in inner and closing not in inner:
            return inner
    if match := _ENVIRONMENT.fullmatch(text):
        return match[3].replace("&", "")
    if (match := _COMMAND.fullmatch(text)) and _is_one_group(match[1]):
        set_of = match.start(1) == 0 and "," in match[1]
        return text if set_of else match[1][1:-1]
    return text


def _is_one_group(text: str) -> bool:
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return place == len(text) - 1
    return False
