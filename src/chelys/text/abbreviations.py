"""Abbreviations of English, and where their full stops end a sentence."""

from __future__ import annotations

import re

from chelys.text.rules import Late, Reading, Rules, any_of, behind

#: Before a name, with a stop or without one.
TITLES = {
    "Mr": "mister", "Mrs": "missus", "Ms": "miz", "Dr": "doctor", "Prof": "professor", "Rev": "reverend",
    "Gov": "governor", "Capt": "captain", "Lt": "lieutenant", "Sgt": "sergeant", "Cpl": "corporal", "Maj": "major",
    "Cmdr": "commander", "Pvt": "private", "Mt": "mount", "Ft": "fort", "Messrs": "messrs", "Mx": "mix",
}  # fmt: skip
#: Before a name, with a stop only: without it they are words or names.
STOPPED_TITLES = {
    "Hon": "honorable", "Gen": "general", "Sen": "senator", "Rep": "representative", "Col": "colonel", "Adm": "admiral",
    "Pres": "president", "Supt": "superintendent", "Insp": "inspector", "Fr": "father", "Sr": "senior",
    "Bro": "brother", "Sens": "senators", "Reps": "representatives", "Drs": "doctors", "Profs": "professors",
    "Gens": "generals",
    "Wm": "William", "Geo": "George", "Chas": "Charles", "Jas": "James", "Thos": "Thomas", "Jos": "Joseph",
    "Robt": "Robert", "Edw": "Edward", "Benj": "Benjamin", "Rt": "right", "Pt": "point", "Ven": "venerable",
}  # fmt: skip
#: Behind a name, with a stop or without one.
BEHIND_A_NAME = {
    "Jr": "junior", "Esq": "esquire", "Ave": "avenue", "Blvd": "boulevard", "Rd": "road", "Ln": "lane",
    "Pkwy": "parkway", "Hwy": "highway", "Inc": "incorporated", "Ltd": "limited", "Corp": "corporation",
    "Bros": "brothers",
}  # fmt: skip
#: Written with a full stop, wherever they stand.
_STOPPED = {
    "Co": "company", "Dept": "department", "dept": "department", "approx": "approximately", "Approx": "approximately",
    "etc": "et cetera", "Fig": "figure", "fig": "figure", "figs": "figures", "Figs": "figures", "Vol": "volume",
    "vol": "volume",
    "vols": "volumes", "Vols": "volumes",
    "misc": "miscellaneous", "Misc": "miscellaneous", "govt": "government", "Govt": "government",
    "Asst": "assistant", "asst": "assistant", "Assn": "association", "Assoc": "associate", "assoc": "associate",
    "attn": "attention",
    "Attn": "attention",
    "Univ": "university", "Inst": "institute", "incl": "including", "excl": "excluding", "avg": "average",
    "Avg": "average",
    "tel": "telephone", "Tel": "telephone", "ext": "extension", "Ext": "extension", "apt": "apartment",
    "Apt": "apartment",
    "temp": "temperature", "viz": "namely", "cf": "compare", "Pl": "place", "Ct": "court",
    "Sq": "square", "eds": "editors", "intl": "international", "Intl": "international", "max": "maximum",
    "Max": "maximum",
    "min": "minimum", "Min": "minimum", "nos": "numbers", "Nos": "numbers",
    "fwd": "forward", "mfg": "manufacturing", "mgr": "manager", "Mgr": "manager", "wt": "weight", "ht": "height",
    "qty": "quantity", "Qty": "quantity", "acct": "account", "bldg": "building", "Bldg": "building",
    "inst": "instant", "ult": "ultimo",
    "Bart": "baronet",
}  # fmt: skip
#: Names and words of their own where they end a sentence ("Max.", "est."), and with no stop.
ORDINARY_WORDS = frozenset("max Max min Min temp apt Apt tel Inst Pl Ct Sq ext wt ht ult inst Bart".split())
#: No words of their own, so that they need no stop.
_UNMISTAKABLE = (
    "approx Approx misc dept Dept govt Govt asst Asst Assn assoc Univ incl excl avg intl mgr bldg qty acct "
    "attn vols etc"
).split()
#: Every abbreviation that may be written with a full stop.
ABBREVIATIONS = TITLES | STOPPED_TITLES | BEHIND_A_NAME | _STOPPED | {"vs": "versus"}
#: Followed by a figure only; otherwise a word of its own ("No.") or a name ("Jan").
BEFORE_FIGURE = {
    "No": "", "no": "", "Nos": "", "nos": "", "p": "page", "pp": "pages", "ch": "chapter", "Ch": "chapter",
    "sec": "section", "Sec": "section", "ver": "version", "art": "article", "Art": "article", "pt": "part",
    "Rm": "room", "Rte": "route", "Rt": "route", "Fl": "floor", "Ste": "suite", "Apt": "apartment", "apt": "apartment",
    "est": "", "Est": "",
    "Pt": "part",
    **dict.fromkeys(("Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sep", "Sept", "Oct", "Nov", "Dec"), ""),
}  # fmt: skip
#: Abbreviations that may end a sentence: the full stop then does two jobs.
MAY_END = frozenset("etc Jr Sr Inc Ltd Corp Co Ave Blvd Rd Ln Dept Esq Bros Hwy Pkwy dept misc govt Bart".split())
#: Abbreviations with stops or strokes inside.
DOTTED = {
    "e.g.": "for example", "E.g.": "for example", "i.e.": "that is", "I.e.": "that is", "Ph.D.": "PHD",
    "Ph.D": "PHD", "B.Sc.": "BSC", "M.Sc.": "MSC",
    "ph.d.": "PHD", "a.k.a.": "AKA", "et al.": "et al", "w/o": "without", "gov't": "government",
    "Gov't": "government", "int'l": "international", "Int'l": "international",
    "nat'l": "national", "Nat'l": "national", "dep't": "department", "Dep't": "department", "s/he": "she or he",
    "w/out": "without",
    "w/": "with ", "b/c": "because", "c/o": "care of", "W/o": "without", "n/a": "not applicable",
    "N/A": "not applicable", "ca.": "circa", "vs.": "versus",
}  # fmt: skip

