"""Dates, decades, times of the day and durations."""

from __future__ import annotations

import re

from chelys.text.abbreviations import BEHIND_A_TIME
from chelys.text.numbers import by_hundreds, cardinal, ordinal, plural, year
from chelys.text.rules import Reading, Rules, any_of, behind

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
#: Short for a month beside a figure or another month, with or without a stop.
SHORT_MONTHS = {
    "Jan": "January", "Feb": "February", "Mar": "March", "Apr": "April", "Jun": "June", "Jul": "July", "Aug": "August",
    "Sep": "September", "Sept": "September", "Oct": "October", "Nov": "November", "Dec": "December",
}  # fmt: skip
SHORT_DAYS = {
    "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Weds": "Wednesday", "Thu": "Thursday",
    "Thur": "Thursday", "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday",
}  # fmt: skip
_MONTHS = (*MONTHS, *SHORT_MONTHS)
_MONTH = rf"(?:{any_of(MONTHS)}|(?:{any_of(SHORT_MONTHS)})\b\.?)"
#: A word before a month or a day of the week.
_WHEN = (
    "after|and|before|between|by|during|each|early|every|from|in|last|late|mid|next|of|on|or|since|this|through|till|to"
    "|until"
)
_DAY = r"(3[01]|[12]\d|0?[1-9])"
_SUFFIX = r"(st|nd|rd|th)"
_YEAR = r"(1\d{3}|20\d\d)"

#: Known by their names.
_REMEMBERED_DAYS = (("July", "4"), ("September", "11"))

CALENDAR = Rules(r"\d|\b(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Oct|Nov|Dec|Mon|Tue|Wed|Thu|Fri|Sat|Sun)")


def _month(name: str) -> str:
    """``Sept.`` -> ``September``."""
    name = name.rstrip(".")
    return SHORT_MONTHS.get(name, name)


def _spoken(day: int, month: int, when: str, reading: Reading) -> str:
    """A date that is written in figures alone."""
    if reading.locale == "en-GB":
        spoken = f"the {ordinal(day)} of {MONTHS[month - 1]}"
    else:
        spoken = f"{MONTHS[month - 1]} {ordinal(day)}"
    if len(when) == 2:
        when = f"{'20' if int(when) < 50 else '19'}{when}"
    return f"{spoken}, {year(int(when))}" if when else spoken


def _count(number: str, one: str) -> str:
    return f"{cardinal(int(number))} {one}{'s' * (int(number) != 1)}"


CALENDAR.words("date_in_hyphens", rf"(?<![\d-]){_DAY}-({_MONTH})-(?=\d\d)", r"\1 \2 ", has="-")
CALENDAR.words("year_of_one_figure", r"(?<![\w'])'0(?=[1-9]\b(?!'))", "oh ", has=("'0",))
CALENDAR.words("places_in_a_row", r"(?<=\dst|\dnd|\drd|\dth)-(?=\d)", " to ", has="-")
CALENDAR.words("decades_in_a_row", r"(?<=0s)-(?='?\d0s)", " to ", has=("0s-",))


@CALENDAR.rule(r"(?<![\d.])(\d{1,3})h(?:rs?)? ?([0-5]?\d)(?: ?m(?:ins?)?)?(?: ?([0-5]?\d) ?s)?\b", has="h")
def hours_and_minutes(match: re.Match[str], reading: Reading) -> str:
    """``1h30m`` -> ``one hour thirty minutes``."""
    return " ".join(_count(n, unit) for n, unit in zip(match.groups(), ("hour", "minute", "second"), strict=True) if n)


@CALENDAR.rule(r"(?<![\d.])(\d{1,3})m ?([0-5]?\d) ?s\b", has="m")
def minutes_and_seconds(match: re.Match[str], reading: Reading) -> str:
    return f"{_count(match[1], 'minute')} {_count(match[2], 'second')}"


@CALENDAR.rule(rf"(?<![\d/-]){_YEAR}([-/.])(0?[1-9]|1[0-2])\2{_DAY}(?![\d/-]|\.\d)(?:T(?=\d\d:))?", has="-/.")
def iso_date(match: re.Match[str], reading: Reading) -> str:
    when, _, month, day = match.groups()
    return _spoken(int(day), int(month), when, reading) + (" at" if match.group().endswith("T") else "")


