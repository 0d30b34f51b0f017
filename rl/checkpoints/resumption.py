"""Which keys of a run cannot change when it is resumed: what its checkpoint holds was made with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rl.config import Config
from rl.config.labels import AnnotationConfig
from rl.config.reading import read_values
from rl.errors import ConfigError

FIXED = (
    *("policy.checkpoint", "task.system", "learner.lora_rank", "learner.algorithm", "learner.optimizer"),
    *("mprm.enabled", "mprm.checkpoint", "mprm.head", "mprm.input_format", "mprm.verdicts", "mprm.step_marker"),
    *("mprm.likelihood", "mprm.warm_start", "mprm.warm_start_kept", "mprm.freeze_vision", "mprm.lora_rank"),
    *("mprm.optimizer", "value.backbone", "value.checkpoint"),
    *("outcome_model.checkpoint", "outcome_model.freeze_vision"),
)


UNDER_WAY = ("task.steps", "task.answer_marker", *(f"annotation.{name}" for name in AnnotationConfig.model_fields))
"""What labels under way were begun with: where steps end, and which of them are continued how often."""


def check_resumption(was: Config, now: Config) -> None:
    """Whether a run can go on with another configuration than it had.

    Raises:
        ConfigError: One of the keys in `FIXED` has another value, or, where labels may come late, in `UNDER_WAY`; or
            the outcome model, reference policy or served reward model comes or goes.
    """
    pairs = [(key, _value(was, key), _value(now, key)) for key in FIXED]
    pairs += [("outcome_model.reward or harvest", was.outcome_model.is_used, now.outcome_model.is_used)]
    pairs += [("learner.reference_every", bool(was.learner.reference_every), bool(now.learner.reference_every))]
    if was.annotation.delay:  # labels are under way
        ranks = ("selection.alpha",) if was.annotation.budget == "triage" else ()
        pairs += [(key, _value(was, key), _value(now, key)) for key in (*UNDER_WAY, *ranks)]
    pairs += [("served.endpoint", was.served.endpoint is not None, now.served.endpoint is not None)]
    for key, before, after in pairs:
        if before != after:
            raise ConfigError(
                f"{key} is {json.dumps(after)}: allowed with --resume is what the run was started with, "
                f"{json.dumps(before)}"
            )


def check_keys(path: Path, kept: Path) -> None:
    """Whether a run's configuration still has all keys of the one that its checkpoint keeps: a file that was emptied
    or cut off would go on with defaults.

    Raises:
        ConfigError: It lacks some, or is no configuration.
    """
    there, wanted = _keys(path), _keys(kept)
    if lost := [key for key in wanted if key not in there]:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise ConfigError(f"{path} lacks {', '.join(lost[:3])}{more}, which {kept} has; allowed is all of them")


def _keys(path: Path) -> dict[str, None]:
    """The keys of a configuration's file, in order; those of sections as ``section.key``."""
    values = read_values(path)
    return dict.fromkeys(
        key
        for name, value in values.items()
        for key in ([f"{name}.{inner}" for inner in value] if isinstance(value, dict) else [name])
    )


def _value(config: Config, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)
