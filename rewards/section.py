"""What every section of a configuration is made of, and the kinds of its values."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
AdamW = Literal["adamw", "adamw_8bit"]


LARGEST = 2**63 - 1
"""Of whole numbers: what tensors, files and databases hold."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_meant(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML knows texts that no file can hold; Python counts true and false among the numbers."""
        if isinstance(value, str) and re.search(r"[\0\ud800-\udfff]", value):
            raise ValueError("input should be text that a file can hold: no zero, and no half of a character")
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and annotation in (int, float):
            raise ValueError("input should be a number")
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, int) and abs(number) > LARGEST:
                raise ValueError(f"input should be no whole number beyond {LARGEST:.1e}")
        return value


def is_due(every: int, step: int) -> bool:
    """Whether something that happens every so many steps (0: never) happens after ``step``."""
    return every > 0 and step % every == 0
