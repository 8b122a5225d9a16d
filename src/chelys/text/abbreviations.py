"""Abbreviations of English, and where their full stops end a sentence."""

from __future__ import annotations

import re

#: Written with a full stop that ends no sentence.
ABBREVIATIONS = {
    "Mr": "mister", "Mrs": "missus", "Ms": "miz", "Dr": "doctor", "Prof": "professor", "Rev": "reverend",
    "Hon": "honorable", "Gen": "general", "Gov": "governor", "Sen": "senator", "Rep": "representative",
    "Capt": "captain", "Lt": "lieutenant", "Col": "colonel", "Sgt": "sergeant", "Jr": "junior", "Sr": "senior",
    "Mt": "mount", "Ft": "fort", "Ave": "avenue", "Blvd": "boulevard", "Rd": "road", "Inc": "incorporated",
    "Ltd": "limited", "Corp": "corporation", "Co": "company", "Dept": "department", "approx": "approximately",
    "vs": "versus", "etc": "et cetera", "Fig": "figure", "fig": "figure", "Vol": "volume", "vol": "volume",
}  # fmt: skip
#: Followed by a figure only; otherwise a word of its own ("No.") or a name ("Jan").
BEFORE_FIGURE = {
    "No": "number", "no": "number", "p": "page", "pp": "pages", "Jan": "January", "Feb": "February", "Mar": "March",
    "Apr": "April", "Jun": "June", "Jul": "July", "Aug": "August", "Sep": "September", "Sept": "September",
    "Oct": "October", "Nov": "November", "Dec": "December",
}  # fmt: skip
#: Abbreviations that may end a sentence: the full stop then does two jobs.
MAY_END = frozenset(("etc", "Jr", "Sr", "Inc", "Ltd", "Corp", "Co", "Ave", "Blvd", "Rd", "Dept"))
#: Abbreviations with stops inside.
DOTTED = {"e.g.": "for example", "i.e.": "that is", "Ph.D.": "PHD", "ph.d.": "PHD"}

#: After a lone capital and a stop, these begin a sentence ("vitamin B. The"); other words are names ("J. Smith").
SENTENCE_STARTERS = frozenset(
    "A An And As At Because But For He Here His How I If In It Its Let My No Not Now Of On Or Our She So Some "
    "That The Their Then There These They This Those To We What When Where Who Why With Yes You Your".split()
)

#: "St." with the word before it and the capitalised word behind it.
SAINT_OR_STREET = re.compile(
    r"\b((?:[A-Za-z]{1,40}|\d{1,6}(?:st|nd|rd|th)) )?(?<![A-Za-z])St\.(?=(?: ([A-Z][a-z]{0,40}))?)"
)


def saint_or_street(match: re.Match[str]) -> str:
    """What a match of `SAINT_OR_STREET` says: ``St. John``, but ``Main St.``, whose stop may end the sentence."""
    before, name = match.groups()
    # A capital that only begins the sentence ("In St. Louis") makes no name of a street.
    begins = match.string[max(0, match.start() - 2) : match.start()].strip("\"'( ") in ("", ".", "!", "?")
    named = bool(before) and (before[0].isdigit() or (before[0].isupper() and not begins))
    if name and name not in SENTENCE_STARTERS and not named:
        return f"{before or ''}Saint"
    ends = name in SENTENCE_STARTERS or match.end() == len(match.string)
    return f"{before or ''}Street" + ("." if ends else "")
