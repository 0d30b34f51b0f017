"""TensorBoard: what a run writes can be read again."""

from __future__ import annotations

import tempfile
from importlib.metadata import version

from rl.doctor.finding import Finding


def dashboard() -> Finding:
    """Write a number as a run does, and read it as TensorBoard does."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory() as folder:
        with SummaryWriter(folder) as writer:
            writer.add_scalar("policy/accuracy", 0.5, 1)
        events = EventAccumulator(folder)
        events.Reload()
        (event,) = events.Scalars("policy/accuracy")
    if event.value != 0.5:
        return Finding("missing", f"{version('tensorboard')} reads {event.value} where 0.5 was written")
    return Finding("ok", f"{version('tensorboard')} reads what a run writes")
