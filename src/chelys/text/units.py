"""Measures and money."""

from __future__ import annotations

import re

from chelys.text.numbers import AMOUNT, CURRENCIES, by_hundreds, cardinal, figure, mixed, ordinal, plural
from chelys.text.rules import Late, Reading, Rules, any_of, before, behind

#: Sign of a currency -> one, many, one of its parts, many of its parts; no parts where few would know their name.
SIGNS = CURRENCIES | {
    "₹": ("rupee", "rupees", "paisa", "paise"), "₽": ("ruble", "rubles", "kopeck", "kopecks"),
    "₩": ("won", "won", "", ""), "₺": ("lira", "lira", "", ""), "₴": ("hryvnia", "hryvnias", "", ""),
    "₪": ("shekel", "shekels", "", ""), "₦": ("naira", "naira", "", ""), "₱": ("peso", "pesos", "", ""),
    "₫": ("dong", "dong", "", ""), "฿": ("baht", "baht", "", ""), "₿": ("bitcoin", "bitcoins", "", ""),
}  # fmt: skip
#: Letters before a dollar sign.
_DOLLARS_OF = {
    "US": "US", "C": "canadian", "CA": "canadian", "CAD": "canadian", "A": "australian", "AU": "australian",
    "AUD": "australian", "NZ": "new zealand", "HK": "hong kong", "S": "singapore", "R": "",
}  # fmt: skip
_CODES: dict[str, tuple[str, ...]] = {
    "USD": ("US dollar", "US dollars", "cent", "cents"), "EUR": CURRENCIES["€"], "JPY": CURRENCIES["¥"],
    "GBP": ("british pound", "british pounds", "penny", "pence"), "CHF": ("swiss franc", "swiss francs"),
    "CAD": ("canadian dollar", "canadian dollars", "cent", "cents"),
    "AUD": ("australian dollar", "australian dollars", "cent", "cents"),
    "NZD": ("new zealand dollar", "new zealand dollars", "cent", "cents"), "INR": SIGNS["₹"], "KRW": SIGNS["₩"],
    "CNY": ("yuan", "yuan"), "RMB": ("yuan", "yuan"), "SEK": ("swedish krona", "swedish kronor"),
    "NOK": ("norwegian krone", "norwegian kroner"), "DKK": ("danish krone", "danish kroner"),
    "PLN": ("zloty", "zlotys"), "MXN": ("mexican peso", "mexican pesos"), "BRL": ("real", "reais"), "BTC": SIGNS["₿"],
}  # fmt: skip
_SCALES = {
    "k": "thousand", "m": "million", "mn": "million", "mio": "million", "mil": "million", "b": "billion",
    "bn": "billion", "t": "trillion", "tn": "trillion",
}  # fmt: skip
_SCALE = r"( ?(?:thousand|million|billion|trillion|mn|mio|mil|bn|tn|[kKmMbBT])\b)?"

_PREFIXES = {
    "": "",
    "k": "kilo",
    "M": "mega",
    "G": "giga",
    "T": "tera",
    "c": "centi",
    "m": "milli",
    "µ": "micro",
    "n": "nano",
}
#: Unit -> its name, and the prefixes it is met with.
_PREFIXED = {
    "m": ("meter", "k c m µ n"), "g": ("gram", "k m µ n"), "l": ("liter", "c m µ"), "L": ("liter", "m µ"),
    "s": ("second", "m µ n"), "W": ("watt", "k M G T m"), "Wh": ("watt hour", "k M G T"), "V": ("volt", "k m µ"),
    "A": ("amp", "m µ"), "Ah": ("amp hour", "m"), "Pa": ("pascal", "k M"), "J": ("joule", "k M"),
    "N": ("newton", "k"), "cal": ("calorie", "k"), "B": ("byte", "k M G T"), "b": ("bit", "k M G"),
    "bit": ("bit", "k M G"), "bps": ("bit per second", "k M G"), "mol": ("mole", "m µ"), "F": ("farad", "µ n"),
    "eV": ("electron volt", "k M G T"),
}  # fmt: skip


def _several(name: str) -> str:
    """``bit per second`` -> ``bits per second``."""
    return name.replace(" per", "s per") if " per" in name else f"{name}s"


