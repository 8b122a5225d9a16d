"""What was measured, for people and for programs: a table, ``summary.json`` and one page with the audio."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chelys.audio.io import data_url, read
from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import AudioError
from chelys.evaluation.measures import FIGURES, comparisons, figures
from chelys.evaluation.statistics import LEVEL, Interval, frechet, frechet_by_size
from chelys.files import write_text

log = logging.getLogger(__name__)

Row = Mapping[str, Any]
_WITH_SOUND = 400  # clips of a page with their sound; later ones are listed without
_BRIEF = ("wer", "wrong", "cut", "run_away", "similarity", "identified", "mos", "clvp_likelihood", "real_time_factor")
_TITLES = {figure.name: figure.title for figure in FIGURES}


def summarize(rows: Sequence[Row], against: Sequence[Row] | None = None) -> dict[str, Any]:
    """Figures of all rows, of each kind of text and each voice, and the comparison with the rows of another model."""
    summary: dict[str, Any] = {
        "clips": len(rows), "texts": len({row["text"] for row in rows}), "level": LEVEL, "figures": _figures(rows)
    }  # fmt: skip
    for group in ("kind", "voice"):
        names = [name for name in dict.fromkeys(row[group] for row in rows) if name]
        if len(names) > 1:
            summary[f"{group}s"] = {name: _figures([r for r in rows if r[group] == name]) for name in names}
    if against is not None:
        better = {figure.name: figure.better for figure in FIGURES}
        summary["against"] = {
            name: {"first": _round(one.first), "second": _round(one.second), "texts": one.texts,
                   "difference": _interval(one.difference), "verdict": one.verdict(better[name])}
            for name, one in comparisons(against, rows).items()
        }  # fmt: skip
    return summary


def frechet_summary(judged: np.ndarray, recordings: np.ndarray) -> dict[str, Any] | None:
    """Fréchet distance of CLVP's latents ``(n, d)`` from those of recordings ``(m, d)``; None for fewer than two."""
    if min(len(judged), len(recordings)) < 2:
        return None
    return {
        "distance": _round(frechet(judged, recordings)), "clips": len(judged), "recordings": len(recordings),
        "by_size": [
            {"clips": one.clips, "distance": _round(one.distance), "floor": _round(one.floor)}
            for one in frechet_by_size(judged, recordings)
        ],
    }  # fmt: skip


def _figures(rows: Sequence[Row]) -> dict[str, Any]:
    return {name: {**_interval(found), "clips": count} for name, (found, count) in figures(rows).items()}


def _interval(found: Interval) -> dict[str, float | None]:
    return {key: _round(value) for key, value in found._asdict().items()}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


# ---- for people -----------------------------------------------------------------------------------------------------


def main_table(summary: Mapping[str, Any]) -> list[list[str]]:
    """Head and rows of the figures; with a comparison the other model's come first."""
    against = summary.get("against")
    head = ["", "value", "95 % of texts", "clips"]
    rows = [head + (["other", "difference", "95 %", "verdict"] if against is not None else [])]
    for name, found in summary["figures"].items():
        row = [_TITLES[name], _number(found["value"]), _bounds(found), str(found["clips"])]
        if against is not None and name in against:
            other = against[name]
            change = other["difference"]
            row += [_number(other["first"]), f"{change['value']:+.3f}", _bounds(change), other["verdict"]]
        rows.append(row + [""] * (len(rows[0]) - len(row)))
    return rows


def group_table(groups: Mapping[str, Any]) -> list[list[str]]:
    """Head and rows of the main figures, a row a kind or a voice."""
    names = [name for name in _BRIEF if any(name in found for found in groups.values())]
    rows = [["", "clips", *(_TITLES[name] for name in names)]]
    for group, found in groups.items():
        count = max((one["clips"] for one in found.values()), default=0)
        rows.append([group, str(count), *(_number(found[n]["value"]) if n in found else "" for n in names)])
    return rows


def frechet_table(found: Mapping[str, Any]) -> list[list[str]]:
    """Head and rows of the distances by number of clips."""
    rows = [["clips of each", "distance", "recordings from recordings"]]
    return rows + [[str(one["clips"]), _number(one["distance"]), _number(one["floor"])] for one in found["by_size"]]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table for a terminal, the first column to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _bounds(found: Mapping[str, Any]) -> str:
    return "" if found["low"] is None else f"{found['low']:.3f} to {found['high']:.3f}"


def write_page(path: Path, name: str, summary: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """One HTML file without scripts that loads nothing, with the audio in it; all names and texts are escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("chelys.evaluation", ""), autoescape=True, undefined=jinja2.StrictUndefined
    )
    tables = [("Figures", main_table(summary))]
    tables += [
        (f"By {group}", group_table(summary[f"{group}s"])) for group in ("kind", "voice") if f"{group}s" in summary
    ]
    if summary.get("frechet"):
        tables.append(("CLVP Fréchet distance from recordings", frechet_table(summary["frechet"])))
    text = environment.get_template("page.html.j2").render(
        name=name, summary=summary, tables=tables, clips=[_shown(row, place) for place, row in enumerate(rows)]
    )
    write_text(path, text)


def _shown(row: Row, place: int) -> dict[str, Any]:
    """What the page has of a clip."""
    sound = ""
    if place < _WITH_SOUND:
        try:
            sound = data_url(read(row["audio"], OUTPUT_RATE), OUTPUT_RATE)
        except AudioError as error:
            log.warning("no sound in the page: %s", error)
    values = [
        f"{_TITLES[figure.name]} {row[figure.top]:.3f}".removesuffix(".000")
        for figure in FIGURES
        if not figure.bottom and figure.name not in ("wrong", "similarity_ceiling", "similarity_floor", "rate")
        and row.get(figure.top) is not None
    ]  # fmt: skip
    return {"sound": sound, "text": row["text"], "transcript": row.get("transcript"), "values": values,
            "voice": row["voice"], "kind": row["kind"], "wrong": bool(row.get("errors"))}  # fmt: skip
