"""Small pictures as SVG, for pages that must not ask for anything from elsewhere."""

from __future__ import annotations

from html import escape

import numpy as np

_WIDTH, _HEIGHT, _FOOT = 320, 120, 18
_BARS = 40


def histogram(title: str, kept: np.ndarray, dropped: np.ndarray, unit: str = "") -> str:
    """Bars of two groups, the dropped on top of the kept; the outermost hundredth on each side is gathered at the edge.

    Args:
        title: Of the picture.
        kept: Values, ``(n,)``.
        dropped: Values of the other group.
        unit: Of the values.
    """
    values = np.concatenate([kept, dropped])
    low, high = (float(edge) for edge in np.percentile(values, [0.5, 99.5])) if len(values) else (0.0, 1.0)
    if high <= low:
        low, high = low - 0.5, low + 0.5
    edges = np.linspace(low, high, _BARS + 1)
    below = np.histogram(np.clip(kept, low, high), edges)[0]
    above = np.histogram(np.clip(dropped, low, high), edges)[0]
    most = max(1, int((below + above).max()))
    bars = []
    for place, (first, second) in enumerate(zip(below, above, strict=True)):
        left, foot = place * _WIDTH / _BARS, float(_HEIGHT)
        for count, name in ((first, "kept"), (second, "dropped")):
            height = count / most * _HEIGHT
            foot -= height
            if count:
                size = f'width="{_WIDTH / _BARS - 1:.1f}" height="{height:.1f}"'
                bars.append(f'<rect class="{name}" x="{left:.1f}" y="{foot:.1f}" {size}/>')
    label = escape(f"{title}{f' ({unit})' if unit else ''}")
    ticks = "".join(
        f'<text x="{x}" y="{_HEIGHT + _FOOT - 4}" text-anchor="{anchor}">{_short(value)}</text>'
        for x, anchor, value in ((0, "start", low), (_WIDTH / 2, "middle", (low + high) / 2), (_WIDTH, "end", high))
    )
    return (
        f'<figure><figcaption>{label}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT + _FOOT}" role="img" '
        f'aria-label="{label}">{"".join(bars)}<line x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>{ticks}</svg>'
        "</figure>"
    )


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