_UNITS = {
    f"{prefix}{unit}": (f"{_PREFIXES[prefix]}{name}", f"{_PREFIXES[prefix]}{_several(name)}")
    for unit, (name, prefixes) in _PREFIXED.items()
    for prefix in ["", *prefixes.split()]
    if prefix or unit in ("m", "g", "l", "L", "s", "mol", "Pa", "W", "Wh", "V", "A", "J", "cal", "Ah")
} | {
    "kph": ("kilometer per hour", "kilometers per hour"), "kmh": ("kilometer per hour", "kilometers per hour"),
    "mph": ("mile per hour", "miles per hour"), "mpg": ("mile per gallon", "miles per gallon"),
    "rpm": ("RPM", "RPM"), "fps": ("frame per second", "frames per second"), "dpi": ("DPI", "DPI"),
    "ft": ("foot", "feet"), "in": ("inch", "inches"), "yd": ("yard", "yards"), "yds": ("yard", "yards"),
    "mi": ("mile", "miles"), "mcg": ("microgram", "micrograms"), "lbs": ("pound", "pounds"), "lb": ("pound", "pounds"),
    "oz": ("ounce", "ounces"), "fl oz": ("fluid ounce", "fluid ounces"), "gal": ("gallon", "gallons"),
    "qt": ("quart", "quarts"), "qts": ("quart", "quarts"), "doz": ("dozen", "dozen"),
    "pts": ("point", "points"), "pt": ("pint", "pints"),
    "tsp": ("teaspoon", "teaspoons"), "tbsp": ("tablespoon", "tablespoons"),
    "Tbsp": ("tablespoon", "tablespoons"), "ha": ("hectare", "hectares"),
    **{
        f"{short}{stop} {unit}": (f"{kind} {one}", f"{kind} {many}")
        for short, kind in (("sq", "square"), ("cu", "cubic")) for stop in ("", ".")
        for unit, one, many in (
            ("ft", "foot", "feet"), ("in", "inch", "inches"), ("yd", "yard", "yards"), ("mi", "mile", "miles"),
            ("m", "meter", "meters"), ("km", "kilometer", "kilometers"), ("cm", "centimeter", "centimeters"),
        )
    },
    "cc": ("CC", "CC"), "dl": ("deciliter", "deciliters"), "hl": ("hectoliter", "hectoliters"),
    "dB": ("decibel", "decibels"),
    "Hz": ("hertz", "hertz"), "kHz": ("kilohertz", "kilohertz"), "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"), "THz": ("terahertz", "terahertz"), "KB": ("kilobyte", "kilobytes"),
    "Kb": ("kilobit", "kilobits"),
    "KiB": ("kibibyte", "kibibytes"), "MiB": ("mebibyte", "mebibytes"), "GiB": ("gibibyte", "gibibytes"),
    "hPa": ("hectopascal", "hectopascals"), "mbar": ("millibar", "millibars"), "psi": ("PSI", "PSI"),
    "atm": ("atmosphere", "atmospheres"), "lx": ("lux", "lux"),
    "hp": ("horsepower", "horsepower"), "kn": ("knot", "knots"), "kt": ("knot", "knots"), "kts": ("knot", "knots"),
    "ly": ("light year", "light years"),
    "sec": ("second", "seconds"), "secs": ("second", "seconds"), "min": ("minute", "minutes"),
    "mins": ("minute", "minutes"), "h": ("hour", "hours"),
    "hrs": ("hour", "hours"), "hr": ("hour", "hours"), "yr": ("year", "years"), "yrs": ("year", "years"),
    "wk": ("week", "weeks"), "wks": ("week", "weeks"), "mos": ("month", "months"),
    "px": ("pixel", "pixels"), "MP": ("megapixel", "megapixels"), "ppm": ("part per million", "parts per million"),
    "pp": ("percentage point", "percentage points"),
    "Ω": ("ohm", "ohms"), "kΩ": ("kilohm", "kilohms"), "MΩ": ("megohm", "megohms"),
    "cwt": ("hundredweight", "hundredweight"),
    **dict.fromkeys(("°C", "° C"), ("degree Celsius", "degrees Celsius")),
    "mmHg": ("millimeter of mercury", "millimeters of mercury"),
    **dict.fromkeys(("°F", "° F"), ("degree Fahrenheit", "degrees Fahrenheit")),
    **{
        f"°{gap}{sign}": (f"degree {name}", f"degrees {name}")
        for sign, name in (("N", "north"), ("S", "south"), ("E", "east"), ("W", "west")) for gap in ("", " ")
    },
    "°": ("degree", "degrees"), "%": ("percent", "percent"), "‰": ("per mille", "per mille"), "¢": ("cent", "cents"),
}  # fmt: skip
#: Written with a stop that ends no sentence.
_STOPPED = (
    "ft in yd yds mi lb lbs oz gal qt qts doz pt tsp tbsp Tbsp hr hrs min mins sec secs yr yrs wk wks mos cm mm km kg "
    "sq"
).split()
#: What a rate is by.
_PER = {
    "s": "second", "sec": "second", "second": "second", "min": "minute", "minute": "minute", "h": "hour",
    "hr": "hour", "hour": "hour",
    "d": "day", "day": "day", "wk": "week", "week": "week", "mo": "month", "mth": "month", "month": "month",
    "yr": "year", "y": "year", "year": "year", "quarter": "quarter",
    "night": "night", "person": "person", "head": "head", "unit": "unit", "dose": "dose", "user": "user",
    "item": "item", "piece": "piece", "share": "share", "ticket": "ticket", "bottle": "bottle", "page": "page",
    "ton": "ton", "barrel": "barrel", "pound": "pound", "student": "student", "word": "word",
    "seat": "seat", "game": "game", "shift": "shift",
    "lb": "pound", "oz": "ounce", "kg": "kilogram", "g": "gram", "mg": "milligram", "L": "liter", "l": "liter",
    "ml": "milliliter", "mL": "milliliter", "dl": "deciliter", "dL": "deciliter", "gal": "gallon",
    "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter", "mi": "mile", "mile": "mile",
    "kWh": "kilowatt hour", "ft": "foot", "acre": "acre", "ha": "hectare", "gallon": "gallon", "liter": "liter",
    "litre": "liter", "hundred": "hundred",
}  # fmt: skip
#: Any unit.
UNIT = any_of(_UNITS)
_RATE = rf"(?:/({any_of(_PER)})(\^[23])?(?![A-Za-z]))"