#: After a lone capital and a stop, these begin a sentence ("vitamin B. The"); other words are names ("J. Smith").
SENTENCE_STARTERS = frozenset(
    "A An And As At Because But For He Here His How I If In It Its Let My No Not Now Of On Or Our She So Some "
    "That The Their Then There These They This Those To We What When Where Who Why With Yes You Your".split()
)
_NEVER_NAMES = SENTENCE_STARTERS | frozenset(
    "After All Also Although Another Any Anyone Before Both By Can Did Do Does Each Every Everybody Everyone "
    "Everything "
    "Few From Had Has Have Her However Is Later Many Maybe Most Neither Nobody None Nor Nothing Once Only "
    "Other Perhaps "
    "Should Since Somebody Someone Something Soon Still Such Though Thus Today Until Was Well Were Whether Which While "
    "Whose Would Yet".split()
)
#: A lone capital behind one of these is no initial of a name: "plan B. Nobody liked it."
_LETTERED = (
    "plan|vitamins?|types?|grades?|class|group|option|section|part|point|hepatitis|team|exhibit|figure|"
    "appendix|room|gate|level|"
    "category|schedule|size|letter|key|step|side|route|line|zone|tier|unit|block|row|series|model|version|"
    "case|answer|choice|item|formula|"
    "factor|variable|axis|phase|table|channel|building|wing|terminal|platform|an|a|the"
)
_LETTER_BEFORE = Late(rf"(?:\b(?:{_LETTERED}) |-)$", flags=re.IGNORECASE)

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


def ends_at(word: str, following: str | None) -> bool:
    """Whether the stop of an abbreviation ends the sentence too, by the character behind it."""
    return word in MAY_END and (following is None or following.isupper())


