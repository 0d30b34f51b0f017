r"""Mathematical expressions as people write them, in plain text or LaTeX, in the one spelling that sympy is given."""

from __future__ import annotations

import re
from dataclasses import dataclass
from unicodedata import normalize

from rewards.verification.number_words import MAKES_ANOTHER, scaled_in_digits
from rewards.verification.quantity import in_one_spelling, repeating_as_fraction

LONGEST = 1000
"""Characters of a text that may be an expression."""

_MONEY = "(?:[€£¥₹₽₩¢]|(?:USD|EUR|GBP|JPY|CNY|INR|CHF|RUB)(?![a-zA-Z]))"
_FUNCTIONS = (
    "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|ln|log|exp|sqrt"
    "|pi|infty|theta|alpha|beta|gamma|lambda|mu|sigma|phi|omega"
)
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho"
    "  sigma tau upsilon phi chi psi omega"  # the second sigma, of word ends, has no command
)
_VULGAR = {sign: normalize("NFKC", sign).split("\u2044") for sign in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
_SIGNS = str.maketrans(
    {chr(0x3B1 + place): rf"\{name} " for place, name in enumerate(_GREEK.split(" ")) if name}
    | {"×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "÷": "/", "−": "-", "–": "-", "∞": r"\infty ", "≤": r"\leq "}  # noqa: RUF001
    | {"≥": r"\geq ", "≠": r"\neq ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "±": r"\pm ", "∅": r"\emptyset "}  # noqa: RUF001
    | {sign: rf"\frac{{{top}}}{{{bottom}}}" for sign, (top, bottom) in _VULGAR.items()}
)
_RAISED = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_GROUP = r"\(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)"
_SPELLINGS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\\(?:math(?:rm|bf|it|sf)|text(?:bf|it|rm)?|boldsymbol|bm)\s*\{\s*([a-zA-Z])\s*\}", r"\1"),
        (rf"\\(?:operatorname|math(?:rm|bf|it)|text)\s*\{{\s*({_FUNCTIONS})\s*\}}", r"\\\1 "),
        (r"\{,\}|(?<!\\)\$|\\[()\[\]]", ""),
        (r"\\(?:[dtcs]|nice)frac", r"\\frac"),
        (r"\\frac\s+(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\varnothing(?![a-zA-Z])", r"\\emptyset "),
        (r"√\s*(\w+)", r"\\sqrt{\1}"),
        (rf"√\s*{_GROUP}", r"\\sqrt{\1}"),
        (rf"(?<![\\A-Za-z])({_FUNCTIONS})(?![A-Za-z])", r"\\\1 "),
        (rf"\\sqrt\s*{_GROUP}", r"\\sqrt{\1}"),
        (r"\*\*", "^"),
        (rf"\^\s*{_GROUP}", r"^{\1}"),
        (r"\^\s*([-+]\d+)", r"^{\1}"),
        (r"(?<=\d)\s*x\s*(?=10\s*\^)", r"\\cdot "),
        (r"(?<![\w.])(\d+(?:\.\d*)?)[eE]([-+]?\d+)(?![\w.])", r"\1 \\cdot 10^{\2}"),
        (r"(?<=\d) (?=(?:\d{3} )*\d{3}$)", ""),
        (r"(?<![\d.\w^/])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d/.])", r"\1\\frac{\2}{\3}"),
        (r"^\s*(?:≈|\\(?:approx|sim)(?![a-zA-Z]))\s*", ""),
        (rf"^\s*(?:\\?\$|{_MONEY})\s*(?=[\d.])", ""),
        (r"(?<![\\A-Za-z])infinity(?![A-Za-z])", r"\\infty "),
    ]
]
_SEPARATED = re.compile(
    r"[-+]?[1-9]\d{0,2}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,}|(?: \d{3})+,\d{1,2}|(?:['\u2019]\d{3})+(?:\.\d+)?)"
)
"""A number with separators that LaTeX does not know; within brackets, commas are between numbers."""
_UNREADABLE = re.compile(
    r"\\[lcdv]?dots(?![a-zA-Z])|…|\.\.\.|(?<![_^])\d\s+\d|(?<![\w{])\d+\s*_|\d\.\d+\."
    r"|(?<!\d)\d{4}-\d\d-\d\d(?!\d)|(?:°|\\circ)\}?\s*\d|\d\s*:\s*\d+\s*:|\\underline|_{2,}"
    r"|\\(?:text|math)(?:rm|bf|it|normal)?\s*\{(?!\s*(?:and|or)\s*\})[^{}]*[^\W\d_]{2}"
)
_STRUCTURE = re.compile(
    r"\\(?:begin|end)\s*\{[a-zA-Z]+\*?\}|\\(?:mathbb|mathcal)\s*\{[A-Z]\}|\b(?:and|or)\b|\\[a-zA-Z]+"
)
_NAMES = re.compile(r"[^\W\d_]{4,}|\b(?:is|if|in|at|of|to|by|so|on|we|the)\b")
_WORDS_ALONE = re.compile(r"[^\W\d_]{3,}|[^\W\d_]+(?:[\s-]+[^\W\d_]+)+")

_KNOWN_UNITS = (
    r"(?:[kcdmµμn]m|[mk]?g|kg|lbs?|ft|in|yd|mi|hrs?|min|sec|ms|rad|deg|mol|mph|kph"
    r"|[kMG]?(?:Hz|Pa|W|J|N|V|A)|m[lL]|(?:sq|cu)\.?\s+\w+|units?)"
)
_UNSPACED = "[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]+"
_WRITTEN = r"\\(?:text(?:rm|normal)?|math(?:rm|sf)|mbox|operatorname|rm)\s*\{(?!\s*[eid]\s*\})[\s~]*([^{}\\]*)\}"
_POWER = r"(?:\s*(?:\^\s*\{?\s*-?\d\s*\}?|[²³]))?"
_ONE = rf"(?:{_WRITTEN}|{_KNOWN_UNITS}){_POWER}"
_FURTHER = rf"(?:[\s·]+(?:{_ONE}|[hsmgdKC]\s*\^\s*\{{?\s*-\d\s*\}}?)|\s*/\s*(?:{_ONE}|[hsmgd]{_POWER}))*"
_UNITS = re.compile(
    rf"(?<=[\d.)\]}}a-z\s])(?<![-+*/=^(,<>]\s)\s*({_ONE}{_FURTHER}|(?<=\d){_UNSPACED}"
    rf"|{_MONEY}|(?<=\d)(?:st|nd|rd|th)(?:\s+[a-z]{{3,}})*"
    r"|\\?%|percent|(?:\^\s*\{?\s*)?(?:\\circ|°)(?:\s*\})?(?:\s*[CF])?"
    rf"|(?<=\s)(?:[a-z]+[/\s]\s*)*[a-z]{{4,}}{_POWER}|(?<=\d\s)[mgshLlNJWVACFK]{_POWER}{_FURTHER})\s*$"
)
_OTHERWISE = re.compile(rf"(?:.*\b(?:and|or|not|if|is|at)\b|\s*{MAKES_ANOTHER})", re.IGNORECASE | re.DOTALL)
_DEGREES = r"\s*(\d+(?:\.\d+)?)\s*(?:°|\^\s*\\circ|\^\s*\{\s*\\circ\s*\})\s*"
_OF_DEGREES = re.compile(
    rf"\\?(sin|cos|tan|cot|sec|csc)\s*(?:\({_DEGREES}\)|\\left\({_DEGREES}\\right\)|\{{{_DEGREES}\}}|{_DEGREES})"
)
_BEFORE_UNITS = [
    (re.compile(r"(?<=\d)\\,(?=\d{3})|\\!"), ""),
    (re.compile(r"(?<!\\)\\[,;: ]|\\q?quad(?![a-zA-Z])|[~\u00a0\u2009\u202f]"), " "),
    (re.compile(r"\\frac\s*\{\\(?:text|mathrm)\{([\w^]+)\}\}\s*\{\\(?:text|mathrm)\{([\w^]+)\}\}"), r"\\text{\1/\2}"),
]


@dataclass(frozen=True)
class Expression:
    """LaTeX that sympy can be given, and the unit that stood behind it; empty without one."""

    latex: str
    unit: str = ""


def parse_expression(text: str) -> Expression | None:
    r"""The expression that a text is, as a whole, in one spelling; None where it is none, or more than one.

    Whether sympy can read it is another question; see `rewards.verification.latex`. What it would read as something
    else is none here: words (a product of letters), dots, numbers side by side, minutes of an arc.

    >>> parse_expression(r"1 - \frac{1}{\mathrm{e}}"), parse_expression("2√3 cm")
    (Expression(latex='1 - \\frac{1}{e}', unit=''), Expression(latex='2\\sqrt{3}', unit='cm'))
    >>> parse_expression(r"1, 2, \ldots, n"), parse_expression("listen"), parse_expression("x is 5")
    (None, None, None)
    """
    if not text or len(text) > LONGEST:
        return None
    for pattern, space in _BEFORE_UNITS:
        text = pattern.sub(space, text)
    text = scaled_in_digits(text)
    latex, unit = _without_unit(_OF_DEGREES.sub(_in_radians, text))
    latex = _RAISED.sub(lambda power: f"^{{{normalize('NFKC', power[0])}}}", repeating_as_fraction(latex))
    latex = latex.translate(_SIGNS)
    for pattern, replacement in _SPELLINGS:
        latex = pattern.sub(replacement, latex)
    latex = latex.strip()
    if _SEPARATED.fullmatch(latex):
        latex = in_one_spelling(latex)
    bare = _STRUCTURE.sub(" ", latex)
    if not latex or _UNREADABLE.search(latex) or _NAMES.search(bare) or _WORDS_ALONE.fullmatch(latex):
        return None
    return Expression(latex, unit)


def _in_radians(found: re.Match[str]) -> str:
    function, *degrees = filter(None, found.groups())
    return rf"\{function}(\frac{{{degrees[0]}\pi}}{{180}})"


def _without_unit(text: str) -> tuple[str, str]:
    found = _UNITS.search(text)
    if found is None or _OTHERWISE.match(found[1]):
        return text, ""
    before = text[: found.start()].strip()
    variable = len(found[1]) == 1 and found[1].isalpha() and not re.fullmatch(r"[-\d.,]+", before)
    return (text, "") if variable or not re.search(r"\d|\\pi|π", before) else (before, _unit(found[1]))


def _unit(text: str) -> str:
    text = (
        re.sub(_WRITTEN, r"\1", text)
        .replace("²", "^2")
        .replace("³", "^3")
        .replace("\\circ", "°")
        .replace("percent", "%")
    )
    return " ".join(re.sub(r"[{}\\~]|\^(?=\s*\{?\s*°)", "", text).split()).strip(" .").casefold()
