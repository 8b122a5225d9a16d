"""The data section of a model card, from the account of a preparation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from chelys.data.prepare.account import Account

_MOST = 20


def render(account: Account, out: Path) -> str:
    """Markdown, its headings of the second level and below.

    Args:
        account: What became of the recordings.
        out: Prepared folder; gives the data their name.
    """
    counts = account.statistics
    seconds = counts.kept_seconds / max(1, counts.kept)
    lines = [
        "## Training data",
        "",
        f"**{plain(out.resolve().name)}**: {counts.kept_seconds / 3600:.2f} hours of speech in {counts.kept} clips of "
        f"{seconds:.1f} s on average, {account.speakers} named speakers, {account.words} words.",
        "",
        f"Cut from {counts.recordings} recordings ({counts.recorded_seconds / 3600:.2f} hours; {counts.unreadable} "
        f"could not be read) by `chelys data prepare`: {counts.clips} clips were found, of which "
        f"{counts.clips - counts.kept} were dropped. `ledger.jsonl` says of every clip where it comes from, what was "
        "measured, and why it was dropped.",
        "",
        "### Licences",
        "",
        *_table(["licence", "hours"], account.hours_of_licence),
        "",
        "### Speakers",
        "",
        *_table(["speaker", "hours"], account.hours_of_speaker),
        "",
        "### Transcripts",
        "",
        *_transcripts(account),
        "",
        "### Dropped",
        "",
        "Hours of clips under each reason; a clip may have several." if account.hours_of_reason else "No clip was.",
        "",
        *(_table(["reason", "hours"], account.hours_of_reason) if account.hours_of_reason else []),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _transcripts(account: Account) -> Iterable[str]:
    confidence = account.kept.get("confidence")
    if confidence is None:
        yield "The clips were not transcribed."
    else:
        yield f"Made by machine, with a mean confidence of {confidence.mean:.2f} (0 to 1)."
    if found := account.comparison:
        yield ""
        yield (
            f"Against given transcripts of {found.kept.recordings} recordings ({found.kept.words} words) the kept "
            f"clips have a word error rate of {found.kept.rate:.3f}; over all {found.all.recordings} recordings that "
            "have a given transcript, those in which nothing was transcribed included, it is "
            f"{found.all.rate:.3f}."
        )


def _table(heads: list[str], hours: Mapping[str, float]) -> list[str]:
    ranked = sorted(hours.items(), key=lambda pair: (-pair[1], pair[0]))
    rows = [(plain(name), value) for name, value in ranked[:_MOST]]
    if rest := ranked[_MOST:]:
        rows.append((f"{len(rest)} more", sum(value for _, value in rest)))
    return [f"| {heads[0]} | {heads[1]} |", "| --- | ---: |", *(f"| {name} | {value:.2f} |" for name, value in rows)]


def plain(text: str) -> str:
    """A name as Markdown shows it: on one line, with no marks of its own."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|&~$:@-])", r"\\\1", " ".join(text.split()))
