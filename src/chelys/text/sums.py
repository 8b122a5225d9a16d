"""Signs between figures: sums, comparisons, "8x10", thousands that stand apart."""

from __future__ import annotations

import re

from chelys.text.numbers import ordinal
from chelys.text.rules import Reading, Rules
from chelys.text.units import UNIT

SIGNS_BETWEEN_FIGURES = Rules(r"\d", "[<>=~]")


@SIGNS_BETWEEN_FIGURES.rule(
    r"(?<![\w.,])[1-9]\d{0,2}(?:(?: \d{3}){0,3} 000|(?:'\d{3}){1,4}|(?:_\d{3}){1,4}|(?:\.\d{3}){2,4})"
    r"(?![\d'_]|[.,]\d| \d{3}\b)"
)
def thousands_apart(match: re.Match[str], reading: Reading) -> str:
    """``10 000``, ``10'000`` and ``1.000.000`` with commas."""
    return f"{int(re.sub('[^0-9]', '', match.group())):,}"


@SIGNS_BETWEEN_FIGURES.rule(r"(?<![\w.,])(\d{1,3}\.\d{1,12}|\d)(?:e|E(?=[+-]))([+-]?)(\d{1,3})(?!\w|\.\w)", has="eE")
def scientific(match: re.Match[str], reading: Reading) -> str:
    """``3.5e-4`` -> ``3.5 times ten to the minus fourth``."""
    return f"{match[1]} times ten to the {'minus ' if match[2] == '-' else ''}{ordinal(int(match[3]))}"


SIGNS_BETWEEN_FIGURES.words("extension", r"(?<=-\d{4}),? ?(?:ext|[xX])\.? ?(?=\d{1,6}\b)", " extension ", has="xX")
SIGNS_BETWEEN_FIGURES.words("inch_mark", r"(?:(?<=\d/\d)|(?<=\d/\d\d))\"(?!\w)", "-inch", has='"')
SIGNS_BETWEEN_FIGURES.words(
    "feet",
    r"(?<=\d)'(?= ?[xX] ?\d| (?:tall|wide|long|high|deep)\b)|(?:(?<=[xX]\d)|(?<=[xX] \d)|(?<=[xX] \d\d))'(?!\w)",
    " ft",
    has="'",
)


@SIGNS_BETWEEN_FIGURES.rule(r"(?<=\d)( ?[-*/+] ?)(?=(\d[\d.,]{0,20})(?: ?[-*/+] ?\d[\d.,]{0,20}){0,9} ?=)", has="=")
def sum_before_equals(match: re.Match[str], reading: Reading) -> str:
    """``5 - 3 = 2`` -> ``minus``."""
    return {"-": " minus ", "*": " times ", "/": " divided by ", "+": " plus "}[match[1].strip()]


@SIGNS_BETWEEN_FIGURES.rule(r"(?<=\d) \* (?=\d)|(?<=\d)\*(?=\d)", has="*")
def star(match: re.Match[str], reading: Reading) -> str:
    return " times "


@SIGNS_BETWEEN_FIGURES.rule(
    rf"(?<=\d)( ?(?:{UNIT})\b)? ?[xX] ?(?=\d[\d.]{{0,12}}(?: ?[xX] ?[\d.]{{1,12}}){{0,4}}( ?=|\^)?)", has="xX"
)
def by(match: re.Match[str], reading: Reading) -> str:
    """``8x10`` -> ``eight by ten``, ``5 x 3 = 15`` -> ``times``."""
    return f"{match[1] or ''} {'times' if match[2] else 'by'} "


SIGNS_BETWEEN_FIGURES.words("times_as_much", r"(?<=\d)(?<!\b802\.1)[xX]\b(?! ?[-+=*/^])", " times", has="xX")


SIGNS_BETWEEN_FIGURES.words("not_equal", r" ?!= ?", " is not equal to ", has=("!=",))
SIGNS_BETWEEN_FIGURES.words("arrow", r" ?[-=]+> ?", " to ", has=("->", "=>"))
SIGNS_BETWEEN_FIGURES.words("at_most", r" ?<= ?(?=[-$£€\d])", " at most ", has=("<=",))
SIGNS_BETWEEN_FIGURES.words("at_least", r" ?>= ?(?=[-$£€\d])", " at least ", has=(">=",))
SIGNS_BETWEEN_FIGURES.words(
    "less_than", r" ?(?<![<-])< ?(?=[-$£€\d])|(?<=[a-z]) < (?=[a-z])|(?<=\b[a-z])<(?=[a-z]\b)", " less than ", has="<"
)
SIGNS_BETWEEN_FIGURES.words(
    "more_than", r" ?(?<![>=-])> ?(?=[-$£€\d])|(?<=[a-z]) > (?=[a-z])", " greater than ", has=">"
)
SIGNS_BETWEEN_FIGURES.words("about", r"~ ?(?=[\d$£€.])", "about ", has="~")