#: A noun behind a measure makes one word of both: "a $5 bill", "a 20 min walk", "40cm gap".
_NEVER_MEASURED = frozenset(
    "a about above after again ago all an and any apart are around as at away back because before behind below but "
    "by can could deep did do does down each either else every extra fewer for from further had has have high if in "
    "instead is it its just later left less long longer made maybe more most must near nor not now of off on once "
    "one only or out over per plus remain remained remains should since so still tall than that the their then "
    "there they thick this though through times to today together tomorrow tonight too total until up upon was we "
    "were what when where which while who wide will with within without worth would yesterday yet you".split()
)
_MEASURED = frozenset(
    "angle baby bag ball bar battery beam beer bet bill board bonus bottle box break bridge budget bulb cable can "
    "card check cheque clip coffee coin commute contract dash deal delay deposit dinner discount disk display "
    "donation donut drive drop fan fee file film fine flight gap gun hike hole home house investment jog journey "
    "jug laptop lawsuit layer lead lens lesson light limit loan lunch mansion meeting module monitor nap note "
    "pause phone pipe plank plate pole pool prize project race radius rain ride rope round ruler run salary "
    "scholarship screen session shift sprint steak stick stretch swim tank ticket timer tip tower trip tube turn "
    "tv video wait walk wall weight wind window wire workout zone".split()
)
_DETERMINER = re.compile(
    r"(?:^|[ (\"'-])(?:an?|another|each|every|that|the|this|my|your|his|her|its|our|their|per) $", re.IGNORECASE
)
_NEXT_WORD = Late(r"[ -]([a-z]+)(?:[ -]([a-z]+))?")


def _before_a_noun(match: re.Match[str]) -> bool:
    """Whether a measure says what kind of thing the noun behind it is, and stands in the singular."""
    following = _NEXT_WORD.compiled.match(match.string, match.end())
    if following is None:
        return False
    if match.string[match.end()] == "-" or following[1].removesuffix("s") in _MEASURED:
        return True
    if _DETERMINER.search(match.string[max(0, match.start() - 10) : match.start()]) is None:
        return False
    if following[1] in ("long", "wide", "high", "tall", "deep", "thick"):
        return following[2] is not None and following[2] not in _NEVER_MEASURED
    return following[1] not in _NEVER_MEASURED