#: Behind "p.m." these go on: "at 3 p.m. Monday", "5 p.m. EST".
BEHIND_A_TIME = (
    "Mon(?:day)?|Tue(?:s|sday)?|Wed(?:s|nesday)?|Thu(?:r|rs|rsday)?|Fri(?:day)?|Sat(?:urday)?|Sun(?:day)?|"
    "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|January|February|March|April|May|June|July|August|September|"
    "October|November|December|[ECMP][SD]?T|GMT|UTC|BST|CES?T|IST|JST|Eastern|Central|Mountain|Pacific|Greenwich"
)
_BEHIND_A_TIME = Late(BEHIND_A_TIME)
_TIME_OF_A_THING = Late(r"\b(?:[Tt]he|[Aa]n?|[Tt]his|[Hh]is|[Hh]er|[Mm]y|[Oo]ur|[Tt]heir|[Ee]very) [\d:]{1,5} ?$")


def half_day_ends_sentence(before: str, following: str | None) -> bool:
    """Whether the stop of "p.m." ends a sentence, by the text before it and the word behind it."""
    if following is None or _BEHIND_A_TIME.compiled.fullmatch(following):
        return False
    return begins_sentence(following) or _TIME_OF_A_THING.compiled.search(before) is None


def begins_sentence(word: str) -> bool:
    """Whether a capitalised word behind an abbreviation's stop begins a sentence, and is no name."""
    return word in _NEVER_NAMES


def letter_ends_sentence(before: str, following: str | None) -> bool:
    """Whether the stop behind a lone capital ends a sentence, by the text before it and the word behind it."""
    return following in _NEVER_NAMES or (
        following is not None and _LETTER_BEFORE.compiled.search(before[-20:]) is not None
    )


def no_is_a_number(before: str, word: str, *, stop: bool) -> bool:
    """Whether "no" in front of a figure is short for "number": ``no. 7``, but not ``said no 3 times``."""
    if word[0] == "N":
        return True
    if not stop:
        return _NUMBERED_BEFORE.compiled.search(before[-20:]) is not None
    return _ANSWER_BEFORE.compiled.search(before[-20:]) is None


_NUMBERED_BEFORE = Late(
    r"\b(?:account|bus|case|catalog|exhibit|flat|house|invoice|item|lot|model|order|page|part|phone|platform|plot|room|"
    r"serial|telephone|track|train|unit) $",
    re.IGNORECASE,
)
_ANSWER_BEFORE = Late(
    r"\b(?:answer(?:ed|s)?|be|but|cried|is|or|repl(?:y|ied)|said|saying|says?|shouted|told|"
    r"voted?|was|whispered|yelled|,) \"?$",
    re.IGNORECASE,
)
#: States of America as newspapers shorten them behind a city.
_STATES = {
    "Ala": "Alabama", "Ariz": "Arizona", "Ark": "Arkansas", "Calif": "California", "Colo": "Colorado",
    "Conn": "Connecticut", "Del": "Delaware", "Fla": "Florida", "Ga": "Georgia", "Ill": "Illinois", "Ind": "Indiana",
    "Kan": "Kansas", "Ky": "Kentucky", "La": "Louisiana", "Mass": "Massachusetts", "Md": "Maryland", "Mich": "Michigan",
    "Minn": "Minnesota", "Miss": "Mississippi", "Mo": "Missouri", "Mont": "Montana", "Neb": "Nebraska",
    "Nev": "Nevada", "Okla": "Oklahoma", "Ore": "Oregon", "Pa": "Pennsylvania", "Penn": "Pennsylvania",
    "Tenn": "Tennessee", "Tex": "Texas", "Va": "Virginia", "Vt": "Vermont", "Wash": "Washington", "Wis": "Wisconsin",
}  # fmt: skip
_DIRECTIONS = {
    "N": "north", "S": "south", "E": "east", "W": "west", "NE": "northeast", "NW": "northwest", "SE": "southeast",
    "SW": "southwest",
}  # fmt: skip
_STREETS = "Avenue|Ave|Boulevard|Blvd|Circle|Court|Drive|Dr|Lane|Ln|Parkway|Place|Road|Rd|Square|Street|St|Terrace|Way"

