"""What a model is told beside its own section of the configuration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Runtime:
    """What the sections of a configuration have in common for a model.

    Attributes:
        dtype: Number format of the backbone; heads compute in float32.
        threads: CPU threads.
        trust_remote_code: Whether code shipped with the checkpoint may run.
        seed: Of the weights of new heads and adapters.
        deadline: Seconds that ranks wait for one another.
    """

    dtype: str = "float32"
    threads: int = 1
    trust_remote_code: bool = False
    seed: int = 0
    deadline: float = 600.0
