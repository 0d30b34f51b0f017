"""A value of the user's as a message shows it: short, on one line, and without the password of an address."""

from __future__ import annotations

import re
from reprlib import Repr
from typing import Any

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 200
_SHORT.maxlong = 60
_SHORT.maxlevel = 2

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)|(?<=[?&])[^\s'\"]+")


def shown(value: Any) -> str:
    """As Python writes it, shortened where it is long or deep; what an address has in ``USER:PASSWORD@`` or after its
    ``?`` is left out.

    >>> shown(["a.png", 3]), shown("x" * 300)[95:110], shown("https://me:secret@judge/v1?key=secret")
    ("['a.png', 3]", 'xxx...xxxxxxxxx', "'https://***@judge/v1?***'")
    """
    return _CREDENTIALS.sub("***", _SHORT.repr(value))
