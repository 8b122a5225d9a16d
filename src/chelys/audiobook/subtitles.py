"""Subtitles from the sentences of an audiobook: SubRip, WebVTT with word times, enhanced LRC."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, Literal, get_args

Subtitles = Literal["srt", "vtt", "lrc"]
SUBTITLES: tuple[Subtitles, ...] = get_args(Subtitles)

#: A word with its begin and end, seconds from the beginning of the file.
TimedWord = tuple[str, float, float]


def written_words(text: str, spoken: Sequence[TimedWord], start_s: float, end_s: float) -> list[TimedWord]:
    """When each word is said as it is written, from the words as they are spoken ("3" is "three").

    One by one where both are as many; else, and where nothing is known of the spoken ones, by the share of letters.
    """
    words = text.split()
    if not words:
        return []
    if len(words) == len(spoken):
        return [(word, begin, end) for word, (_, begin, end) in zip(words, spoken, strict=True)]
    sizes = [max(1, sum(c.isalnum() for c in word)) for word in words]
    total, at = sum(sizes), 0
    edges = []
    for size in (*sizes, 0):
        edges.append(_time(at / total, spoken, start_s, end_s))
        at += size
    return [(word, edges[i], edges[i + 1]) for i, word in enumerate(words)]


def _time(share: float, spoken: Sequence[TimedWord], start_s: float, end_s: float) -> float:
    """When a share of the letters has been said."""
    sizes = [len(word) for word, _, _ in spoken]
    if not sum(sizes):
        return start_s + share * (end_s - start_s)
    left = share * sum(sizes)
    for size, (_, begin, end) in zip(sizes, spoken, strict=True):
        if left <= size:
            return begin + (end - begin) * left / max(size, 1)
        left -= size
    return end_s


def subtitles(kind: Subtitles, sentences: Iterable[Mapping[str, Any]], tags: Mapping[str, str]) -> Iterator[str]:
    """The lines of a subtitle file, one after the other.

    ``sentences``: with ``text``, ``start_s``, ``end_s`` and ``words``, in order. ``tags``: title and artist.
    """
    if kind == "vtt":
        yield "WEBVTT\n\n"
    if kind == "lrc":
        yield "".join(f"[{name}:{tags[key]}]\n" for name, key in (("ti", "title"), ("ar", "artist")) if tags.get(key))
    for number, one in enumerate(sentences, 1):
        text, start, end = " ".join(str(one["text"]).split()), one["start_s"], one["end_s"]
        if kind == "srt":
            yield f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n\n"
        elif kind == "vtt":
            words = " ".join(f"<{_clock(begin, '.')}>{escape(word, quote=False)}" for word, begin, _ in one["words"])
            yield f"{_clock(start, '.')} --> {_clock(end, '.')}\n{words or escape(text, quote=False)}\n\n"
        else:
            words = " ".join(f"<{_lrc(begin)}>{word}" for word, begin, _ in one["words"])
            yield f"[{_lrc(start)}]{words or text}\n"


def _clock(seconds: float, point: str) -> str:
    minutes, thousandths = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{thousandths // 1000:02d}{point}{thousandths % 1000:03d}"


def _lrc(seconds: float) -> str:
    minutes, hundredths = divmod(round(seconds * 100), 6000)
    return f"{minutes:02d}:{hundredths // 100:02d}.{hundredths % 100:02d}"
