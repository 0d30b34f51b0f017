"""The rules of steps that have a name.

`line`: at every line break.
`blank_line`: at every blank line, with white space in it or without.
`numbered`: see `rewards.models.numbered_steps`.
`sentence`: see `rewards.models.sentences`.
"""

from __future__ import annotations

import re

from rewards.invisible import INVISIBLE
from rewards.models.numbered_steps import numbered_steps
from rewards.models.sentences import sentences
from rewards.models.step_rule import Gap, StepRule, rule_of_expression

BLANK_LINES = re.compile(rf"\n(?:(?:[^\S\n]|[{INVISIBLE}])*\n)+")
LINE = rule_of_expression(r"\n")
RULES = {
    "line": LINE,
    "blank_line": StepRule(
        lambda text: (Gap(*match.span()) for match in BLANK_LINES.finditer(text)), between="\n\n", until="\n\n"
    ),
    "numbered": StepRule(numbered_steps),
    "sentence": StepRule(sentences),
}