SHORT_FORMS = Rules("")

SHORT_FORMS.add(
    "with_stops_or_strokes_inside",
    rf"(?<![A-Za-z./])(?:{any_of(DOTTED)})(?![A-Za-z]*/)",
    lambda match, reading: DOTTED[match.group()],
    has=("/", "'t", "'l", "e.g.", "E.g.", "i.e.", "I.e.", "h.d.", "h.D", "Sc.", "a.k.", "al.", "ca.", "vs."),
)
SHORT_FORMS.words("versus", r"\bvs\b\.?|(?<=[a-z] )v\. (?=[A-Z])(?<=v\. )", "versus", has=("vs", " v. "))
SHORT_FORMS.words("floor", r"(?<=\d(?:st|nd|rd|th) )[Ff]l\b\.?(?=[ ,]|$)", "floor", has=(" fl", " Fl"))
SHORT_FORMS.words("century", r"(?<=\d(?:st|nd|rd|th) )c\.(?=[ ,]|$)", "century", has=(" c.",))
SHORT_FORMS.words("circa", r"\bc\. ?(?=\d{3,4}\b)", "circa ", has=("c.",))
SHORT_FORMS.add(
    "life",
    r"\b([bdr])\. ?(?=1\d{3}|20\d\d)",
    lambda match, reading: {"b": "born ", "d": "died ", "r": "reigned "}[match[1]],
    has=("b.", "d.", "r."),
)
SHORT_FORMS.words("established", r"\b[Ee]st\. ?(?=1\d{3}|20\d\d)", "established ", has=("st.",))
SHORT_FORMS.words("estimated", r"\b[Ee]st\. (?=[a-z\d$£€])", "estimated ", has=("st.",))
SHORT_FORMS.words("highway", r"\bHwy\.? (?=\d)", "highway ", has=("Hwy",))
SHORT_FORMS.words("and", r"(?<=[A-Za-z]) (?:'n'?|n')(?= [A-Za-z])", " and", has=(" 'n", " n'"))
SHORT_FORMS.words("et_cetera", r"&c\.?(?![A-Za-z])", "et cetera", has=("&c",))


@SHORT_FORMS.rule(r"\b([Nn]o|[Nn]os)(\.?) ?(?=\d|[A-Z]{1,3}-?\d)(?<=[ .])", has=("No", "no"))
def number(match: re.Match[str], reading: Reading) -> str | None:
    word, stop = match.groups()
    if not no_is_a_number(match.string[max(0, match.start() - 20) : match.start()], word, stop=bool(stop)):
        return None
    if not stop and not match.string[match.end()].isdigit():
        return None
    return "numbers " if word[-1] == "s" else "number "


SHORT_FORMS.add(
    "before_a_figure",
    rf"\b({any_of(word for word, spoken in BEFORE_FIGURE.items() if spoken)})(?:\. ?|(?<=\bpp) |(?<=\bp) |"
    r"(?<=\bRte) |(?<=\bRm) |(?<=\b[Aa]pt) |(?<=\bSte) )(?=\d|[IVXL]+\b)",
    lambda match, reading: f"{BEFORE_FIGURE[match[1]]} ",
    has=("p ", "p.", "Rte", "Rm", "pt ", "Ste", "l.", "e.", "h.", "ec.", "er.", "t."),
)
SHORT_FORMS.words("touching_saint", r"\bSt\.(?=[A-Z][a-z])", "St. ", has=("St.",))
SHORT_FORMS.add("saint_or_street", SAINT_OR_STREET.pattern, lambda match, reading: saint_or_street(match), has=("St.",))


@SHORT_FORMS.rule(r"\b((?:[A-Z][a-z]{1,20}|\d{1,6}(?:st|nd|rd|th)) )?St\b(?!\.)(?= ([A-Z][a-z])|)", has=("St",))
def saint_or_street_without_a_stop(match: re.Match[str], reading: Reading) -> str | None:
    before, name = match.groups()
    begins = match.string[max(0, match.start() - 2) : match.start()].strip("\"'( ") in ("", ".", "!", "?")
    if before and not (name and begins):
        return f"{before}Street"
    return f"{before or ''}Saint" if name else None