@CALENDAR.rule(r"(?<![\d/.-])(\d\d?)([/.-])(\d\d?)\2(\d{4}|\d\d)(?![\d/-]|\.\d)", has="/.-")
def date_in_figures(match: re.Match[str], reading: Reading) -> str | None:
    first, mark, second, when = match.groups()
    if len(when) == 2 and mark != "/":
        return None
    if len(when) == 4 and not 1000 <= int(when) < 2200:
        return None
    month, day = int(first), int(second)
    if not (1 <= min(month, day) <= 12 and 1 <= max(month, day) <= 31):
        return None
    day_first = reading.locale == "en-GB"
    if max(month, day) <= 12 and month != day:
        other = "en-US" if day_first else "en-GB"
        reading.warn(
            f"{match.group()} is read with the {'day' if day_first else 'month'} first; the locale {other} turns it"
        )
    if (day_first or month > 12) and day <= 12:
        month, day = day, month
    return _spoken(day, month, when, reading)


@CALENDAR.rule(rf"(?<=\b[Oo]n |\b[Bb]y )(0?[1-9]|1[0-2])/{_DAY}(?![\d/.])", has="/")
def date_without_a_year(match: re.Match[str], reading: Reading) -> str | None:
    if match.group() == "9/11":
        return None
    month, day = int(match[1]), int(match[2])
    if reading.locale == "en-GB" and day <= 12:
        month, day = day, month
    reading.warn(f"{match.group()} is read as a date")
    return _spoken(day, month, "", reading)


@CALENDAR.rule(rf"\b({_MONTH})( ?- ?| to | and | or )({_MONTH})(?![A-Za-z])", has=_MONTHS)
def months_in_a_row(match: re.Match[str], reading: Reading) -> str:
    first, between, last = match.groups()
    return f"{_month(first)} {between.strip().replace('-', 'to')} {_month(last)}"


@CALENDAR.rule(
    rf"\b({_MONTH}) {_DAY}{_SUFFIX}? ?- ?{_DAY}{_SUFFIX}?\b(?![:/-]\d|[.,]\d| ?[ap]\.?m\b)",
    has=_MONTHS,
)
def days_of_a_month(match: re.Match[str], reading: Reading) -> str | None:
    """``May 3-5`` -> ``may third to fifth``."""
    month, first, _, last, _ = match.groups()
    if int(first) >= int(last):
        return None
    return f"{_month(month)} {ordinal(int(first))} to {ordinal(int(last))}"


@CALENDAR.rule(rf"\b({_MONTH}) ?{_DAY}{_SUFFIX}?\b(?![:/]\d|[.,]\d)(?=(,? 20\d\d\b)?)", has=_MONTHS)
def month_and_day(match: re.Match[str], reading: Reading) -> str:
    """``July 4th`` -> ``july fourth``.

    A bare day behind a month in full is read as it stands ("november twenty two"), as the readers of old print and of
    reports do; the first three, days known by their names and dates of this century are ordinals all the same.
    """
    month, day, suffix, recent = match.groups()
    bare = month in MONTHS and int(day) > 3 and not suffix and not recent and (month, day) not in _REMEMBERED_DAYS
    return f"{_month(month)} {cardinal(int(day)) if bare else ordinal(int(day))}"


@CALENDAR.rule(
    rf"(?<![\d.,/:$£€-])(the )?\b{_DAY}{_SUFFIX}? (?:of )?({_MONTH})(?![A-Za-z]| [a-z]+s\b)(?:,? (?=\d{{4}}\b))?",
    has=_MONTHS,
)
def day_and_month(match: re.Match[str], reading: Reading) -> str:
    article, day, suffix, month = match.groups()
    behind = ", " if match.group().endswith(" ") else ""
    if suffix:
        return f"{article or ''}{ordinal(int(day))} {'of ' if ' of ' in match.group() else ''}{_month(month)}{behind}"
    if article or reading.locale == "en-GB":
        return f"the {ordinal(int(day))} of {_month(month)}{behind}"
    return f"{_month(month)} {ordinal(int(day))}{behind}"


