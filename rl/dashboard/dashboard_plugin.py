"""TensorBoard's custom scalars, made legible: which line of a chart is which."""

from __future__ import annotations

import json
from itertools import cycle
from typing import Any

from tensorboard.plugins.base_plugin import FrontendMetadata
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin

MARKS = "◼◆▲★✚"
"""What TensorBoard marks the lines of a chart with, in the order in which it is given them."""


class DashboardPlugin(CustomScalarsPlugin):
    """Gives the lines of a chart in the layout's order, and so can put their marks into the chart's title.

    Left to itself TensorBoard takes them in any order, and colours are for runs.
    """

    def frontend_metadata(self) -> FrontendMetadata:
        """As it was, by another name."""
        return FrontendMetadata(element_name=super().frontend_metadata().element_name, tab_name="Dashboard")

    def layout_impl(self, ctx: Any, experiment: str) -> Any:
        """The layout as JSON, with marks in its titles."""
        layout = json.loads(super().layout_impl(ctx, experiment) or "{}")
        for category in layout.get("category", []):
            for chart in category["chart"]:
                if "multiline" in chart:
                    chart["title"] = marked(chart["title"])
        return json.dumps(layout)

    def scalars_impl(self, ctx: Any, run: str, tag_regex_string: str, experiment: str) -> Any:
        """The values of each metric that matches one of the alternatives, ordered as those are."""
        found = super().scalars_impl(ctx, run, tag_regex_string, experiment)
        alternatives = tag_regex_string.split("|")
        events = found["tag_to_events"].items()
        in_order = sorted(events, key=lambda item: (_place(item[0], alternatives), item[0]))
        return found | {"tag_to_events": dict(in_order)}


def marked(title: str) -> str:
    """A chart's title with the marks of the lines that it names, if it does.

    >>> marked("label mixture: offered; kept")
    'label mixture: ◼ offered ◆ kept'
    """
    about, colon, names = title.partition(": ")
    if not colon:
        return title
    return f"{about}: " + " ".join(
        f"{mark} {name}" for mark, name in zip(cycle(MARKS), names.split("; "), strict=False)
    )


def _place(metric: str, alternatives: list[str]) -> int:
    """Which of ``(^metric$)`` a metric is; the last one for those that are described otherwise."""
    exact = f"(^{metric}$)"
    return alternatives.index(exact) if exact in alternatives else len(alternatives)
