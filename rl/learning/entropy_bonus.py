"""The entropy bonus of TRL's `GRPOTrainer`, a mean over the tokens of the whole mini-batch and not of a piece of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class EntropyBonus:
    """What a nat of mean token entropy is worth: the loss is the policy's minus ``weight`` times the entropy.

    Adaptive, the coefficient rises by ``delta`` after an optimizer step whose entropy was at most ``target``, else it
    falls by as much; and it counts only while the entropy is that low (Skywork-OR1, arXiv 2505.22312, section 5).

    Attributes:
        coefficient: The current one.
        last: Mean token entropy in the last optimizer step, in nats.
    """

    coefficient: float
    adaptive: bool
    least: float
    most: float
    delta: float
    target: float
    last: float = math.inf

    @property
    def is_used(self) -> bool:
        """Whether there is a bonus, now or ever."""
        return self.adaptive or self.coefficient != 0

    @property
    def weight(self) -> float:
        """What counts in the next optimizer step."""
        return self.coefficient if not self.adaptive or self.last <= self.target else 0.0

    def after(self, entropy: float) -> None:
        """An optimizer step had this mean token entropy."""
        if self.adaptive:
            low = entropy <= self.target
            self.coefficient += self.delta if low else -self.delta
            self.coefficient = min(self.coefficient, self.most) if low else max(self.coefficient, self.least)
            self.last = entropy

    def state(self) -> dict[str, float]:
        """For a checkpoint."""
        return {"coefficient": self.coefficient, "last": self.last if math.isfinite(self.last) else -1.0}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.coefficient = state["coefficient"]
        self.last = state["last"] if state["last"] >= 0 else math.inf
