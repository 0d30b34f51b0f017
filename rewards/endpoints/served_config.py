"""The section of a configuration on a served reward model."""

from __future__ import annotations

from typing import Literal

from rewards.endpoints.config import EndpointConfig


class ServedConfig(EndpointConfig):
    """A process reward model behind a URL, which scores steps in place of an MPRM of the run's own, and learns nothing;
    see `rewards.served.step_scores`. A score that does not come ends the run, with a checkpoint."""

    interface: Literal["pooling", "judge"] = "pooling"
    """What is there: `pooling` (vLLM's `/pooling`, with a reward model that scores each step), or `judge` (an
    OpenAI-compatible chat, asked for the first wrong step as `judge` is)."""
    system: str | None = None
    """Of `pooling`: the system prompt that the model was trained with; null for none."""
    step_marker: str = "<extra_0>"
    """Of `pooling`: what ends each step in the text, and where the server reads a score; Qwen2.5-Math-PRM's."""
    column: int = -1
    """Of `pooling`: which of the numbers of a step is the chance that it is right, counted from 0, or from the end by
    negative ones: the last of Qwen2.5-Math-PRM's, the first of Math-Shepherd's."""