_SIGN = f"[{''.join(SIGNS)}]"
_CURRENCY_CODE = any_of(_CODES)
#: With commas between thousands, or with a decimal comma.
_SUM = (
    r"(?:(?<![\d.,])\d{1,2}(?:,\d\d)+,\d{3}(?![\d,])|"  # Indian commas
    r"(?<![\d.,])\d{1,3}(?:\.\d{3}){0,3},\d\d(?!\d|[.,]\d)|"
    rf"{AMOUNT}|(?<!\d)\.\d\d(?!\d))"
)

MONEY = Rules(_SIGN, "[A-Z]{3}", "Rs", r"\ds")


def _decimal_point(written: str, *, euros: bool = False) -> str:
    """``1.234,50`` -> ``1234.50``."""
    if euros and re.fullmatch(r"\d{1,3}(?:\.\d{3})+", written):
        return written.replace(".", "")
    return written.replace(".", "").replace(",", ".") if re.search(r",\d\d$", written) else written


def _money(written: str, scale: str | None, names: tuple[str, ...], *, single: bool = False) -> str:
    """``5.50`` -> ``five dollars and fifty cents``."""
    written = _decimal_point(written, euros=names[0] == "euro")
    one, many, one_part, many_parts = (*names, "", "")[:4]
    if scale:
        word = scale.strip()
        return f"{figure(written)} {_SCALES.get(word.lower(), word)} {one if single else many}"
    whole, _, decimals = written.replace(",", "").partition(".")
    if len(decimals) != 2 or not many_parts:
        return f"{figure(written)} {one if single or written == '1' else many}"
    main, parts = int(whole or 0), int(decimals)
    words = [f"{cardinal(main)} {one if main == 1 or (single and not parts) else many}"] if main or not parts else []
    words += [f"{cardinal(parts)} {one_part if parts == 1 else many_parts}"] if parts else []
    return " and ".join(words)


MONEY.words("rupees", r"\bRs\.? ?(?=\d)", "₹", has=("Rs",))


@MONEY.rule(r"(?:£ ?(\d{1,7}),? ?)?(?<![\d.,])(\d{1,2})s\.?(?:,? (\d{1,2})d\b\.?)?", has=("s. ", "£"))
def old_money(match: re.Match[str], reading: Reading) -> str | None:
    """``£3 4s. 6d.`` -> ``three pounds four shillings six pence``."""
    pounds, shillings, pence = match.groups()
    if not pounds and not pence:
        return None
    words = [f"{cardinal(int(pounds))} {'pound' if pounds == '1' else 'pounds'}"] if pounds else []
    words.append(f"{cardinal(int(shillings))} {'shilling' if shillings == '1' else 'shillings'}")
    return " ".join(words + ([f"{cardinal(int(pence))} {'penny' if pence == '1' else 'pence'}"] if pence else []))


@MONEY.rule(rf"({_SIGN}) ?({AMOUNT})(?:-| to )({AMOUNT})(?! ?{_SIGN}){_SCALE}", has=tuple(SIGNS))
def range_of_money(match: re.Match[str], reading: Reading) -> str:
    """``$5-10`` -> ``five to ten dollars``."""
    sign, low, high, scale = match.groups()
    return f"{figure(low)} to {_money(high, scale, SIGNS[sign], single=_before_a_noun(match))}"


@MONEY.rule(
    rf"(?<![A-Za-z])({any_of(_DOLLARS_OF)})?({_SIGN}) ?({_SUM}){_SCALE}(?:/({any_of(_PER)})\b)?", has=tuple(SIGNS)
)
def money(match: re.Match[str], reading: Reading) -> str:
    land, sign, written, scale, per = match.groups()
    one, many, *parts = SIGNS[sign]
    if land and _DOLLARS_OF[land]:
        one, many = f"{_DOLLARS_OF[land]} {one}", f"{_DOLLARS_OF[land]} {many}"
    spoken = _money(written, scale, (one, many, *parts), single=_before_a_noun(match))
    return f"{spoken} per {_PER[per]}" if per else spoken


@MONEY.rule(rf"({_SUM}){_SCALE} ?(?:({_SIGN})(?!\d)|\b({_CURRENCY_CODE})\b|(?<=\d)({_CURRENCY_CODE})\b)")
def money_with_the_sign_behind(match: re.Match[str], reading: Reading) -> str:
    written, scale, sign, *codes = match.groups()
    names: tuple[str, ...] = SIGNS[sign] if sign else _CODES[next(code for code in codes if code)]
    return _money(written, scale, names, single=_before_a_noun(match))


