"""Seeds that depend on what they are for, not on when they are drawn: so a resumed or retried run samples the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from hashlib import blake2b


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**31) from the text of ``parts``, for example ``derive_seed(seed, "rollout", step, prompt.id)``.

    >>> derive_seed(0, "rollout", 3) == derive_seed(0, "rollout", 3) != derive_seed(0, "rollout", 4)
    True
    """
    digest = blake2b("\x1f".join(str(part) for part in parts).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def copies(keys: Iterable[Hashable]) -> list[tuple[object, ...]]:
    """Further parts of `derive_seed` for things that would have one seed: none for the first of equal keys.

    >>> copies("aba")
    [(), (), ('copy', 1)]
    """
    seen: Counter[Hashable] = Counter()
    found: list[tuple[object, ...]] = []
    for key in keys:
        found.append(("copy", seen[key]) if seen[key] else ())
        seen[key] += 1
    return found
