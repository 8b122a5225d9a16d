"""References to the Bible: "1 Cor. 13:4" is "first corinthians thirteen four"."""

from __future__ import annotations

import re

from chelys.text.numbers import cardinal
from chelys.text.rules import Late, Reading, Rules, any_of

#: Books as they are abbreviated, and what they are called; in full they are their own names.
_ABBREVIATED = {
    "Gen": "Genesis", "Exod": "Exodus", "Ex": "Exodus", "Lev": "Leviticus", "Num": "Numbers", "Deut": "Deuteronomy",
    "Josh": "Joshua", "Judg": "Judges", "Neh": "Nehemiah", "Esth": "Esther", "Ps": "Psalm", "Pss": "Psalms",
    "Prov": "Proverbs", "Eccl": "Ecclesiastes", "Eccles": "Ecclesiastes", "Isa": "Isaiah", "Jer": "Jeremiah",
    "Lam": "Lamentations", "Ezek": "Ezekiel", "Dan": "Daniel", "Hos": "Hosea", "Obad": "Obadiah", "Mic": "Micah",
    "Nah": "Nahum", "Hab": "Habakkuk", "Zeph": "Zephaniah", "Hag": "Haggai", "Zech": "Zechariah", "Mal": "Malachi",
    "Matt": "Matthew", "Mt": "Matthew", "Mk": "Mark", "Lk": "Luke", "Jn": "John", "Rom": "Romans", "Gal": "Galatians",
    "Eph": "Ephesians", "Phil": "Philippians", "Col": "Colossians", "Tit": "Titus", "Philem": "Philemon",
    "Heb": "Hebrews", "Jas": "James", "Rev": "Revelation",
}  # fmt: skip
#: Of these there are two or three.
_NUMBERED = {
    "Sam": "Samuel", "Kgs": "Kings", "Kgdms": "Kingdoms", "Chr": "Chronicles", "Chron": "Chronicles",
    "Cor": "Corinthians", "Thess": "Thessalonians", "Thes": "Thessalonians", "Tim": "Timothy", "Pet": "Peter",
    "Jn": "John", "Macc": "Maccabees",
}  # fmt: skip
_WHICH = {"1": "first", "2": "second", "3": "third", "I": "first", "II": "second", "III": "third"}
_NUMBERED_NAMES = {name: name for name in (*_NUMBERED.values(), "Esdras")}
_NAMES = {name: name for name in (*_ABBREVIATED.values(), "Ruth", "Ezra", "Job", "Joel", "Amos", "Jonah", "Acts")}

_VERSES = (
    r"(?P<chapter>[1-9]\d{0,2}):(?P<verse>[1-9]\d{0,2})(?:-(?P<last>[1-9]\d{0,2})(?![\d:]))?"
    r"(?!\d|:\d|[.,]\d| ?[AaPp]\.?[Mm]\b)"
)
_NUMBERED_BOOK = rf"(?P<which>[1-3]|I{{1,3}}) (?P<numbered>{any_of(_NUMBERED | _NUMBERED_NAMES)})"
_BOOK = rf"(?:{_NUMBERED_BOOK}\.?|(?P<short>{any_of(_ABBREVIATED)})\.|(?P<full>{any_of(_NAMES)}))"
#: The abbreviated name of a book, at the end of a text; its stop ends no sentence before a figure.
ABBREVIATED_BOOK = Late(rf"(?<![\w-])(?:(?:[1-3]|I{{1,3}}) (?:{any_of(_NUMBERED)})|(?:{any_of(_ABBREVIATED)}))$")

SCRIPTURE = Rules(r"[A-Za-z]\.? \d{1,3}:\d", rf"(?:[1-3]|I) (?:{any_of(_NUMBERED)})\.? \d")


@SCRIPTURE.rule(rf"(?<![\w.,:-]){_BOOK} {_VERSES}", has=":")
def verse(match: re.Match[str], reading: Reading) -> str:
    """``1 Cor. 13:4`` -> ``first Corinthians thirteen four``, ``Gen. 1:1-3`` -> ``..., verses one to three``."""
    spoken = f"{_book(match)} {cardinal(int(match['chapter']))}"
    if match["last"]:
        return f"{spoken}, verses {cardinal(int(match['verse']))} to {cardinal(int(match['last']))}"
    between = " verse" if _runs_together(int(match["chapter"]), int(match["verse"])) else ""
    return f"{spoken}{between} {cardinal(int(match['verse']))}"


@SCRIPTURE.rule(rf"(?<![\w.,:-])(?P<which>[1-3]|I{{1,3}}) (?P<numbered>{any_of(_NUMBERED)})\.? (?=\d)(?!\d+:)")
def numbered_book(match: re.Match[str], reading: Reading) -> str | None:
    """``2 Sam. 7`` -> ``second Samuel 7``; without a stop it may be anything."""
    return f"{_WHICH[match['which']]} {_NUMBERED[match['numbered']]} " if "." in match.group() else None


def _runs_together(chapter: int, verse: int) -> bool:
    """Whether chapter and verse would sound like one number: "forty one" is not 40:1."""
    return chapter > 99 or verse > 99 or (chapter > 19 and chapter % 10 == 0 and verse < 10)


def _book(match: re.Match[str]) -> str:
    if match["which"]:
        return f"{_WHICH[match['which']]} {(_NUMBERED | _NUMBERED_NAMES)[match['numbered']]}"
    return _ABBREVIATED[match["short"]] if match["short"] else str(match["full"])
