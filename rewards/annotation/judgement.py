"""What a judge says of a batch of rollouts; in a file of its own for those who read it and ask nobody."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Judgement:
    """What came of a batch of B rollouts.

    Attributes:
        verdicts: For each rollout (K,): 1 right, 0 wrong, NaN unknown; see `rewards.annotation.verdicts.step_verdicts`.
        judged: Rollouts with a verdict, from the judge or from the cache.
        cached: Those from the cache.
        failures: Rollouts without one although they were to be judged, by reason.
        problem: The last failure in words; empty without one. The API key is not in it.
        calls: Replies of the judge, usable or not.
        prompt_tokens, completion_tokens: What they took, as the endpoint counts.
        cost: Their price.
        cache_failed: Whether the cache could not be used.
    """

    verdicts: list[np.ndarray]
    judged: int = 0
    cached: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    problem: str = ""
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    cache_failed: bool = False
