r"""Where a completion states its final answer: one order, the same for every verifier.

1. What stands up to the last ``</think>`` is thought, and no answer; a thought that does not end has none. What is
   struck out is left out.
2. What is in the last ``<answer>…</answer>``, or ``<conclusion>…</conclusion>``.
3. The value of the last JSON key ``"answer"``, unless something is boxed behind it.
4. What is in the last ``\boxed{…}``, and in those beside it: ``\boxed{1}, \boxed{2}`` states two.
5. What follows the last marker: ``Answer:``, ``the answer is``, ``Final Answer:``, ``the correct option is``, a heading
   ``Answer``, the last line after ``####``, or the like in another language (`_MARKER`). It is the line, or the display
   maths or code block that begins there.
6. Only where none of these stands anywhere: what the verifier takes for an answer then, outside of calls of tools.

What is found in 2 to 5 is searched again, for ``<answer>The answer is \boxed{4}</answer>``. A place that is empty, or
never closed, states an answer that cannot be read: that is none, and no other place is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from rewards.verification.characters import plain_characters
from rewards.verification.decoration import LONGEST, undecorated

_QUOTED = re.compile(r"^[ \t]*(?:>[ \t]+)+", re.MULTILINE)
_THOUGHT = re.compile(
    r"<(/)?(?:\w+:)?(?:think(?:ing)?|thought)>|◁(/)?think▷|\[(/)?THINK\]|<\|(?:begin|(end))_of_thought\|>"
    r"|<\|channel\|>(?:analysis|commentary|(final))\b[^<\n]*<\|message\|>",
    re.IGNORECASE,
)
_STRUCK = re.compile(
    r"(?<![^\s*_(>:])~~(?=\S)[^\n]{1,200}?(?<=\S)~~(?![^\s.,;:!?)*_<])|(?!\A)<(s|del|strike)>.{0,200}?</\1>"
    r"|\\(?:cancel|sout)\s*\{[^{}]*\}|(?:[^\n][\u0335-\u0338])+",
    re.IGNORECASE | re.DOTALL,
)
_CALL = re.compile(r"<tool_call>.*?(?:</tool_call>|\Z)", re.DOTALL)
_TAG = re.compile(r"<(/?)(?:(?:final[_ ]?)?answer|conclusion)>|<\|(?:begin|(end))_of_box\|>", re.IGNORECASE)
_KEY = re.compile(r"""(["'])(?:(?:final|correct|right|predicted)[\s_-]*)?answer\1\s*:\s*""", re.IGNORECASE)
_VALUE = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'|\[([^\[\]]*)\]|([^\s"\'\[{][^,}\]\n]*)', re.DOTALL)
_NAMES = "eq?|abla|u|ot|otin|i|mid|leq|geq|exists|parallel|subseteq|earrow|warrow"  # of LaTeX, behind its n
_ESCAPE = re.compile(rf'\\(?:(["\\/])|u([0-9a-fA-F]{{4}})|n(?!(?:{_NAMES})(?![a-zA-Z])))')
_BOX = re.compile(r"\\f?box(?:ed)?(?![a-zA-Z])\s*")
_BESIDE = re.compile(r"\s*\}(?:[ \t,;&$]|\\[()]|\\q?quad|\\[,;: ]|\\text\{ {0,3}(?:and|or) {0,3}\}|and|or)*")
_MARKER = re.compile(
    r"""
    (?: \b(?: answer (?:\s+(?:to|of|for)\s+[^.:!?\n]{1,80}?)? (?:\s+choice|\s+option)?
          | (?:final|correct|right|best)\s+(?:option|choice|result) )
        ["'*_`}]* (?: \s*(?:is|(?:should|would|must|will)\s+be)\b
                     (?:\s+(?:therefore|thus|hence|then|clearly|simply|indeed|given\s+by)\b)?\s*:? | \s*[:=] )
      | \b(?:ответ|відповідь|respuesta|réponse|antwort|risposta|resposta|odpowiedź|cevap|antwoord|svaret?|odpověď
          |jawaban|đáp\s+án|câu\s+trả\s+lời|απάντηση|정답|답|الإجابة|الجواب|پاسخ|جواب|תשובה|उत्तर|উত্তর|คำตอบ)
        (?:\s+(?:corr?ec?tt?[aeo]|final[e]?|đúng|الصحيحة|النهائية|ถูก))? ["'*_`]*
        (?: \s*(?:[:=—]|(?:es|est|ist|è|é|is|är|lautet|adalah|là|هي|هو|है|คือ)(?!\w)) | (?<=답)은 )
      | (?:答案|答え|正解|正确选项|(?:故|应|所以|因此)选|故選) ["'*_`】]* (?:\s*(?:应该)?[是为為选選はが])?\s*:?
      | ^[ \t#>*_]*(?:the\s+)?(?:final\s+|correct\s+)?answer[ \t*_]*$
      | ^[ \t]*\#{4}[ \t]+(?=[^\n]*\s*\Z|[-+$]?\d[\d,./]*[ \t]*$)
      | \bans\.?\s*[:=]
    ) (?:\s*\})? [*_`]*
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_BLOCKS = (("```", "```"), ("~~~", "~~~"), ("$$", "$$"), (r"\[", r"\]"), (r"\(", r"\)"), (r"\begin{", r"\end{"))
_WORDS = re.compile(r"[^\W\d_]{2}[^\d$\\]*")
_DISPLAY = re.compile(r"\s*(?:\\\[|\$\$)")
_CLOSE = re.compile(r"(?:I hope (?:it|this) is correct|번?입니다|번|이다|です|である)\W*$")
_DEEPEST = 4


@dataclass(frozen=True)
class FinalAnswer:
    """What a completion gives as its answer.

    Attributes:
        text: Without decoration (`rewards.verification.decoration`).
        prose: Whether it stands in a sentence, where ``42!`` is an exclamation, rather than in a place of its own.
    """

    text: str
    prose: bool = False


def final_answer(completion: str, otherwise: Callable[[str], str | None] | None = None) -> FinalAnswer | None:
    r"""The final answer of a completion, by the order above; None without one.

    Args:
        completion: What a model wrote.
        otherwise: What is the answer of a text that states none; None for nothing.

    >>> final_answer(r"<think>Answer: 3</think>\boxed{\frac{1}{2}}."), final_answer("The answer is **4**.\n(I think)")
    (FinalAnswer(text='\\frac{1}{2}', prose=False), FinalAnswer(text='4', prose=True))
    >>> final_answer("4"), final_answer("4", lambda text: text), final_answer(r"Answer: \boxed{4")
    (None, FinalAnswer(text='4', prose=True), None)
    """
    text = after_thought(_QUOTED.sub("", "\n".join(plain_characters(completion).splitlines())))
    text = _STRUCK.sub(" ", text)
    found = _stated(text)
    if found is None and otherwise is not None:
        found = FinalAnswer(plain_characters(otherwise(_CALL.sub(" ", text)) or ""), prose=True)
    return None if found is None or not found.text else FinalAnswer(undecorated(found.text), found.prose)


def reference_answer(reference: str) -> str:
    r"""A reference answer without decoration, and without what its table puts around it: a solution, a box, a tag.

    >>> [reference_answer(text) for text in (r"$\boxed{12}$", "3 * 4 = 12\n#### 12", "<answer> B </answer>")]
    ['12', '12', 'B']
    """
    found = final_answer(reference)
    return undecorated(plain_characters(reference)) if found is None else found.text


def boxed_text(text: str) -> str | None:
    r"""What is in the last ``\boxed{…}`` or ``\fbox{…}``, with the braces within; None if there is none, or it is empty
    or not closed.

    >>> boxed_text(r"\boxed{1} or \boxed{x^{2}}"), boxed_text(r"\boxed{1} or \boxed{2")
    ('x^{2}', None)
    """
    *_, last = (None, *_BOX.finditer(text))
    if last is None or not text.startswith("{", last.end()):
        return None
    depth = 0
    for place in range(last.end(), len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return text[last.end() + 1 : place].strip() or None
    return None


def after_thought(text: str) -> str:
    """What stands behind the last thought; an answer that cannot be read, where that does not end."""
    *_, last = (None, *_THOUGHT.finditer(text))
    if last is None:
        return text
    return text[last.end() :] if last.lastindex else r"\boxed"


def _stated(text: str, depth: int = 0) -> FinalAnswer | None:
    """What a text states; of empty text where it cannot be read, and None where nothing is stated."""
    for place in (_tagged, _keyed, _boxed):
        inner = place(text)
        if inner is not None:
            return (_stated(inner, depth + 1) if depth < _DEEPEST else None) or FinalAnswer(inner)
    *_, last = (None, *_MARKER.finditer(text))
    return None if last is None else FinalAnswer(_CLOSE.sub("", _statement(text[last.end() :])), prose=True)


def _tagged(text: str) -> str | None:
    """What is in the last tags; a tag that opened before the completion begins has its end here."""
    *_, before, last = (None, None, *_TAG.finditer(text))
    if last is None:
        return None
    if not (last[1] or last[2]):
        return ""
    return text[0 if before is None else before.end() : last.start()].strip()


def _keyed(text: str) -> str | None:
    *_, key = (None, *_KEY.finditer(text))
    if key is None:
        return None
    value = _VALUE.match(text, key.end())
    if _BOX.search(text, key.end() if value is None else value.end()):
        return None
    if value is None or value[4] == "null":
        return ""
    quoted, single, listed, bare = value.groups()
    if listed is not None:
        quoted = ", ".join(entry.strip().strip("\"'") for entry in listed.split(","))
    return bare.strip() if bare is not None else _ESCAPE.sub(_unescaped, quoted if quoted is not None else single)


def _unescaped(escape: re.Match[str]) -> str:
    r"""JSON's escapes, but for those that a model means as LaTeX when it writes ``"\frac{1}{2}"``."""
    return escape[1] or (chr(int(escape[2], 16)) if escape[2] else "\n")


def _boxed(text: str) -> str | None:
    """What is in the last box, and in those beside it: ``\\boxed{1}, \\boxed{2}`` states two."""
    boxes = list(_BOX.finditer(text))
    if not boxes or (last := boxed_text(text)) is None:
        return "" if boxes else None
    stated = [last]
    for box, following in pairwise(reversed(boxes)):
        before = text[following.start() : box.start()]
        inner = boxed_text(before) if len(before) <= LONGEST else None
        if inner is None or not _BESIDE.fullmatch(before[before.rindex(inner) + len(inner) :]):
            break
        stated.insert(0, inner)
    return ", ".join(dict.fromkeys(stated))


def _statement(rest: str) -> str:
    """The first line, with the rest of the block that opens in it; the next one where it only leads there."""
    line = ""
    for _ in range(_DEEPEST):
        rest = rest.strip()
        line, newline, further = rest.partition("\n")
        if (block := _block(line, rest)) is not None:
            return block
        leads = line.rstrip("* ").endswith(":") or (_WORDS.fullmatch(line) and _DISPLAY.match(further))
        if not newline or not leads:
            break
        rest = further
    return line


def _block(line: str, rest: str) -> str | None:
    """The text up to the end of the block that opens in its first line; None where none does, or it has no end."""
    for opening, closing in _BLOCKS:
        start = line.rfind(opening)
        if start < 0 or line.count(opening) % 2 == 0 or closing in line[start + len(opening) :]:
            continue
        end = rest.find(closing, len(line))
        if end >= 0:
            return rest[: end + len(closing)] + (
                "" if closing[-1] != "{" else rest[end + len(closing) :].split("}")[0] + "}"
            )
    return None
