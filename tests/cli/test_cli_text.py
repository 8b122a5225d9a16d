"""``chelys text`` and how ``chelys speak`` is told to read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def shown(invoke: Callable[..., Any], *arguments: str, input: bytes | None = None) -> Any:
    result = invoke("text", *arguments, "--json", input=input)
    assert result.exit_code == 0 and result.stderr == "", (result.output, result.exception)
    return json.loads(result.stdout)


def test_json_has_sentences_and_warnings_alone(invoke: Callable[..., Any]) -> None:
    document = shown(invoke, "The  canoe [pause:0.25] is up! Is it? 😀")
    assert document["warnings"] == ["dropped what cannot be spoken: 😀"]
    assert [set(sentence) for sentence in document["sentences"]] == [{"text", "spoken", "phonemes", "pause"}] * 3
    assert document["sentences"][0] == {
        "text": "The canoe", "spoken": "the canoe", "phonemes": "ðə kənˈu", "pause": 0.25,
    }  # fmt: skip
    assert [sentence["pause"] for sentence in document["sentences"]] == [0.25, 0.28, 0.0]


def test_for_people_there_are_three_lines_a_sentence_and_warnings_apart(invoke: Callable[..., Any]) -> None:
    result = invoke("text", "The canoe. Up 漢.")
    assert result.stdout.splitlines() == [
        "  1  The canoe.  (pause 0.28 s)", "     the canoe.", "     ðə kənˈu.",
        "  2  Up 漢.", "     up.", "     ˌʌp.",
    ]  # fmt: skip
    assert result.stderr == "chelys: warning: dropped what cannot be spoken: 漢\n"


@pytest.mark.parametrize(
    ("name", "content", "spoken"),
    [
        ("a.txt", "It is **up**.", "it is up."),
        ("a.md", "1) up\n2) up", "one. up"),
        ("a.html", "Up &lt;", "up"),
        ("a.ssml", "<speak><s>Up</s></speak>", "up"),
    ],
)
def test_a_file_is_read_by_its_suffix(invoke: Callable[..., Any], name: str, content: str, spoken: str) -> None:
    Path(name).write_text("\ufeff" + content, encoding="utf8")
    assert shown(invoke, name)["sentences"][0]["spoken"].startswith(spoken)


def test_standard_input_and_formats(invoke: Callable[..., Any]) -> None:
    assert shown(invoke, "-", input=b"\xef\xbb\xbfUp.\n")["sentences"][0]["text"] == "Up."
    ssml = "<speak>Up <break time='2s'/> up</speak>"
    assert shown(invoke, ssml, "--ssml") == shown(invoke, ssml) == shown(invoke, ssml, "--format", "ssml")
    assert shown(invoke, "**Up**", "--format", "text")["sentences"][0]["text"] == "**Up**"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Up", "--format", "rtf"], "unknown format 'rtf': choose from auto, text, markdown, html, ssml"),
        (["Up", "--locale", "fr-FR"], "unknown locale 'fr-FR': choose from en-US, en-GB"),
        (["Up", "--ssml", "--format", "html"], "contradict"),
        (["Up", "--ssml"], "not well formed"),
        (["<speak>Up"], "not well formed"),
        (["...", "--json"], "nothing in the text"),
        ([""], "empty"),
        (["."], "nothing in the text"),
    ],
)
def test_mistakes(refused: Callable[..., str], arguments: list[str], said: str) -> None:
    assert said in refused("text", *arguments)
    if "--json" not in arguments:
        assert said in refused("speak", *arguments)


def test_bytes_that_are_no_text(refused: Callable[..., str]) -> None:
    Path("a.txt").write_bytes(b"Up \xff")
    assert "a.txt is not valid UTF-8 (byte 3)" in refused("text", "a.txt")
    assert "not valid UTF-8 (byte 0)" in refused("text", "-", input=b"\xff")
    assert "not valid UTF-8" in refused("text", "a\udcff")


def test_speak_reads_as_it_is_told(invoke: Callable[..., Any], synthesizer: Any) -> None:
    invoke("speak", "<speak>Up.</speak>", "-q", "--force", "--ssml", "--locale", "en-GB", "--speed", "1.25")
    asked = {"format": "ssml", "locale": "en-GB", "lexicon": None, "voice": None}
    assert synthesizer.read == {"options": synthesizer.options(speed=1.25), **asked}
    invoke("speak", "Up.", "-q", "--force", "--set", "speed=0.8")
    assert synthesizer.calls[-1]["options"].speed == synthesizer.read["options"].speed == 0.8


@pytest.mark.parametrize("speed", [["--speed", "0.4"], ["--speed", "nan"], ["--set", "speed=3"]])
def test_the_pace_has_bounds(refused: Callable[..., str], speed: list[str]) -> None:
    assert "speed is" in refused("speak", "Up.", *speed) and "0.5 and 2" in refused("speak", "Up.", *speed)


def test_the_pace_is_told_once(refused: Callable[..., str]) -> None:
    assert "say the same" in refused("speak", "Up.", "--speed", "1.2", "--set", "speed=1.3")


def test_words_of_the_users_own(invoke: Callable[..., Any], refused: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "names.tsv"
    file.write_text("Kevin\tKAY-vin\nKevin\t/kɛv/\n", encoding="utf8")
    found = json.loads(invoke("text", "Kevin zorbified.", "--json", "--lexicon", str(file)).stdout)
    assert found["sentences"][0]["phonemes"].split()[0] == "kɛv"
    told, sounded = found["warnings"]
    assert "says twice" in told and "zorbified" in sounded
    file.write_text("Kevin\t/kʢ/\n", encoding="utf8")
    assert "no sound 'ʢ' in the model" in refused("text", "Kevin", "--lexicon", str(file))


def test_the_users_file_and_the_one_beside_a_voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from chelys.inference.dictionaries import find_dictionary
    from chelys.text.lexicon import NANO_LEXICON
    from chelys.text.tokenizer import Tokenizer

    nano = Tokenizer.load(NANO_LEXICON.parent)
    monkeypatch.setenv("CHELYS_LEXICON", str(tmp_path / "mine.tsv"))
    assert find_dictionary(nano) is None
    (tmp_path / "mine.tsv").write_text("kevin\tone\nlaura\tone\nryan\tone\n")
    (tmp_path / "me.tsv").write_text("kevin\ttwo\nlaura\ttwo\n")
    (tmp_path / "this.tsv").write_text("kevin\tthree\n")
    found = find_dictionary(nano, tmp_path / "this.tsv", voice=tmp_path / "me.safetensors")
    assert nano.analyse("Kevin, Laura, Ryan", dictionary=found).symbols == "θɹˈi, tˈu, wˈʌn"
