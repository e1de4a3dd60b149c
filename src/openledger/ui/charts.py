"""Options of the charts, in the theme's colours (see :class:`openledger.ui.components.Chart`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openledger.primitives import WEI_PER_OPEN
from openledger.ui.parts import series_colour

_TEXT = {"color": "var(--muted)", "fontFamily": "system-ui, sans-serif", "fontSize": 12}
_LINE = {"lineStyle": {"color": "var(--line)"}}
_MARGINS = {"left": 8, "right": 18, "top": 36, "bottom": 8, "containLabel": True}


def _axis(name: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "value",
        "name": name,
        "nameTextStyle": _TEXT,
        "axisLabel": _TEXT,
        "axisLine": _LINE,
        "axisTick": {"show": False},
        "splitLine": _LINE,
        **more,
    }


def _tooltip(number_format: str) -> dict[str, Any]:
    return {
        "trigger": "axis",
        "backgroundColor": "var(--raised)",
        "borderColor": "var(--line-strong)",
        "textStyle": {**_TEXT, "color": "var(--text)", "fontSize": 13},
        "valueFormatter": {"format": number_format},
        "confine": True,
    }


def loss_curve(points: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Training loss by step."""
    return {
        "grid": _MARGINS,
        "tooltip": _tooltip("loss"),
        "xAxis": _axis("", min=0, max="dataMax", splitLine={"show": False}, minInterval=1),
        "yAxis": _axis("Loss", scale=False, min=0),
        "series": [
            {
                "type": "line",
                "name": "Loss",
                "data": [[step, loss] for step, loss in points],
                "showSymbol": False,
                "smooth": 0.2,
                "lineStyle": {"width": 2.2, "color": "var(--series-1)"},
                "itemStyle": {"color": "var(--series-1)"},
                "areaStyle": {"color": "var(--series-1)", "opacity": 0.1},
            }
        ],
    }


def release_schedule(schedule: Sequence[tuple[int, dict[str, int]]]) -> dict[str, Any]:
    """Stacked area of what each bucket has released by each month; the dictionaries hold wei."""
    names = list(dict.fromkeys(name for _, released in schedule for name in released))
    return {
        "grid": {**_MARGINS, "bottom": 44},
        "legend": {
            "type": "scroll",
            "bottom": 0,
            "pageTextStyle": _TEXT,
            "pageIconColor": "var(--accent)",
            "pageIconInactiveColor": "var(--line-strong)",
            "textStyle": {**_TEXT, "fontSize": 13},
            "icon": "roundRect",
            "itemWidth": 10,
            "itemHeight": 10,
            "itemGap": 18,
        },
        "tooltip": _tooltip("open"),
        "xAxis": _axis(
            "",
            min=0,
            max="dataMax",
            interval=12,
            splitLine={"show": False},
            axisLabel={**_TEXT, "formatter": {"format": "months"}},
        ),
        "yAxis": _axis("Released OPEN", axisLabel={**_TEXT, "formatter": {"format": "compact"}}),
        "series": [
            {
                "type": "line",
                "name": name.capitalize(),
                "stack": "released",
                "data": [[month, released.get(name, 0) / WEI_PER_OPEN] for month, released in schedule],
                "showSymbol": False,
                "lineStyle": {"width": 1.2, "color": series_colour(position)},
                "itemStyle": {"color": series_colour(position)},
                "areaStyle": {"color": series_colour(position), "opacity": 0.55},
            }
            for position, name in enumerate(names)
        ],
    }
