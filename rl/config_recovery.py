"""The section of an experiment's configuration on what happens when something breaks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rl.config_sections import Section


class RecoveryConfig(Section):
    """What happens when a worker dies, or does not answer within `deadline`."""

    attempts: Annotated[int, Field(ge=0)] = 3
    """Times in a row, without a new finished policy step, that the run begins anew from its newest checkpoint; then, or
    with 0 at once, it stops with the cause."""