@MONEY.rule(rf"\b({_CURRENCY_CODE}) ?({_SUM}){_SCALE}")
def money_with_the_code_before(match: re.Match[str], reading: Reading) -> str:
    code, written, scale = match.groups()
    return _money(written, scale, _CODES[code], single=_before_a_noun(match))


def units_named(unit: str) -> str:
    """``µm`` -> ``micrometers``."""
    return _UNITS[unit][1]


MEASURES = Rules(r"[\d/^]")

#: Units that are also words, names or letters of something else: only touching the figure, or with their stop.
_TOUCHING = frozenset(("A", "J", "s", "b"))
_LENGTHS = ("mm", "cm", "m", "km", "in", "ft", "yd", "mi")
_AT_THE_END = re.compile(r"$|[.,;)]")
_QUOTES = re.compile(r'(?<!\d)"')
_INCHES = re.compile(r"\.?$|[,;)]|\.(?= ?[a-z(,;:])| (?=(?:long|wide|tall|high|thick|deep|by|x|screen|display)\b)")


@MEASURES.rule(r"(?<![\d.])(\d{1,3})° ?(\d{1,2})'(?: ?(\d{1,2}(?:\.\d{1,3})?)(?:\"|''))?(?: ?([NSEW])\b)?", has="°")
def degrees_and_minutes(match: re.Match[str], reading: Reading) -> str:
    """``40°42'46"N`` -> ``forty degrees forty two minutes forty six seconds north``."""
    names = (("degree", match[1]), ("minute", match[2]), ("second", match[3]))
    spoken = " ".join(f"{figure(number)} {name}{'s' * (number != '1')}" for name, number in names if number)
    return f"{spoken} {_UNITS[f'°{match[4]}'][0].removeprefix('degree ')}" if match[4] else spoken


MEASURES.words("degrees_without_a_sign", r"(?<![\w.])(\d{2,3})(?=[FC](?![\w-]))", r"\1°")


@MEASURES.rule(r"(?<![\d'])(\d{1,2})'(?: ?(\d{1,2})(?:\"|'')|(1[01]|\d)\b)(?![\d'A-Za-z])", has="'")
def feet_and_inches(match: re.Match[str], reading: Reading) -> str:
    """``6'2"`` -> ``six foot two``."""
    return f"{cardinal(int(match[1]))} foot {cardinal(int(match[2] or match[3]))}"


@MEASURES.rule(
    r"(?<![\d.,])(\d{1,2}) ?(?:ft\.?|feet|foot),? ?(\d{1,2}) ?in(?:\.(?= [a-z])|\b)(?! [a-z])",
    has=("ft", "feet", "foot"),
)
def feet_and_inches_in_letters(match: re.Match[str], reading: Reading) -> str:
    feet, inches = int(match[1]), int(match[2])
    return (
        f"{cardinal(feet)} {'foot' if feet == 1 else 'feet'} {cardinal(inches)} {'inch' if inches == 1 else 'inches'}"
    )


@MEASURES.rule(r"(?<![\w./,])(\d{1,3}(?:\.\d{1,2})?)\"(?!\w)", has='"')
def inches(match: re.Match[str], reading: Reading) -> str | None:
    """``a 55" screen`` -> ``fifty five inch``, unless the mark closes a quotation."""
    if len(_QUOTES.findall(before(match, 200))) % 2:
        return None
    noun = re.match(" ([A-Za-z]+)", behind(match))
    single = match[1] == "1" or (noun is not None and noun[1].lower() not in _NEVER_MEASURED)
    return f"{figure(match[1])} {'inch' if single else 'inches'}"


