"""The account of a preparation as one HTML page: no scripts, nothing from elsewhere, all names and texts escaped."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterable, Mapping
from html import escape
from pathlib import Path

import numpy as np
import soundfile as sf

from chelys.audio.io import to_bytes
from chelys.data.prepare.account import UNKNOWN, Account, Values
from chelys.data.prepare.drawing import histogram
from chelys.data.prepare.ledger import Clip
from chelys.errors import OutputError

log = logging.getLogger(__name__)

_UNITS = {"seconds": "s", "loudness_db": "dB", "bandwidth_hz": "Hz", "snr_db": "dB", "reverberation_s": "s"}
_MOST_SPEAKERS = 30
_STYLE = """
:root { color-scheme: light dark; --kept: #2f7f6f; --dropped: #c9743b; --faint: #8886; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1rem; }
dt { opacity: .7; } dd { margin: 0; font-size: 1.5rem; font-weight: 600; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .3rem .8rem .3rem 0; }
th, td { border-bottom: 1px solid var(--faint); vertical-align: top; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: 1.5rem; }
figure { margin: 0; } svg { width: 100%; font-size: 11px; fill: currentColor; } svg line { stroke: currentColor; }
.kept { fill: var(--kept); color: var(--kept); } .dropped { fill: var(--dropped); color: var(--dropped); }
audio { width: 16rem; max-width: 100%; }
"""


def render(account: Account, out: Path) -> str:
    """The page.

    Args:
        account: What became of the recordings.
        out: Prepared folder, in which the clips' sound lies.
    """
    counts = account.statistics
    name = escape(out.resolve().name)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        # Nothing is to be fetched or run, whatever is in the names and texts.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; media-src data:\">",
        f"<title>{name}: what became of the recordings</title><style>{_STYLE}</style></head><body>",
        f"<h1>{name}: what became of the recordings</h1>",
        _figures(
            {
                "hours recorded": f"{counts.recorded_seconds / 3600:.2f}",
                "hours kept": f"{counts.kept_seconds / 3600:.2f}",
                "recordings": f"{counts.recordings}",
                "unreadable": f"{counts.unreadable}",
                "clips": f"{counts.clips}",
                "clips kept": f"{counts.kept}",
                "named speakers": f"{account.speakers}",
                "words": f"{account.words}",
            }
        ),
        *_comparison(account),
        *_dropped(account),
        *_pictures(account),
        *_whose("Licences", "licence", account.hours_of_licence),
        *_whose("Speakers", "speaker", account.hours_of_speaker),
        *_clips("Clips drawn at random", account.sample, out),
        *_clips("Kept clips with the most doubtful transcripts", account.doubtful, None),
        *_unreadable(account),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _figures(figures: Mapping[str, str]) -> str:
    return (
        "<dl>" + "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in figures.items()) + "</dl>"
    )


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]], numbers: frozenset[int] = frozenset()) -> str:
    """Cells are HTML already."""

    def line(tag: str, cells: Iterable[str]) -> str:
        marked = (f'<{tag} class="number">' if i in numbers else f"<{tag}>" for i, _ in enumerate(cells))
        return "<tr>" + "".join(f"{mark}{cell}</{tag}>" for mark, cell in zip(marked, cells, strict=True)) + "</tr>"

    return f"<table>{line('th', list(heads))}{''.join(line('td', list(row)) for row in rows)}</table>"


def _comparison(account: Account) -> Iterable[str]:
    if (found := account.comparison) is None:
        return
    yield "<h2>Transcripts against the given ones</h2>"
    yield _table(
        ["", "recordings", "words", "wrong", "word error rate"],
        (
            (what, f"{e.recordings}", f"{e.words}", f"{e.wrong}", f"{e.rate:.3f}")
            for what, e in (
                ("kept clips", found.kept),
                ("all transcripts", found.heard),
                ("all recordings; without a transcript every word is wrong", found.all),
            )
        ),
        frozenset({1, 2, 3, 4}),
    )
    if found.worst:
        yield "<p>The kept recordings with the highest rates:</p>"
        yield _table(
            ["recording", "given", "transcribed", "wrong"],
            (
                (*map(escape, (c.source, c.reference[:500], c.hypothesis[:500])), f"{c.wrong}/{c.words}")
                for c in found.worst
            ),
            frozenset({3}),
        )  # fmt: skip


def _dropped(account: Account) -> Iterable[str]:
    reasons = account.statistics.reasons
    yield "<h2>Why clips were dropped</h2>"
    if not reasons:
        yield "<p>None was.</p>"
        return
    yield "<p>A clip counts under each of its reasons.</p>"
    yield _table(
        ["reason", "clips", "hours"],
        (
            (escape(reason), f"{count}", f"{account.hours_of_reason.get(reason, 0.0):.2f}")
            for reason, count in reasons.most_common()
        ),
        frozenset({1, 2}),
    )


def _pictures(account: Account) -> Iterable[str]:
    yield '<h2>Lengths and quality</h2><p><span class="kept">■ kept</span> <span class="dropped">■ dropped</span></p>'
    yield '<div class="pictures">'
    names = dict.fromkeys([*account.kept, *account.dropped])
    empty = Values(0)
    for name in names:
        kept, dropped = (group.get(name, empty).array() for group in (account.kept, account.dropped))
        yield histogram(name.removesuffix("_db").removesuffix("_hz").removesuffix("_s").replace("_", " "),
                        kept, dropped, _UNITS.get(name, ""))  # fmt: skip
    yield "</div>"


def _whose(title: str, head: str, hours: Mapping[str, float]) -> Iterable[str]:
    ranked = sorted(hours.items(), key=lambda pair: (-pair[1], pair[0]))
    yield f"<h2>{title}</h2>"
    yield _table(
        [head, "hours kept"],
        ((escape(name), f"{value:.2f}") for name, value in ranked[:_MOST_SPEAKERS]),
        frozenset({1}),
    )
    if rest := ranked[_MOST_SPEAKERS:]:
        yield f"<p>And {len(rest)} more, {sum(value for _, value in rest):.2f} h.</p>"


def _clips(title: str, clips: list[Clip], out: Path | None) -> Iterable[str]:
    """Clips and their transcripts; with sound if the folder is given that holds it."""
    if not clips:
        return
    yield f"<h2>{title}</h2>"
    columns: dict[str, Callable[[Clip], str]] = {
        "clip": lambda c: f"{escape(c.source)}<br>{c.start:.2f} to {c.end:.2f} s",
        "speaker": lambda c: escape(c.speaker or UNKNOWN),
        "transcript": lambda c: escape(c.text or ""),
        "confidence": lambda c: "" if c.confidence is None else f"{c.confidence:.2f}",
    }
    if out is not None:
        columns = {"sound": lambda c: _player(c, out), **columns}
    rows = ([cell(clip) for cell in columns.values()] for clip in clips)
    yield _table(columns, rows, frozenset({len(columns) - 1}))


def _player(clip: Clip, out: Path) -> str:
    """The clip's sound within the page, so that the page can be sent to somebody."""
    try:
        if clip.audio is None:
            return "none"
        path = (out / clip.audio).resolve()
        if not path.is_relative_to(out.resolve()):  # a ledger from elsewhere shall not show files of this machine
            return "outside"
        with sf.SoundFile(path) as file:
            rate = file.samplerate
            file.seek(round(clip.audio_start * rate))
            samples = file.read(round((clip.audio_end - clip.audio_start) * rate), dtype="float32", always_2d=True)
        wave = np.ascontiguousarray(samples.mean(axis=1))
        try:
            kind, data = "mpeg", to_bytes(wave, rate, "mp3")
        except OutputError:  # MP3 knows nine rates
            kind, data = "wav", to_bytes(wave, rate, "wav")
    except (sf.SoundFileError, OSError, ValueError) as error:
        log.warning("no sound of %s in the report: %s", clip.id, error)
        return "cannot be read"
    return f'<audio controls preload="none" src="data:audio/{kind};base64,{base64.b64encode(data).decode()}"></audio>'


def _unreadable(account: Account) -> Iterable[str]:
    if not account.unreadable:
        return
    yield "<h2>Recordings that could not be read</h2>"
    yield _table(["recording", "why"], ((escape(r.source), escape(r.reason or "")) for r in account.unreadable))
    if (more := account.statistics.unreadable - len(account.unreadable)) > 0:
        yield f"<p>And {more} more, in recordings.jsonl.</p>"
