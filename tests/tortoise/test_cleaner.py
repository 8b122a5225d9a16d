"""Published TorToise's cleaner with its faults mended, and what it does with bad input."""

from __future__ import annotations

import random
import time

import pytest

from chelys.tortoise.cleaner import basic, clean


@pytest.mark.parametrize(
    ("text", "repaired", "original"),
    [
        ("It is £5.", "it is five pounds.", "it is psfive."),
        ("£1 and £0.50", "one pound and fifty pence", "psone and pszero point fifty"),
        ("€20.50, ¥300", "twenty euros, fifty cents, three hundred yen", "eurtwenty point fifty, y=three hundred"),
        ("20 € or 5£", "twenty euros or five pounds", "twenty eur or fiveps"),
        ("₹5, 50¢", "five rupees, fifty cents", "rsfive, fiftyc/"),
        ("￡3", "three pounds", "psthree"),
        ("£3 million, £20k", "three million pounds, twenty thousand pounds", "psthree million, pstwentyk"),
        ("$1.5 million", "one point five million dollars", "one dollar, five cents million"),
        ("US$5", "us five dollars", "usfive dollars"),
        ("$1.5", "one dollar, fifty cents", "one dollar, five cents"),
        ("£1.2.3", "one point two point three pounds", "psone point two.three"),
        ("a € sign", "a euros sign", "a eur sign"),
    ],
)
def test_b2_signs_of_money_have_names(text: str, repaired: str, original: str) -> None:
    assert clean(text) == repaired
    assert clean(text, reference=True) == original


@pytest.mark.parametrize(
    ("text", "repaired", "original"),
    [
        ("Mr.Brown", "mister brown", "misterbrown"),
        ("Dr.Lee saw Mrs.Ray", "doctor lee saw misess ray", "doctorlee saw misessray"),
        ("amazon.co.uk", "amazon.co.uk", "amazon.companyuk"),
    ],
)
def test_b2_an_abbreviation_never_sticks_to_a_name(text: str, repaired: str, original: str) -> None:
    assert clean(text) == repaired
    assert clean(text, reference=True) == original


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ("I work at Acme Co.", "i work at acme company."),
        ('"I work at Acme Co."', "i work at acme company."),
        ("I work at Acme Co. They pay.", "i work at acme company. they pay."),
        ('I left Acme Co. "Why?"', "i left acme company. why?"),
        ("Acme Co. pays well.", "acme company pays well."),
        ("Acme Co. Ltd. pays.", "acme company limited pays."),
        ("Lee, Jr., paid.", "lee, junior, paid."),
        ("I saw the Dr.", "i saw the doctor."),
        ("I saw Dr. No and Drs. Hall and Who.", "i saw doctor no and doctors hall and who."),
        ("He is 6 ft. tall. I am 5 ft.", "he is six feet tall. i am five feet."),
    ],
)
def test_b2_a_sentence_keeps_its_stop(text: str, repaired: str) -> None:
    assert clean(text) == repaired


@pytest.mark.parametrize(
    ("text", "repaired", "original"),
    [
        ("St. John's", "saint john's", "saint john's"),
        ("In St. Louis", "in saint louis", "in saint louis"),
        ("to St.Ives", "to saint ives", "to saintives"),
        ("MR. LEE OF ST. IVES", "mister lee of saint ives", "mister lee of saint ives"),
        ("10 Downing St. is here", "ten downing street is here", "ten downing saint is here"),
        ("on Main St.", "on main street.", "on main saint"),
        ("on Main St. He left.", "on main street. he left.", "on main saint he left."),
        ("on 5th St. now", "on fifth street now", "on fifth saint now"),
    ],
)
def test_b2_saints_and_streets_are_told_apart(text: str, repaired: str, original: str) -> None:
    assert clean(text) == repaired
    assert clean(text, reference=True) == original


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ("0.05", "zero point zero five"),
        ("3.14159", "three point one four one five nine"),
        ("3.14", "three point fourteen"),
        ("about .5", "about point five"),
        ("1.2.3", "one point two point three"),
        ("$1,234.56", "one thousand, two hundred thirty-four dollars, fifty-six cents"),
        ("in 1,234 or 1999", "in twelve thirty-four or nineteen ninety-nine"),
        ("5% & #1 @ 20°", "five percent and number one at twenty degrees"),
        ("«Oui», he „said“", "oui, he said"),
        ("  hi \n there 😀 ", "hi there"),
        ("[sadly,] go", "[sadly,] go"),
    ],
)
def test_values_and_signs_survive(text: str, repaired: str) -> None:
    assert clean(text) == repaired


def test_what_the_original_reads_right_is_read_the_same() -> None:
    for text in ("Mr. Lee owes $5.50, or $1.01.", "In 1984 the 3rd of 12345.", "Ünïcödé 你好 — “so”…", "$.99 $0 $1.00"):
        assert clean(text) == clean(text, reference=True)


@pytest.mark.parametrize("reference", [False, True])
def test_bad_input_neither_fails_nor_leaves_anything_but_lower_case_ascii(reference: bool) -> None:
    rng = random.Random(5)
    characters = [*map(chr, range(0x180)), *"$£€..,,00112359 StMrCo.\n", *map(chr, range(0xD7F0, 0xD810)), "\U0010ffff"]
    characters += [chr(rng.randrange(0x110000)) for _ in range(300)]
    for _ in range(1500):
        text = "".join(rng.choices(characters, k=rng.randrange(40)))
        cleaned = clean(text, reference=reference)
        assert cleaned.isascii() and cleaned == cleaned.lower() and '"' not in cleaned, ascii(text)
        assert not set(cleaned) & set("0123456789"), ascii(text)
        assert "  " not in cleaned
    assert clean("", reference=reference) == clean("\ud800\udfff", reference=reference) == ""


@pytest.mark.parametrize("reference", [False, True])
def test_numbers_without_a_name_are_read_digit_by_digit(reference: bool) -> None:
    assert clean("7" * 40, reference=reference) == " ".join(["seven"] * 40)
    assert clean("7" * 40 + "th", reference=reference) == " ".join(["seven"] * 40)
    assert clean("$" + "7" * 5000, reference=reference) == " ".join(["seven"] * 5000) + " dollars"


@pytest.mark.parametrize("reference", [False, True])
def test_cleaning_is_linear_in_the_text(reference: bool) -> None:
    for unit in ("a", "1", "1,", "1.", "$", "$1.", "St. ", "Mr.", " Co. A", "co.'", "€ ", "好", "1st", "\n", "#"):
        started = time.process_time()
        clean("x" + unit * (60_000 // len(unit)), reference=reference)
        assert time.process_time() - started < 3.0, unit


def test_basic_only_lowers_and_joins() -> None:
    assert basic(" Dr.\tÉtude \r\n £5 ") == " dr. étude £5 "
    assert basic("a\ud83d") == "a\ufffd"
