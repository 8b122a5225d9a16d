"""Whatever comes in: an answer or one line. Examples are drawn by hypothesis, the same ones each time."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chelys.audio import io as audio_io
from chelys.config import check_sizes, from_mapping
from chelys.data.manifest import Utterance, fault_of, read_manifest, write_manifest
from chelys.errors import ManifestError, TextError, UserError
from chelys.files import json_line
from chelys.inference.options import SpeechOptions
from chelys.inference.voice import Voice
from chelys.models.autoregressive import AutoregressiveConfig
from chelys.parsing import MAX_DEPTH, ParseError, parse_json, parse_yaml
from chelys.text.front_end import read_text
from chelys.text.normalize import normalize
from chelys.text.tokenizer import Tokenizer
from chelys.weights.catalog import find_model

quick = settings(
    max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip

ANY_TEXT = st.text(st.characters(), max_size=200)
MARKS = st.text("0123456789.,:;/'\"$%€£()[]{}<>&#*_-–~ abIVXkmst\n", max_size=80)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def nano() -> Tokenizer:
    return Tokenizer.load(find_model("nano"))


# ---- texts ----------------------------------------------------------------------------------------------------------


@quick
@given(ANY_TEXT | MARKS)
def test_a_text_is_read_or_refused(nano: Tokenizer, text: str) -> None:
    try:
        document = read_text(text, nano)
    except TextError as error:
        assert "\n" not in str(error)
        return
    for sentence in document.sentences:
        assert all(0 <= number < nano.vocabulary_size for number in nano.ids(sentence.phonemes))
        assert not set(sentence.spoken) & set("0123456789$%€£<>{}[]")
        assert 0 <= sentence.pause_s < math.inf and 0 <= sentence.lead_s < math.inf


@quick
@given(st.integers(0, 10**15))
def test_a_whole_number_is_said_in_words(number: int) -> None:
    words = normalize(f"I have {number:,} of them.").text
    assert not any(map(str.isdigit, words)) and normalize(f"I have {number:,} of them.").text == words


# ---- knobs ----------------------------------------------------------------------------------------------------------


@quick
@given(st.sampled_from(list(SpeechOptions.__dataclass_fields__)), VALUES)
def test_an_option_is_taken_or_refused(name: str, value: Any) -> None:
    try:
        options = SpeechOptions(**{name: value})
    except UserError as error:
        assert name in str(error) and "\n" not in str(error)
        return
    taken = getattr(options, name)
    assert not isinstance(taken, float) or math.isfinite(taken)


@quick
@given(st.sampled_from(list(AutoregressiveConfig.__dataclass_fields__)), VALUES)
def test_a_size_is_taken_or_refused(name: str, value: Any) -> None:
    try:
        check_sizes(from_mapping(AutoregressiveConfig, {name: value}), where="config.json")
    except UserError as error:
        assert "\n" not in str(error)


# ---- JSON, YAML, manifests ------------------------------------------------------------------------------------------


@quick
@given(VALUES)
def test_json_is_read_as_it_was_written_or_refused(value: Any) -> None:
    line = json_line(value)
    try:
        found = parse_json(line)
    except ParseError as error:
        assert "\n" not in str(error)
        assert not _is_plain(value)
        return
    assert found == value and _is_plain(value)


def _is_plain(value: Any) -> bool:
    """Whether numbers are finite and of 64 bits; what is drawn here is never nested beyond the limit."""
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or -(1 << 63) <= value < 1 << 64


@quick
@given(st.binary(max_size=200) | st.text("[]{}:,-&*!?|>'\"%@` \nab1.", max_size=60))
def test_yaml_and_json_are_parsed_or_refused(text: bytes | str) -> None:
    for parse in (parse_yaml, parse_json):
        try:
            parse(text)
        except ParseError as error:
            assert "\n" not in str(error)


def test_the_deepest_value_that_passes_can_be_written_again() -> None:
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert json.dumps(parse_json(deepest)) == deepest


@quick
@given(st.lists(st.builds(
    Utterance, st.text(), st.text(min_size=1), st.text(), st.text(), st.floats(0, 1e6), st.floats(0, 1e6),
), max_size=4))  # fmt: skip
def test_a_manifest_is_read_as_it_was_written(tmp_path: Path, utterances: list[Utterance]) -> None:
    write_manifest(tmp_path / "m.jsonl", utterances)
    assert list(read_manifest(tmp_path / "m.jsonl", root=tmp_path)) == utterances


@quick
@given(st.dictionaries(st.sampled_from(list(Utterance.__dataclass_fields__)), VALUES))
def test_a_line_of_a_manifest_is_taken_or_named(tmp_path: Path, entry: dict[str, Any]) -> None:
    (tmp_path / "m.jsonl").write_text(json_line(entry), "utf8")
    try:
        list(read_manifest(tmp_path / "m.jsonl"))
        assert fault_of(entry) is None
    except ManifestError as error:
        assert "m.jsonl:1: " in str(error) and "\n" not in str(error)


# ---- voices and sound -----------------------------------------------------------------------------------------------


@quick
@given(st.binary(max_size=300))
def test_a_voice_file_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "v.safetensors").write_bytes(data)
    with pytest.raises(UserError):
        Voice.load(tmp_path / "v.safetensors")


@quick
@given(st.lists(st.floats(-1, 1, width=32), max_size=50), st.sampled_from([8000, 24_000, 44_100]))
def test_sound_comes_back_from_a_wav(tmp_path: Path, samples: list[float], rate: int) -> None:
    wave = np.array(samples, np.float32)
    audio_io.write(tmp_path / "a.wav", wave, rate)
    if not samples:
        return
    np.testing.assert_allclose(audio_io.read(tmp_path / "a.wav", rate), wave, atol=2**-15)
