"""Numbers as people and models write them: with separators, units, percent signs, fractions, in plain text or LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import factorial, isfinite
from unicodedata import normalize

from rewards.verification.number_words import MAKES_ANOTHER, scaled_in_digits

_PLAIN = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_NFKC = partial(normalize, "NFKC")
_NUMBER = re.compile(
    rf"(?<![\w.^-])(?P<sign>[-+]?)(?:(?P<whole>\d+)\s+(?P<part>\d+)\s*/\s*(?P<parts>\d+)"
    rf"|(?P<top>{_PLAIN})\s*/\s*(?P<bottom>{_PLAIN})|(?P<factorial>\d+)!(?!!)"
    rf"|(?P<plain>{_PLAIN})(?P<power>[eE][-+]?\d+)?)"
)
# Words that leave the number behind them as it is, and none that make another one of it.
_LEAD = re.compile(r"(?:(?>[^\W\d_]\w*)(?!\()|[$€£¥₹\s:,.'\"()\[\]~])*")
_CHANGES_IT = re.compile(
    r"\b(?:not|half|third|quarter|twice|double|thrice|times|plus|less|fewer|more|greater|least|most|under|over|above|below"
    r"|between|either|except|up\s+to|bis\s+zu|hasta|jusqu|fino|até|до|не|больше|меньше|более|менее|menos|más|pas|moins|nicht|kein|mindestens|höchstens|mehr"
    r"|weniger|meno|più|não|mais|sin|cos|tan|cot|sec|csc|log|ln|lg|exp|sqrt|root|mod)(?![^\W_])"
    r"|[<>≠!]=?\s*$|\\(?:neq?|l|g|le|ge)q?\s*$"
    r"|n't\b",
    re.IGNORECASE,
)
_UNIT = re.compile(r"(?:[^\W\d_]|[\s°%€£¢₹₽₩./·*²³()\[\]'\"-]|(?<=[A-Za-z])\^-?\d+|(?<=[A-Za-z])\d)*")
# What goes on with the expression instead of naming a unit: a variable, an operator, another number in words.
_GOES_ON = re.compile(
    r"\s*[\u2070\u00b9\u00b2\u00b3\u2074-\u207b*·]|\s*[xyznkpqruvwijeabπθβλφ](?![^\W\d_]|\.\w|\s+[^\W\d_])"
    r"|\s*[-/]\s*(?![hsmgld]\b)(?:[^\W\d_](?![^\W\d_])|\()|\s*\(\s*[^\W\d_]\s*\)"
    rf"|\s*(?:sin|cos|tan|log|ln|sqrt|pi|plus|minus|times|or|and\s+an?|at\s+(?:most|least))\b|\s*{MAKES_ANOTHER}",
    re.IGNORECASE,
)
_REPEATING = re.compile(r"(\d{0,30})\.(\d{0,30})\\(?:overline|bar|dot)\s*\{?\s*(\d{1,30})\s*\}?")
# What is written in several ways is brought to one of them, in this order.
_SPELLINGS: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"\^\s*\{?\s*\\circ\s*\}?|\\degree", "°"),
    (r"\^\s*\{\s*([-+]?\d+)\s*\}", r"^\1"),
    (r"\\(?:[dtcs]|nice)?frac\s*(?:(\d)|\{([^{}]*)\})\s*(?:(\d)|\{([^{}]*)\})", r" \1\2/\3\4 "),
    (r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it)|mbox|boxed)\s*\{([^{}]*)\}", r" \1"),
    (r"([\d.]+)\s*\\over\s*([\d.]+)", r"\1/\2"),
    (r"\{,\}|(?<=\d)[\u00a0\u202f\u2009](?=\d{3})|\\[,!]|\\(?:left|right|[Bb]igg?[lrm]?)(?![a-zA-Z])", ""),
    (r"\b10([\u207a\u207b]?[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+)", lambda power: f"10^{_NFKC(power[1])}"),
    (r"\s*(?:\\times|\\cdot|(?<=\d)\s*x|[*\u00d7\u22c5\u00b7])\s*10\s*(?:\^|\*\*)\s*([-+\u2212]?\d+)", r"e\1"),
    (r"(?<=\d)\s*(?:[\u00f7\u2215\u2044]|\\div)\s*(?=\d)", "/"),
    (r"(?<![\d.,])([1-9]\d{0,2}(?:\.\d{3})+),(\d+)(?![\d.,])", lambda found: f"{found[1].replace('.', '')}.{found[2]}"),
    (r"(?<![\d.,])(\d{1,3}(?: \d{3})+),(\d{1,2})(?![\d.,])", lambda found: f"{found[1].replace(' ', '')}.{found[2]}"),
    (r"(?<![\d.,])\d{1,3}(?:\.\d{3}){2,}(?![\d.,])", lambda found: found[0].replace(".", "")),
    (r"(?<![\d.,])\d{1,2}(?:,\d{2})+,\d{3}(?!\d|,)", lambda found: found[0].replace(",", "")),
    (r"(?<=\d)['\u2019](?=\d{3}(?!\d))", ""),
    (r"(?<=\d),?\s*\(?(?:approximately|approx\.?|roughly|about|exactly)\)?\s*$", ""),
    (r"\bper\s*cent\b|\bpct\b", "percent"),
    (r"(?<![\w.])10\s*\^\s*([-+\u2212]?\d)", r"1e\1"),
    (r"\\(?:approx|sim(?:eq)?)(?![a-zA-Z])|\u2248", "="),
    (r"[\u2212\u2013]", "-"),
    (r"\\([%$])", r"\1"),
    (r"(?<!\\)\\[()\[\];: ]|[{}$~]|\*\*", " "),
    (r"\b(?:minus|negative)\s+(?=[.\d])", "-"),
    (r"(?<!\S)%\s?(\d[\d.,]*)(?!\S)", r"\1%"),
]
_IN_ONE_SPELLING = [(re.compile(pattern), replacement) for pattern, replacement in _SPELLINGS]
_APART = re.compile(r"(?<![\w.])([-+])\s+(?=[.\d])")
_SYMBOLS = [
    (re.compile(pattern, re.IGNORECASE), symbol)
    for pattern, symbol in [
        (r"\b(?:square|sq\.?)\s+([a-z]+)|\b([a-z]+)(?:\s+squared|²)", r"\1\2^2"),
        (r"\b(?:cubic|cu\.?)\s+([a-z]+)|\b([a-z]+)(?:\s+cubed|³)", r"\1\2^3"),
        *(
            (rf"\b{prefix}met(?:er|re)s?\b", symbol)
            for prefix, symbol in (("centi", "cm"), ("milli", "mm"), ("kilo", "km"), ("", "m"))
        ),
        *((rf"\b{prefix}grams?\b", symbol) for prefix, symbol in (("kilo", "kg"), ("milli", "mg"), ("", "g"))),
        *(
            (r"\b(?:feet|foot)\b", "ft"),
            (r"\b(?:inch|inches)\b", "in"),
            (r"\bpounds?\b", "lb"),
            (r"\blit(?:er|re)s?\b", "l"),
        ),
        *(
            (r"\b(?:seconds?|secs?)\b", "s"),
            (r"\b(?:minutes?|mins)\b", "min"),
            (r"\b(?:hours?|hrs?)\b", "h"),
            (r"\bpercent\b", "%"),
        ),
        (r"\b(?:degrees?|deg)\b", "°"),
        (r"\s+per\s+", "/"),
        (r"\b([a-z]+)([23])\b", r"\1^\2"),
        (r"[\s·]+([a-z]+)\^-1\b", r"/\1"),
        (r"[\s·]+([a-z]+)\^-(\d)", r"/\1^\2"),
    ]
]
_VULGAR = re.compile(r"[\u00bc-\u00be\u2150-\u215e]")
LONGEST = 500
"""Characters of a text that may be a number."""
EXACT = 2.0**53
"""Up to here whole numbers are told apart."""
_LARGEST_FACTORIAL = 170


@dataclass(frozen=True)
class Quantity:
    """A number with what stands behind it: ``1,250 kg`` is 1250 of ``kg``. The value of a percentage is as written."""

    value: float
    unit: str = ""

    @property
    def is_percentage(self) -> bool:
        return self.unit.startswith(("%", "percent"))

    def __str__(self) -> str:
        value = str(int(self.value)) if self.value.is_integer() and abs(self.value) < EXACT else f"{self.value:.12g}"
        return f"{value} {self.unit}".rstrip()


def parse_quantity(text: str) -> Quantity | None:
    r"""The one number that a text states; None if it states none, several, one that can be read in two ways, or more
    than a number.

    What is left of the last equals sign does not count, nor do words and currency signs before the number, unless they
    change it (``not 12``, ``at least 12``, ``2x``, ``\sqrt{2}``). ``1,5`` can be read in two ways; ``1,500`` is a
    thousand and a half. Fractions, mixed numbers, factorials and powers of ten are numbers.

    >>> parse_quantity("x = 1,250.5 kg"), parse_quantity(r"$-1\frac{1}{2}$")
    (Quantity(value=1250.5, unit='kg'), Quantity(value=-1.5, unit=''))
    >>> parse_quantity(r"12\%"), parse_quantity(r"3 \times 10^{2} m/s^2")
    (Quantity(value=12.0, unit='%'), Quantity(value=300.0, unit='m/s^2'))
    >>> [parse_quantity(text) for text in ("1,5", "12 or 13", "1/0", "none", "3-4", r"\sqrt{2}", "not 12", "12x")]
    [None, None, None, None, None, None, None, None]
    """
    if len(text) > LONGEST:
        return None
    left, _, stated = _APART.sub(r"\1", in_one_spelling(text)).rpartition("=")
    found = _NUMBER.search(stated)
    if found is None or _says_more(left, stated[: found.start()], found["sign"]):
        return None
    value, rest = _value(found), stated[found.end() :]
    if value is None or not _UNIT.fullmatch(rest) or _GOES_ON.match(rest):  # a unit has no room for a second number
        return None
    return Quantity(value, " ".join(rest.split()).strip(" .").casefold())


def in_one_spelling(text: str) -> str:
    r"""A text whose numbers are written in digits: fractions with a slash, powers of ten with an e.

    >>> in_one_spelling(r"1\frac{1}{2}"), in_one_spelling(r"3 \cdot 10^8"), in_one_spelling("1.234,5")
    ('1 1/2', '3e8', '1234.5')
    """
    text = repeating_as_fraction(scaled_in_digits(text))  # while there are dollars
    text = _VULGAR.sub(lambda sign: f" {_NFKC(sign[0]).replace(chr(0x2044), '/')}", text)
    for pattern, replacement in _IN_ONE_SPELLING:
        text = pattern.sub(replacement, text)
    return scaled_in_digits(text).strip()


def repeating_as_fraction(text: str) -> str:
    r"""A text whose repeating decimals are fractions.

    >>> repeating_as_fraction(r"0.\overline{3}"), repeating_as_fraction(r"0.1\overline{6}")
    ('\\frac{3}{9}', '\\frac{15}{90}')
    """
    return _REPEATING.sub(_as_fraction, text)


def _as_fraction(found: re.Match[str]) -> str:
    before, after, repeated = found.groups()
    top = int(before + after + repeated) - int(before + after or "0")
    return rf"\frac{{{top}}}{{{'9' * len(repeated)}{'0' * len(after)}}}"


def agree(answer: Quantity, reference: Quantity, tolerance: float, absolute_tolerance: float) -> bool:
    """Whether two quantities are the same, within ``tolerance`` of the reference's value or ``absolute_tolerance``.

    A unit that one of them leaves out does not count; two different ones do. So 50 %, 50 and 0.5 are all the same as
    50 %, but 50 is not the same as 0.5.
    """
    if not units_agree(answer.unit, reference.unit):
        return False
    values = [(answer.value, reference.value)]
    if answer.is_percentage != reference.is_percentage:
        values.append((_ratio(answer), _ratio(reference)))
    return any(abs(left - right) <= max(tolerance * abs(right), absolute_tolerance) for left, right in values)


def units_agree(left: str, right: str) -> bool:
    """Equal, by name or symbol, or one is left out, or goes on in words after the other: ``cm`` and ``cm long``."""
    left, right = (f"{_symbol(unit)} " for unit in (left, right))
    return left == " " or right == " " or left.startswith(right) or right.startswith(left)


def _symbol(unit: str) -> str:
    """``square centimetres`` is ``cm^2``."""
    for pattern, symbol in _SYMBOLS:
        unit = pattern.sub(symbol, unit)
    return unit


def _says_more(left: str, lead: str, sign: str) -> bool:
    """Whether what stands before a number makes another number of it, or states a further one."""
    several = "=" in left and re.search(r"[,;]\s|\b(?:and|or)\b", left)
    taken_from = sign and re.search(r"(?<![^\W\d_])[^\W\d_]\s*$|\)\s*$", lead)  # `x - 2`, but not `it is -2`
    return bool(
        several or taken_from or _CHANGES_IT.search(left[-2:]) or _CHANGES_IT.search(lead) or not _LEAD.fullmatch(lead)
    )


def _value(match: re.Match[str]) -> float | None:
    part = {name: text.replace(",", "") for name, text in match.groupdict("").items()}
    try:
        if part["parts"]:
            value = float(part["whole"]) + float(part["part"]) / float(part["parts"])
        elif part["bottom"]:
            value = float(part["top"]) / float(part["bottom"])
        elif part["factorial"]:
            number = int(part["factorial"][:4])
            value = float(factorial(number)) if number <= _LARGEST_FACTORIAL else float("inf")
        else:
            value = float(part["plain"] + part["power"])
    except ZeroDivisionError:
        return None
    return (-value if part["sign"] == "-" else value) if isfinite(value) else None


def _ratio(quantity: Quantity) -> float:
    return quantity.value / 100 if quantity.is_percentage else quantity.value