@MEASURES.rule(
    rf"(?<![\d/.,])(?:(\d{{1,4}})[ -])?(\d{{1,2}})/(\d{{1,3}})( ?-?)({UNIT})(?![A-Za-z^\d/])(\.(?= ?[a-z0-9(,;:]))?",
    has="/",
)
def fraction_of_a_unit(match: re.Match[str], reading: Reading) -> str | None:
    """``2 1/2 mi`` -> ``two and a half miles``, ``3/4 in`` -> ``three quarters of an inch``."""
    whole, above, below = int(match[1] or 0), int(match[2]), int(match[3])
    unit, stop = match[5], match[6]
    if not 0 < above < below <= 100 or (unit in _TOUCHING and match[4] == " "):
        return None
    if unit == "in" and not (stop or match[4] == "-" or _INCHES.match(match.string, match.end())):
        return None
    one, many = _UNITS[unit]
    spoken = mixed(whole, above, below)
    if whole:
        return f"{spoken} {one if match[4] == '-' or _before_a_noun(match) else many}"
    of = "" if above == 1 or match[4] == "-" or one == many else " of an" if one[0] in "aeio" else " of a"
    return f"{spoken}{of} {one}"


@MEASURES.rule(
    rf"(?<!\^)(?<!\^-)({AMOUNT})( ?-?)({UNIT})(\^?[23](?!\d))?{_RATE}?(?![A-Za-z^\d])(\.(?= ?[a-z0-9(,;:]))?"
)
def measure(match: re.Match[str], reading: Reading) -> str | None:
    """``5 µg`` -> ``five micrograms``."""
    written, gap, unit, power, per, per_power, stop = match.groups()
    if (unit in _TOUCHING and gap and not _AT_THE_END.match(match.string, match.end())) or gap == " -":
        return None
    if unit == "s" and re.fullmatch(r"\d{3}", written):
        return plural(by_hundreds(int(written)))  # "747s"
    if unit == "in" and not (stop or _INCHES.match(match.string, match.end()) or _before_a_noun(match)):
        return None
    one, many = _UNITS[unit]
    if power:
        if power[0] != "^" and unit not in _LENGTHS:
            return None
        kind = "square" if power[-1] == "2" else "cubic"
        one, many = f"{kind} {one}", f"{kind} {many}"
    spoken = f"{figure(written)} {one if written == '1' or gap == '-' or _before_a_noun(match) else many}"
    if per:
        spoken += f" per {_PER[per]}" + {None: "", "^2": " squared", "^3": " cubed"}[per_power]
    return spoken + (stop if stop and unit.split()[-1] not in _STOPPED else "")


@MEASURES.rule(rf"(per )?(?<![\w^])\b({'|'.join(_LENGTHS)})\^([23])(?!\d)", has="^")
def square_without_a_figure(match: re.Match[str], reading: Reading) -> str | None:
    per, unit, power = match.groups()
    return f"{per or ''}{'square' if power == '2' else 'cubic'} {_UNITS[unit][0 if per else 1]}"


@MEASURES.rule(rf"(?<![\w/])({UNIT})/({any_of(_PER)})(?![A-Za-z/])", has="/")
def rate_without_a_figure(match: re.Match[str], reading: Reading) -> str:
    return f"{_UNITS[match[1]][1]} per {_PER[match[2]]}"


@MEASURES.rule(rf"((?<=[a-z]s)|(?<=\d)|[$£€])/({any_of(word for word in _PER if len(word) > 2)})(?![A-Za-z/])", has="/")
def per(match: re.Match[str], reading: Reading) -> str:
    """``5 litres/day`` -> ``five litres per day``."""
    return f"{SIGNS[match[1]][1] if match[1] else ''} per {_PER[match[2]]}"


@MEASURES.rule(r"(?<![\d.])(\d{1,6}|[A-Za-z]|[A-Za-z]{2,})\^(-?)(\d{1,3}|[a-z]\b)", has="^")
def power(match: re.Match[str], reading: Reading) -> str | None:
    """``10^6`` -> ``ten to the sixth``."""
    base, minus, exponent = match.groups()
    if len(base) > 3 and base.isalpha() and not minus:
        reading.warn(f"the raised {exponent} behind {base!r} is taken for a footnote and left out")
        return base
    named = {"2": "squared", "3": "cubed"}.get(exponent) if not minus else None
    place = ordinal(int(exponent)) if exponent.isdigit() else f"power of {exponent}"
    raised = named or f"to the {'minus ' if minus else ''}{place}"
    return f"{figure(base) if base.isdigit() else base} {raised}"


@MEASURES.rule(r"(?<=[a-z]{2})/(s|sec|min|hr)\b(?!/)", has="/")
def per_second(match: re.Match[str], reading: Reading) -> str:
    """``10 req/s`` -> ``per second``."""
    return f" per {_PER[match[1]]}"
