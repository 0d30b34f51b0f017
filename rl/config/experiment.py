"""What an experiment is."""

from __future__ import annotations

from pydantic import model_validator

from rl.config.checks import check_fit
from rl.config.sections import Sections


class Config(Sections):
    """One experiment, with nothing in it that contradicts itself."""

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        check_fit(self)
        return self
