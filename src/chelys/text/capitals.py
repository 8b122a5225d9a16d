"""Capitals: what is shouted becomes small, acronyms keep theirs, and a letter by itself is named.

Acronyms stay in capitals because only a tokenizer knows which of them are words ("NATO").
"""

from __future__ import annotations

import re

from chelys.text.abbreviations import letter_ends_sentence
from chelys.text.rules import LETTER_A, Reading, Rules, before, behind, letters

#: Acronyms that stay such in a text that is all in capitals, where a word might be meant.
_KNOWN = frozenset(
    "AFB AI AIDS AKA AM API ASAP ATM BBC BC CBS CD CEO CFO CIA CNN CPU CTO DIY DNA DVD EDT ESPN EST EU FAQ FBI GDP GMT "
    "GPS GPU HBO HIV HQ HR IBM ID IMF IQ IRA IRS ISS LED MIT MLB MRI MTV NASA NATO NBA NBC NFL NHL NHS NSA NYC NYPD OK "
    "OPEC PC PDF PDT PHD PIN PM PST PTSD RAM RNA RSVP SMS SOS SQL SUV TNT TV UAE UFO UK UN UNESCO UNICEF URL USA USB "
    "USSR UTC VIP WHO WIFI WWI WWII WWF YMCA ZIP".split()
)
#: Words that nobody takes for an acronym where a neighbour is shouted too: "HELP US".
_COMMON = frozenset(
    "A ALL AN AND ARE AT AWAY BACK BE BUT BY CAN COME DID DO DONT DOWN FOR FROM GET GO GOD GOOD HAVE HE HELLO HELP HER "
    "HERE HIM HIS HOW I IF IN IS IT ITS JUST LEFT LET LOOK ME MY NEVER NO NOT NOW OF OFF OH ON OR OUR OUT OVER PLEASE "
    "RIGHT RUN SAY SEE SHE SO STAY STOP THAT THE THEM THEN THERE THEY THIS TO TOO UP US VERY WAIT WANT WAS WE "
    "WHAT WHEN "
    "WHERE WHO WHY WILL WITH YES YOU YOUR".split()
)
#: An acronym in capitals that is also a word, where the words beside it do not say that the acronym is meant.
_MEANT = {
    "IT": re.compile(
        r"(?:\b(?:an|in|of|our|the|their|your|and|for) $)|^ (?:admins?|companies|company|consultants?|department|"
        "desk|guys?|"
        r"industry|infrastructure|jobs?|managers?|operations|people|professionals?|projects?|sector|security|services?|"
        r"specialists?|staff|support|systems?|teams?|workers?)\b"
    ),
    "WHO": re.compile(
        r"(?:\b[Tt]he $)|^(?:'s)? (?:advis|announc|chief|confirm|declar|director|estimat|guid|has|headquarters|in|"
        "official|recommend|"
        r"report|said|says|staff|team|warn)"
    ),
    "OR": re.compile(r"(?:[a-z], $)|(?:\bthe $)|^ (?:nurse|staff|table|tech)"),
    "AM": re.compile(r"(?:\b(?:eight|eighteen|eleven|fifteen|fifty|five|forty|four|fourteen|hundred|nine|nineteen|one|"
                     r"seven|six|sixteen|ten|thirteen|thirty|three|twelve|twenty|two|the|an) $)|^ (?:radio|station)"),
    **dict.fromkeys(("ME", "IN", "HI", "OH"), re.compile(r"[a-z], $")),  # states behind a city
}  # fmt: skip
#: Never an acronym in a running text.
_ALWAYS_WORDS = "NO SO DO GO IS BE WE HE MY UP ON OF TO IF AN AS AT BY".split()

CAPITALS = Rules(r"[A-Z](?:[A-Z.&/-]|\b)", r"[a-z]\.[a-z]\.", r"\b[a-z]/[a-z]\b")

CAPITALS.words("acidity", r"\bpH\b", "P H", has=("pH",))

CAPITALS.add(
    "joined_by_and", r"(?<![A-Za-z])([A-Z]{1,3}) ?& ?([A-Z]{1,3})(?![A-Za-z])",
    lambda match, reading: f"{letters(match[1])} and {letters(match[2])}", has="&")  # fmt: skip