@CALENDAR.rule(rf"\b({any_of(SHORT_MONTHS)})(?:\.?(?= ?'?\d)|\.(?= [a-z]|,))", has=tuple(SHORT_MONTHS))
def short_month(match: re.Match[str], reading: Reading) -> str:
    return _month(match[1])


@CALENDAR.rule(
    rf"\b({_WHEN}) ((?:{any_of(SHORT_MONTHS)})\.|(?:Feb|Apr|Sept|Oct|Nov|Dec)\b)",
    flags=re.IGNORECASE,
    has=tuple(SHORT_MONTHS),
)
def short_month_after_a_word(match: re.Match[str], reading: Reading) -> str | None:
    before, month = match.groups()
    return f"{before} {_month(month)}{'.' * month.endswith('.')}" if month[0].isupper() else None


CALENDAR.add(
    "short_name_without_a_stop",
    r"\b(Tues|Weds|Thurs|Sept)\b(?!\.)",
    lambda match, reading: SHORT_DAYS.get(match[1], "September"),
    has=("Tues", "Weds", "Thurs", "Sept"),
)


CALENDAR.add(
    "days_in_a_row",
    rf"\b({any_of(SHORT_DAYS)})\.? ?- ?({any_of(SHORT_DAYS)})\b\.?",
    lambda match, reading: (
        f"{SHORT_DAYS[match[1]]} to {SHORT_DAYS[match[2]]}{'.' * (re.match(r'$| [A-Z]', behind(match)) is not None)}"
    ),
    has="-",
)


@CALENDAR.rule(
    rf"\b({any_of(SHORT_DAYS)})(?:\.(?= [a-z]|,| ?\d)|(?=\.?,? (?:{any_of(MONTHS)}|\d\d?(?:[ap]m\b|:\d\d))))",
    has=tuple(SHORT_DAYS),
)
def short_day(match: re.Match[str], reading: Reading) -> str:
    return SHORT_DAYS[match[1]]


@CALENDAR.rule(rf"\b({_WHEN}) ({any_of(SHORT_DAYS)})\.", has=tuple(SHORT_DAYS))
def short_day_after_a_word(match: re.Match[str], reading: Reading) -> str:
    return f"{match[1]} {SHORT_DAYS[match[2]]}."


CALENDAR.words(
    "era_after_a_figure",
    r"(?<=\d) ?(BC|AD|BCE|CE|B\.C|A\.D|B\.C\.E|C\.E)\b(?:\.(?= ?[a-z0-9,;:?!)]))?",
    r" \1",
    has="BAC",
)


@CALENDAR.rule(
    r"\b\d{3,4}(?= (?:BC|B\.C)\b)|(?<=\b[Ii]n )\d{3}(?=,| [A-Z][a-z])|(?<=\b[Ii]n )10\d\d(?![\d,]\d| ?[a-z]+s\b)",
    has=("BC", "B.C", "In ", "in "),
)
def old_year(match: re.Match[str], reading: Reading) -> str:
    """``2250 BC`` -> ``twenty two fifty``; ``In 529 Cyrus died`` -> ``five twenty nine``."""
    return by_hundreds(int(match.group()))


@CALENDAR.rule(r"(?<![\d.,$£€])1(00|000|0000)s\b(?= of)", has=("0s",))
def dozens(match: re.Match[str], reading: Reading) -> str:
    """``100s of`` -> ``hundreds of``."""
    return {"00": "hundreds", "000": "thousands", "0000": "tens of thousands"}[match[1]]


@CALENDAR.rule(r"(?<![\d.,$£€])(mid|early|late)?-?'?(\d\d)?(\d0)'?s\b", flags=re.IGNORECASE, has=("0s", "0's", "0S"))
def decade(match: re.Match[str], reading: Reading) -> str:
    """``1920s`` -> ``nineteen twenties``, ``'00s`` -> ``two thousands``."""
    part, century, tens = match.groups()
    if tens != "00":
        spoken = plural(cardinal(int(tens)))
        spoken = f"{cardinal(int(century))} {spoken}" if century else spoken
    elif century is None or century == "20":
        spoken = "two thousands"
    elif century == "10":
        spoken = "thousands"
    else:
        spoken = f"{cardinal(int(century))} hundreds"
    return f"{part} {spoken}" if part else spoken