SHORT_FORMS.add(
    "state",
    rf"(?<=[a-z], )({any_of(_STATES)})\.(?=( [A-Z])?)",
    lambda match, reading: _STATES[match[1]] + "." * (match[2] is not None or match.end() == len(match.string)),
    has=(", ",),
)


@SHORT_FORMS.rule(
    rf"\b([NS]?[EW]|[NS])\.? (?=(?:[A-Z][a-z]{{1,20}} |\d{{1,3}}(?:st|nd|rd|th) ){{1,3}}(?:{_STREETS})\b)",
    has=("N ", "S ", "E ", "W ", "N.", "S.", "E.", "W."),
)
def direction(match: re.Match[str], reading: Reading) -> str:
    return f"{_DIRECTIONS[match[1]]} "


SHORT_FORMS.add(
    "direction_of_a_land",
    r"\b([NSEW])\. (?=(?:Africa|America|Asia|Carolina|Dakota|Europe|Germany|Ireland|Korea|Sudan|Virginia|Wales|"
    r"Yemen)n?\b)",
    lambda match, reading: f"{_DIRECTIONS[match[1]]} ",
    has=("N. ", "S. ", "E. ", "W. "),
)
SHORT_FORMS.add(
    "direction_behind_a_street",
    rf"\b({_STREETS})\.?,? ([NS][EW])\b",
    lambda match, reading: f"{match[1]} {_DIRECTIONS[match[2]]}",
    has=("NE", "NW", "SE", "SW"),
)


@SHORT_FORMS.rule(
    r"\b(\d{1,5} (?:[A-Z][a-z]{1,20} ){1,3}|(?:along|at|down|from|in|of|off|on|to|up) (?:[A-Z][a-z]{1,20} "
    r"){1,2})Dr\b(\.?)(?! [A-Z][a-z]+ [A-Z])",
    has=("Dr",),
)
def drive(match: re.Match[str], reading: Reading) -> str:
    """``12 Oak Dr.`` -> ``twelve oak drive``."""
    following = behind(match).lstrip("\"') ")[:1]
    return f"{match[1]}Drive" + ("." if match[2] and (not following or following.isupper()) else "")


@SHORT_FORMS.rule(
    rf"\b({any_of(TITLES)}|MRS?|DR)(?:(\.)|(?= (?:[A-Z][A-Za-z']|[A-Z]\.|and M)))", has=(*TITLES, "MR", "DR")
)
def title(match: re.Match[str], reading: Reading) -> str:
    touching = match.string[match.end() : match.end() + 1].isalpha()  # "Mr.Brown"
    return TITLES[match[1].capitalize()] + " " * touching


@SHORT_FORMS.rule(rf"(?<=[A-Za-z0-9,] )({any_of(BEHIND_A_NAME)})\b(?!\.)", has=tuple(BEHIND_A_NAME))
def behind_a_name(match: re.Match[str], reading: Reading) -> str:
    return BEHIND_A_NAME[match[1]]


@SHORT_FORMS.rule(rf"\b({any_of(_UNMISTAKABLE)})\b(?![.'@-])", has=tuple(_UNMISTAKABLE))
def without_a_stop(match: re.Match[str], reading: Reading) -> str:
    return ABBREVIATIONS[match[1]]


@SHORT_FORMS.rule(rf"(?<!\d )(?<!\d)\b({any_of(ABBREVIATIONS)})\.(?=(?: ?([^ ]))?)", has=".")
def abbreviation(match: re.Match[str], reading: Reading) -> str | None:
    word, following = match.groups()
    if word in ORDINARY_WORDS and not (following and (following.islower() or following.isdigit())):
        return None
    touching = match.string[match.end() : match.end() + 1].isalpha()
    ends = ends_at(word, following) and match.start() > 0  # "Sr. Gomez"
    return ABBREVIATIONS[word] + "." * ends + " " * touching
