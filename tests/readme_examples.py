"""What a reader can copy out of the README: commands, Python files, scripts."""

from __future__ import annotations

import re
import shlex

COMMAND = r"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/|make |python |ray |sieve |sbatch |srun )\S"
BLOCK = re.compile(r"(?:\A|\n\n)((?: {4}[^\n]*(?:\n|\Z))+)|^```(?:bash|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:\.venv/bin/|python |make )[^`\n]+)`")
MENTION = re.compile(r"`(sieve [^`\n]+)`")
FILE = re.compile(r"^```(\w+)\n(?:#!.*\n)?# (\S+\.\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Every command, as words, without comments: of blocks, where a line may go on in the next one, and within lines.

    >>> commands("Type\\n\\n    $ make test   # all of it\\n    passed\\n\\nor `make lint`.\\n")
    [['make', 'test'], ['make', 'lint']]
    >>> commands("\\n\\n    python -c 'print(1)\\n    print(2)'\\n    python a.py \\\\\\n        --b\\n")
    [['python', '-c', 'print(1)\\nprint(2)'], ['python', 'a.py', '--b']]
    """
    found = []
    for indented, fenced in BLOCK.findall(text):
        lines = re.sub(r"^ {4}", "", indented, flags=re.MULTILINE).splitlines() or fenced.splitlines()
        while lines:
            line = lines.pop(0).strip().removeprefix("$ ")
            if re.match(COMMAND, line):
                found.append(_words(line, lines))
    return found + [shlex.split(inline) for inline in INLINE.findall(re.sub(BLOCK, "\n\n", text))]


def mentions(text: str) -> list[list[str]]:
    """Every ``sieve …`` within a line, as words: a command, perhaps with some of its options.

    >>> mentions("what `sieve select --workers 1` chooses")
    [['sieve', 'select', '--workers', '1']]
    """
    return [shlex.split(mention) for mention in MENTION.findall(text)]


def files(text: str) -> dict[str, str]:
    """Every fenced block that begins with its file's name as a comment: name and contents.

    >>> files("```python\\n# a.py\\nprint(1)\\n```\\n")
    {'a.py': 'print(1)\\n'}
    """
    return {name: contents for _, name, contents in FILE.findall(text)}


def nameless(text: str) -> list[str]:
    """Fenced blocks of Python that no reader could save, since they have no name."""
    return [block for block in FENCED.findall(text) if not re.match(r"# \S+\.py\n", block)]


def _words(line: str, following: list[str]) -> list[str]:
    """Split a line as a shell does, with the lines that it goes on in, which are taken away from those that follow."""
    while True:
        try:
            if not line.endswith("\\"):
                return shlex.split(line, comments=True)
            line = line[:-1] + following.pop(0).strip()
        except ValueError:  # a quotation is still open
            line += "\n" + following.pop(0)