CLOCK = Rules(":", r"\d ?[AaPp]\.?[Mm]", r"0\d{3} h")

# The second stop of "p.m." may end the sentence too, and is left where it seems to.
_HALF_DAY = r" ?([AaPp])(?:[Mm]\b|\.[Mm]\b(?:\.(?= ?[a-z0-9,;:?!)]" + rf"| (?:{BEHIND_A_TIME})\b))?)"
_IN_PROPORTION = r"(?= (?:odds|ratio|scale|mix|mixture|against|majority|lead|split|aspect|dilution|in favou?r))"
_PROPORTION_OF = "".join(f"(?<={word} )|" for word in ("ratio of", "odds of", "scale of", "score of", "won", "lost"))[
    :-1
]
_SCRIPTURE = (
    "Genesis Exodus Leviticus Numbers Deuteronomy Joshua Judges Samuel Kings Chronicles Job Psalm Psalms Proverbs "
    "Ecclesiastes Isaiah Jeremiah Ezekiel Daniel Matthew Mark Luke John Acts Romans Corinthians Galatians Ephesians "
    "Philippians Colossians Thessalonians Timothy Hebrews James Peter Revelation"
).split()


CLOCK.words(
    "stop_for_a_colon", r"(?<![\d.])(1[0-2]|0?[1-9])\.(?=[0-5]\d ?[AaPp]\.?[Mm]\b)", r"\1:", has="."
)  # fmt: skip


@CLOCK.rule(r"\b0(\d)([0-5]\d)(?= (?:hours|hrs)\b)", has="0")
def hours_of_soldiers(match: re.Match[str], reading: Reading) -> str:
    """``0600 hours`` -> ``oh six hundred hours``."""
    return f"oh {cardinal(int(match[1]))} {'hundred' if match[2] == '00' else by_hundreds(int(match[2]))}"


@CLOCK.rule(rf"\b({'|'.join(_SCRIPTURE)}) (\d{{1,3}}):(\d{{1,3}})\b", has=":")
def chapter_and_verse(match: re.Match[str], reading: Reading) -> str:
    return f"{match[1]} {cardinal(int(match[2]))} {cardinal(int(match[3]))}"


@CLOCK.rule(
    rf"(?<![\d:.])(\d{{1,4}}):(\d{{1,4}}){_IN_PROPORTION}|(?:{_PROPORTION_OF})(\d{{1,4}}):(\d{{1,4}})(?![\d:])", has=":"
)
def proportion(match: re.Match[str], reading: Reading) -> str:
    """``1:3 odds`` -> ``one to three``."""
    first, second = (int(group) for group in match.groups() if group)
    return f"{cardinal(first)} to {cardinal(second)}"


@CLOCK.rule(
    r"(?<![\d:])([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?(?![\d:])" + rf"(?:{_HALF_DAY}| ?(?:hrs|hours|h)\b)?", has=":"
)
def time_of_day(match: re.Match[str], reading: Reading) -> str:
    hour, minute, second, half = match.groups()
    words = [cardinal(int(hour))]
    if int(minute):
        words.append(f"oh {cardinal(int(minute))}" if int(minute) < 10 else cardinal(int(minute)))
    elif not half:
        words.append("o'clock" if 1 <= int(hour) <= 12 and not second else "hundred hours" if not second else "zero")
    if second:
        words.append(f"and {_count(second, 'second')}")
    return " ".join([*words, f"{half.upper()}M"] if half else words)


@CLOCK.rule(r"(?<![\d:])(1[0-2]|[1-9])" + _HALF_DAY, has="aApP")
def whole_hour(match: re.Match[str], reading: Reading) -> str:
    return f"{cardinal(int(match[1]))} {match[2].upper()}M"


@CLOCK.rule(r"(?<![\d:.])(\d{1,4}):(\d{1,4})(?![\d:])", has=":")
def any_other_proportion(match: re.Match[str], reading: Reading) -> str:
    return f"{cardinal(int(match[1]))} to {cardinal(int(match[2]))}"
