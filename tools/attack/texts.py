"""Texts as people, programs and enemies write them."""

from __future__ import annotations

import random
import string

_WORDS = """
the of and a to in is you that it he was for on are as with his they I at be this have from or one had by word but not
what all were we when your can said there use an each which she do how their if will up other about out many then them
these so some her would make like him into time has look two more write go see number no way could people my than first
water been call who oil its now find long down day did get come made may part Chapter Henry Dr. Mr. St. Nguyen iPhone
CO2 WHO NASA GB/s km/h naïve café Tchaikovsky read live wound 3-D e-mail www.example.com a@b.org
""".split()
_MARKS = list(".,;:!?-—–…()[]{}<>\"'“”‘’«»/\\|@#$%^&*_=+~`§¶•·°№†‡")
_UNITS = """
km kg GB/s MHz °C % $ € £ ¥ m² km/h lb oz ft in " ' am pm BC AD k M bn St Ave vol. pp. No. 's th st nd rd
""".split()
_MARKUP = [
    "<b>", "</b>", "<p>", "<br/>", "<!--", "-->", "<speak>", "</speak>", "<break time='1s'/>", "<script>", "&amp;",
    "&#x41;", "&#99999999;", "&lt", "**", "__", "```", "# ", "> ", "- ", "1. ", "[a](b)", "![x](y)", "| a | b |",
    "[pause 1s]", "[pause 1e9s]", "[slow]", "[/slow]", "{h ə l O}", "[[a]]", "<prosody rate='x'>", "<phoneme ph='ə'>a",
    "<?xml version='1.0'?>", "<!DOCTYPE a [<!ENTITY b 'c'>]>", "]]>", "<![CDATA[",
]  # fmt: skip
_ROMAN = "IVXLCDM"
_SIGNS = ("½", "⅔", "²", "³", "№", "٣", "５", "𝟛", "¼%", ":", "/", "^", "×", "=", "<", "~")
_BLOCKS = (0x4E00, 0x600, 0x900, 0x1F300, 0x2190, 0x300, 0x200B, 0xFB00, 0xE000)
_CONTROLS = ("\0", "\x1b[31m", "\r", "\x0b", "\x85", "\u2028", "\ufeff", "\ud800", "\u202e", "\ufffd", "\t")
_BETWEEN = (" ", " ", " ", " ", "", ". ", ", ", "\n", "\n\n", "? ", "! ", "; ", " - ")


def _number(rng: random.Random) -> str:
    digits = str(rng.choice((rng.randrange(100), rng.randrange(3000), rng.randrange(10**9), rng.randrange(10**40))))
    kind = rng.randrange(16)
    return (
        digits,
        f"{int(digits):,}",
        f"{digits}.{rng.randrange(1000)}",
        f"-{digits}",
        f"${digits}.{rng.randrange(100):02d}",
        f"€{digits},{rng.randrange(100):02d}",
        f"{digits}%",
        f"{rng.randrange(40)}/{rng.randrange(40)}/{rng.randrange(3000)}",
        f"{rng.randrange(3000)}-{rng.randrange(99):02d}-{rng.randrange(99):02d}",
        f"{rng.randrange(30)}:{rng.randrange(99):02d}" + rng.choice(("", "am", " PM", ":59")),
        f"'{rng.randrange(100):02d}s",
        f"{rng.randrange(30)}{rng.choice(('0s', '00s', 'th', 'st', 'nd', 'rd', 'x', 'e9', 'e-9'))}",
        f"{rng.randrange(9)}'{rng.randrange(12)}\"",
        "".join(rng.choice(_ROMAN) for _ in range(rng.randrange(1, 9))),
        f"{digits} {rng.choice(_UNITS)}",
        f"{rng.randrange(99)}{rng.choice(_SIGNS)}{rng.randrange(99)}",
    )[kind]


def _strange(rng: random.Random) -> str:
    kind = rng.randrange(6)
    if kind == 0:
        return "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randrange(1, 20)))
    if kind == 1:
        return chr(
            rng.choice((0x4E00, 0x600, 0x900, 0x1F300, 0x2190, 0x300, 0x200B, 0xFB00, 0xE000)) + rng.randrange(250)
        ) * (rng.randrange(1, 9))
    if kind == 2:
        return rng.choice(
            ("\0", "\x1b[31m", "\r", "\x0b", "\x85", "\u2028", "\ufeff", "\ud800", "\u202e", "\ufffd", "\t")
        )
    if kind == 3:
        return rng.choice(_MARKS) * rng.randrange(1, 60)
    if kind == 4:
        return "".join(rng.choice(string.ascii_letters + "'-") for _ in range(rng.choice((3, 12, 60, 300))))
    return rng.choice("≠½…ﬃ㍿℡™©ßŁøÆЖαאب字") * rng.randrange(1, 120)


def text(rng: random.Random) -> str:
    """A text; one of a hundred is long."""
    parts = []
    length = rng.choice((1, 3, 8, 20, 40)) if rng.random() < 0.99 else rng.randrange(200, 3000)
    markup, numbers, strange = rng.random() < 0.3, rng.random(), rng.random() ** 2
    for _ in range(length):
        choice = rng.random()
        if choice < 0.35 * numbers:
            parts.append(_number(rng))
        elif choice < 0.35 * numbers + 0.35 * strange:
            parts.append(_strange(rng))
        elif markup and choice > 0.75:
            parts.append(rng.choice(_MARKUP))
        else:
            parts.append(rng.choice(_WORDS))
        parts.append(
            rng.choice((" ", " ", " ", " ", "", ". ", ", ", "\n", "\n\n", "? ", "! ", "; ", " - ", rng.choice(_MARKS)))
        )
    return "".join(parts)
