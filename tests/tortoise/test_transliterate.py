"""Unicode becomes the ASCII that published TorToise was trained on."""

from __future__ import annotations

import pytest

from chelys.tortoise.cleaner import transliterate

TABLE = [
    ("naïve café, Łódź, Ærø, Straße, Þór", "naive cafe, Lodz, AEro, Strasse, Thor"),
    ("‘a’ “b” ‚c‛ „d‟ ‹e› «f»", "'a' \"b\" ,c' ,,d\" <e> <<f>>"),
    ("– — ‐ ‑ … • ′ ″ ‰ −", "- -- - - ... * ' '' %0 -"),
    ("£ € ¥ ¢ ₹ ₩ ₽ ₿", "PS EUR Y= C/ Rs W R BTC"),
    ("1½ ¾ ⅓ ² № ™ © ® ° µ × ÷ ± ≤", "1 1/2  3/4  1/3  2 No.  (tm) (c) (r) deg u x / +- <="),
    ("Привет, Київ, Ελλάδα", "Privet, Kiyiv, Ellada"),
    ("你好 こんにちは シャツ 한국", "Ni Hao  konnichiha shiyatsu hangug"),
    ("ﬁne ①② ⒜ 𝐇𝒾 ℃ Ⅷ ｈｉ", "fine 12 (a) Hi degC VIII hi"),
    ("a\u0301😀\ue000\ud800\U0010ffffb", "ab"),
    ("a\u00a0b\u2003c\u200bd\u2028e", "a b c d\ne"),
]


@pytest.mark.parametrize(("text", "ascii_text"), TABLE)
def test_readings(text: str, ascii_text: str) -> None:
    assert transliterate(text).lower() == ascii_text.lower()


def test_kept_characters_stay() -> None:
    assert transliterate("£5 é €", keep="£€") == "£5 e €"


def test_ascii_stays_as_it_is() -> None:
    every = "".join(map(chr, range(128)))
    assert transliterate(every) == every


def test_every_character_becomes_ascii_without_placeholders() -> None:
    text = "".join(map(chr, range(0x11000)))
    written = transliterate(text)
    assert written.isascii() and "[?]" not in written
