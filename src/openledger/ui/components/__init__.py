"""Elements with a part of their own in the browser: relative times, charts in the theme's colours, the influence
heatmap, the wallets that the browser has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nicegui import ui
from nicegui.element import Element

from openledger.node.views import SpanView
from openledger.ui.formatting import exact_time

_CHARTS = ui.echart
"""Importing it makes the bundled ECharts known to the browser."""


class Timestamp(Element, component="timestamp.js"):
    """A moment as ``3 minutes ago``, kept up to date, with the exact time in its tooltip."""

    def __init__(self, seconds: int) -> None:
        super().__init__()
        self.props["at"] = seconds
        self.props["exact"] = exact_time(seconds)


class WalletList(Element, component="wallet_list.js"):
    """The wallets that the browser has, each a button that signs in with it."""


class Chart(Element, component="themed_chart.js"):
    """An ECharts chart that follows the theme.

    Args:
        options: ECharts options; ``var(--name)`` is a colour of the theme, ``{"format": name}`` a number format.
        label: what the chart shows, for people who cannot see it.
    """

    def __init__(self, options: dict[str, Any], label: str) -> None:
        super().__init__()
        self.props["options"] = options
        self.props["label"] = label

    def show(self, options: dict[str, Any]) -> None:
        """Replaces the options."""
        self.props["options"] = options


@dataclass(frozen=True)
class HeatmapRow:
    """One record's influence on each token, with what names the record and its share."""

    label: str
    note: str
    values: Sequence[float]


class Heatmap(Element, component="influence_heatmap.js"):
    """The answer's tokens coloured by influence; a person chooses the record.

    Args:
        tokens: the answer's tokens as text.
        rows: one row for each record, as long as ``tokens``.
        spans: where the answer's words stand verbatim in records, by character.
    """

    def __init__(self, tokens: Sequence[str], rows: Sequence[HeatmapRow], spans: Sequence[SpanView]) -> None:
        super().__init__()
        self.props["tokens"] = split_tokens(tokens, [(span.start, span.end) for span in spans])
        self.props["rows"] = [{"label": row.label, "note": row.note, "values": list(row.values)} for row in rows]
        self.props["verbatim"] = bool(spans)


def split_tokens(tokens: Sequence[str], spans: Sequence[tuple[int, int]]) -> list[list[tuple[str, bool]]]:
    """Each token cut where a span begins or ends, each part with whether a span covers it.

    ``spans`` are character ranges (start, end) of the joined tokens; joined, the parts are the tokens again.
    """
    parted = []
    start = 0
    for token in tokens:
        end = start + len(token)
        inner = {edge for span in spans for edge in span if start < edge < end}
        edges = sorted({start, end} | inner)
        parted.append(
            [
                (token[left - start : right - start], any(low <= left and right <= high for low, high in spans))
                for left, right in pairwise(edges)
            ]
        )
        start = end
    return parted