CAPITALS.add(
    "letter_or_letter",
    r"(?<![A-Za-z/])[A-Za-z](?:/[A-Za-z]){1,5}(?![A-Za-z/])",
    lambda match, reading: letters(match.group().replace("/", "").upper()),
    has="/",
)
CAPITALS.add(
    "letter_by_letter", r"(?<![A-Za-z-])[A-Z](?:-[A-Z]){2,40}(?![A-Za-z]|-[A-Za-z])",
    lambda match, reading: letters(match.group().replace("-", "")), has="-")  # fmt: skip


@CAPITALS.rule(r"(?<![A-Za-z'])[A-Z][A-Z']*(?: [\"(]?[A-Z][A-Z']*[\")]?|, [A-Z][A-Z']*){1,400}(?![A-Za-z'.&])")
def shouted(match: re.Match[str], reading: Reading) -> str | None:
    """Three capital words in a row are shouted, and two where one is a common word; none of them is an acronym."""
    words = re.findall("[A-Z']+", match.group())
    long = [word for word in words if len(word) > 1]
    if " " not in match.group().replace(", ", ",") and not _COMMON.intersection(long):
        return None  # a list of acronyms
    alone = not re.search("[a-z]", before(match, 60)) and not re.search("[a-z]", behind(match, 20))
    if not (
        len(long) >= 3
        or (long and (alone and len(words) > 1 or any(word in _COMMON for word in words) and len(long) > 1))
    ):
        return None
    return re.sub("[A-Z']+", lambda word: _small(word.group()), match.group())


def _small(word: str) -> str:
    vowels = re.search("[AEIOUY]", word)
    return word if (word in _KNOWN and word not in ("AM", "WHO")) or not vowels or len(word) == 1 else word.lower()


@CAPITALS.rule(rf"(?<![A-Za-z'&])(?:{'|'.join([*_MEANT, *_ALWAYS_WORDS])})(?![A-Za-z&-]|'[a-rt-z])")
def word_or_acronym(match: re.Match[str], reading: Reading) -> str | None:
    """``the IT team`` keeps its acronym, ``do IT now`` does not."""
    word = match.group()
    meant = _MEANT.get(word)
    asks = word == "WHO" and "?" in behind(match, 60) and before(match, 2).strip()[-1:] in ("", ".", "!", "?")
    if meant is None or asks:
        return word.lower()
    if meant.search(before(match, 20)) or meant.search(behind(match, 20)):
        return None
    return word.lower()


@CAPITALS.rule(
    r"(?<![A-Za-z.])(?:(?:[A-Za-z]{1,2}\.){1,20}[A-Za-z]\.(?![A-Za-z])|(?:[A-Z]\.){1,20}[A-Z](?![A-Za-z.])|(?:[A-Z]\.){2,20}(?=[A-Z][a-z]))",
    has=".",
)
def dotted(match: re.Match[str], reading: Reading) -> str:
    """``U.S.`` -> ``US``; at the end of the text the stop stays."""
    capitals = match.group().replace(".", "").upper()
    following = behind(match).lstrip("\"') ")
    stop = match.group().endswith(".")
    return capitals + "." * (stop and (not following or letter_ends_sentence("", following.split(maxsplit=1)[0])))


# Initials, but for I: "You and I. Then ..."
@CAPITALS.rule(r"(?<![A-Za-z.'])([A-HJ-Z])\.(?= \"?(?:([A-Z][a-z]{1,20}|A(?!\.))|[A-Za-z]))", has=".")
def initial(match: re.Match[str], reading: Reading) -> str:
    """``J. Smith`` -> ``J Smith``."""
    letter, following = match.groups()
    return letters(letter) + "." * letter_ends_sentence(before(match), following)


# "vitamin A", "plan A": an article is never last, the name of the letter may be.
CAPITALS.words("letter_a_at_the_end", r"(?<=[a-z] )A(?= ?(?:[.,?!;:)]|$))", LETTER_A, has=(" A",))
