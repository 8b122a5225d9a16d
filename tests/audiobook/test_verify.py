"""Verdicts: what is found against a take, and what is done about it. The recognisers here are made of code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import pytest
import toy

from chelys.audio.recognition import Transcript
from chelys.audiobook.choices import read_choices
from chelys.audiobook.stages import SentenceRenderer, SentenceRequest, Take
from chelys.audiobook.store import StageStore
from chelys.audiobook.verify import (
    Verdict,
    Verifier,
    VerifySettings,
    error_rate,
    halves,
    longest_silence,
    verifier,
)
from chelys.errors import UserError
from chelys.inference.generation import CodeCandidate
from chelys.inference.options import SpeechOptions
from chelys.inference.rendering import SentencePlan
from chelys.inference.synthesizer import Synthesizer
from chelys.text.document import Sentence
from chelys.text.lexicon import Lexicon
from chelys.text.tokenizer import make_tokenizer

OPTIONS = SpeechOptions(candidates=3, batch=9, steps=3)
SAID = "Hello there, one two three."
LETTERS = {letter: f"ˈ{letter.lower()}z" for letter in ascii_uppercase}
WORDS = {
    "hello": "həlˈO", "there": "ðˈɛɹ", "their": "ðˈɛɹ", "one": "wˈʌn", "two": "tˈu", "too": "tˌu", "three": "θɹˈi",
    "tree": "tɹˈi",
}  # fmt: skip
LOOSE = VerifySettings(slowest=9.0, fastest=0.0, silence_s=9.0)


@dataclass
class Scripted:
    """Hears what a function says of the number of the take and its length."""

    hears: Callable[[int, float], str | Transcript]
    name: str = "scripted"
    heard: list[float] = field(default_factory=list)

    def transcribe(self, audio: np.ndarray, rate: int) -> str | Transcript:
        self.heard.append(len(audio) / rate)
        return self.hears(len(self.heard), self.heard[-1])


class Risky(Verifier):
    """Gives candidates made-up risks, in the order in which they are looked at; all come to their end."""

    risks: Iterator[float]

    def of_codes(self, plan: SentencePlan, candidate: CodeCandidate) -> Verdict:
        risk = next(self.risks)
        return Verdict(risk <= self.settings.max_risk, ("risky",) * (risk > self.settings.max_risk), risk)


@pytest.fixture
def request_of(tts: Synthesizer) -> SentenceRequest:
    return SentenceRequest(tts.read_text(SAID).sentences[0], options=OPTIONS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StageStore]:
    with StageStore(tmp_path / "store") as made:
        yield made


def take_of(tts: Synthesizer, verify: Verifier | None, request: SentenceRequest, store: StageStore | None) -> Take:
    [take] = SentenceRenderer(tts, store, verify=verify).takes([request])
    return take


def risky(tts: Synthesizer, *risks: float, **more: object) -> Risky:
    made = Risky(tts, LOOSE, **more)  # type: ignore[arg-type]
    made.risks = iter(risks)
    return made


def test_a_good_take_is_the_one_that_is_taken_without_verifying(
    tts: Synthesizer, request_of: SentenceRequest, store: StageStore
) -> None:
    plain = take_of(tts, None, request_of, store)
    checked = take_of(tts, risky(tts, 0.05), request_of, store)
    assert checked.key == plain.key and checked.computed == () and checked.tried == 3
    assert checked.verdict == Verdict(True, (), 0.05) and checked.passed


def test_more_candidates_are_sampled_until_one_is_good(
    tts: Synthesizer, request_of: SentenceRequest, store: StageStore
) -> None:
    checked = take_of(tts, risky(tts, 0.9, 0.8, 0.2, 0.15, 0.5, 0.05), request_of, store)
    assert checked.tried == 6 and checked.candidate in (3, 4, 5) and checked.verdict == Verdict(True, (), 0.05)
    again = take_of(tts, risky(tts), request_of, store)  # nothing is looked at again
    assert again.computed == () and again.verdict == checked.verdict and again.tried == 6
    np.testing.assert_array_equal(again.audio, checked.audio)
    assert again.spent_s == checked.spent_s
    # a candidate of a later batch is the one that a larger batch has, sampled as hot
    more = replace(request_of, options=replace(OPTIONS, candidates=6, temperature=2 * OPTIONS.temperature))
    codes = [take.codes for take in SentenceRenderer(tts, None).alternatives(more, 6)]
    assert checked.codes in codes


def test_the_least_risk_is_taken_where_none_is_good(tts: Synthesizer, request_of: SentenceRequest) -> None:
    risks = [0.3, 0.29, 0.28, *[0.29] * 4, 0.2, *[0.3] * 4]
    checked = take_of(tts, risky(tts, *risks), request_of, None)
    assert checked.verdict == Verdict(True, (), 0.2) and checked.tried == 12


def test_what_never_passes_is_spoken_in_two_parts(
    tts: Synthesizer, request_of: SentenceRequest, store: StageStore
) -> None:
    risks = [*[0.9] * 12, 0.05, 0.01]  # four batches of three, then both parts
    checked = take_of(tts, risky(tts, *risks), request_of, store)
    assert checked.passed and checked.verdict is not None and checked.verdict.split and checked.candidate == -1
    parts = halves(request_of.sentence)
    assert parts is not None and checked.tried == 12 + 6
    asked = [replace(request_of, sentence=part) for part in parts]
    first, second = SentenceRenderer(tts, None).takes(asked)
    pause = np.zeros(round(24_000 * parts[0].pause_s), np.float32)
    np.testing.assert_array_equal(checked.audio, np.concatenate((first.audio, pause, second.audio)))
    again = take_of(tts, risky(tts, 0.05, 0.01), request_of, store)
    np.testing.assert_array_equal(again.audio, checked.audio)
    assert again.computed == () and again.key == checked.key


def test_what_does_not_pass_in_parts_either_is_flagged(tts: Synthesizer, request_of: SentenceRequest) -> None:
    checked = take_of(tts, risky(tts, *[0.9] * 11, 0.8, *[0.9] * 24), request_of, None)
    assert checked.verdict == Verdict(False, ("risky",), 0.8) and not checked.passed and checked.tried == 36


def test_a_recogniser_is_asked_and_believed(tts: Synthesizer, request_of: SentenceRequest, store: StageStore) -> None:
    ear = Scripted(lambda count, _: "Hello there, 1 2 3" if count == 3 else "Yellow bear")
    verify = Verifier(tts, LOOSE, ear)
    verify.of_codes = lambda plan, candidate: Verdict(True)  # type: ignore[method-assign]
    checked = take_of(tts, verify, request_of, store)
    assert len(ear.heard) == 3 and checked.passed and checked.verdict is not None
    assert checked.verdict.transcript == "Hello there, 1 2 3"  # figures are read as words
    again = take_of(tts, Verifier(tts, LOOSE, ear), request_of, store)
    assert len(ear.heard) == 3 and again.verdict == checked.verdict  # it is kept what was heard


@pytest.mark.parametrize(("heard", "errors"), [
    ("hello, their one too 3", 0.0),
    ("Hello there, one two.", 3 / 15),
    ("Hello there, one two tree.", 1 / 15),
    ("...", 1.0),
])  # fmt: skip
def test_sounds_are_compared_and_not_spelling(
    tts: Synthesizer, request_of: SentenceRequest, heard: str, errors: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = SentenceRenderer(tts, None)._pending(request_of).plan
    tokenizer = make_tokenizer(Lexicon(WORDS | LETTERS))
    plan = replace(plan, sentence=replace(plan.sentence, phonemes=tokenizer.symbols(SAID)))
    monkeypatch.setattr(type(tts.family), "tokenizer", tokenizer)  # the toy's reads letters
    verify = Verifier(tts, LOOSE, Scripted(lambda *_: heard))
    verdict = verify.of_audio(plan, Verdict(True), toy.tone(150.0, 2.0))
    assert verdict.phoneme_errors == pytest.approx(errors, abs=1e-4) and verdict.passed == (errors == 0)


def test_of_wrong_takes_the_one_that_is_heard_best_is_taken(tts: Synthesizer, request_of: SentenceRequest) -> None:
    ear = Scripted(lambda count, _: "Hello there, one two" if count == 2 else "Yellow bear")
    verify = Verifier(tts, replace(LOOSE, rounds=0), ear)
    verify.of_codes = lambda plan, candidate: Verdict(True)  # type: ignore[method-assign]
    checked = take_of(tts, verify, request_of, None)
    assert checked.verdict is not None and not checked.passed and len(ear.heard) > 2
    assert checked.verdict.transcript == "Hello there, one two"


def test_while_a_recogniser_is_in_doubt_it_hears_further_takes(tts: Synthesizer, request_of: SentenceRequest) -> None:
    def take(*confidences: float) -> tuple[Take, Scripted]:
        ear = Scripted(lambda count, _: Transcript(SAID, confidences[count - 1]))
        verify = Verifier(tts, replace(LOOSE, rounds=0), ear)
        verify.of_codes = lambda plan, candidate: Verdict(True)  # type: ignore[method-assign]
        return take_of(tts, verify, request_of, None), ear

    sure, ear = take(-0.4, -0.3, -0.1)
    assert sure.verdict is not None and (sure.passed, sure.verdict.confidence, len(ear.heard)) == (True, -0.1, 3)
    surest, ear = take(-0.4, -0.2, -0.3)
    assert surest.verdict is not None and (surest.passed, surest.verdict.confidence) == (True, -0.2)


def test_verdicts_of_codes_and_waves(tts: Synthesizer, request_of: SentenceRequest) -> None:
    plan = SentenceRenderer(tts, None)._pending(request_of).plan
    verify = Verifier(tts)
    candidate = CodeCandidate(plan.prompt.text_ids.new_tensor([1, 2, 3]), stopped=False)
    found = verify.of_codes(plan, candidate)
    assert not found.passed and found.reasons == ("it did not come to its end",) and found.risk is None
    good, tone = Verdict(True), toy.tone(150.0, 2.0)
    assert verify.of_audio(plan, good, tone).passed

    def reasons(audio: np.ndarray) -> tuple[str, ...]:
        return verify.of_audio(plan, good, audio.astype(np.float32)).reasons

    assert reasons(tone[:6000]) == ("it is too fast",)
    assert reasons(np.tile(tone, 6)) == ("it is too slow",)
    assert reasons(np.zeros(48_000)) == ("it is silent",)
    assert reasons(np.concatenate((tone[:24_000], np.zeros(24_000), tone[:24_000]))) == ("it has a long silence",)
    assert reasons(np.clip(tone * 9, -1, 1)) == ("it is clipped",)
    assert Verdict.from_json(found.as_json()) == found


def test_silences_and_error_rates_are_measured() -> None:
    tone = toy.tone(150.0, 1.0)
    silent = np.zeros(12_000, np.float32)
    assert longest_silence(np.concatenate((silent, tone, silent, tone, silent))) == pytest.approx(0.5, abs=0.02)
    assert longest_silence(tone) == 0.0 == longest_silence(tone[:0])
    assert error_rate(["a", "b", "c", "d"], ["a", "c", "d", "d"]) == 0.5
    assert error_rate(["a"], []) == 1.0 and error_rate(["a"], ["a"]) == 0.0 == error_rate([], [])


def test_sentences_are_halved_at_marks() -> None:
    said = Sentence("One, two three four five.", 0.4, "one, two three four five.", "a, b c d e.", lead_s=0.1)
    first, second = halves(replace(said, spoken="one two, three four five.", phonemes="a b, c d e.")) or (said, said)
    assert (first.phonemes, second.phonemes) == ("a b,", "c d e.") and first.pause_s > 0
    assert (second.text, second.pause_s, second.lead_s) == ("three four five.", 0.4, 0.0)
    first, second = halves(said) or (said, said)  # one word alone is no part
    assert (first.spoken, second.spoken) == ("one, two", "three four five.")
    assert halves(Sentence("One two three.", 0.0, "one two three.", "a b c.")) is None


def test_names_of_verifiers(tts: Synthesizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verifier(None, tts) is None
    found = verifier("builtin", tts)
    assert found is not None and found.recogniser is None
    monkeypatch.setattr("chelys.audio.recognition.find_spec", lambda name: None)  # as if the extra were not installed
    with pytest.raises(UserError, match="verify"):
        verifier(str(tmp_path / "nothing"), tts)


def test_choices_are_followed(tts: Synthesizer, request_of: SentenceRequest, store: StageStore, tmp_path: Path) -> None:
    plain = take_of(tts, None, request_of, store)
    for number in (0, 1, 2, 4):  # the last one was not sampled yet
        renderer = SentenceRenderer(tts, store, choices={plain.sentence_key: number})
        [chosen] = renderer.takes([request_of])
        assert chosen.candidate == number and chosen.sentence_key == plain.sentence_key
        assert (chosen.key == plain.key) == (number == plain.candidate)
    path = tmp_path / "book.choices.json"
    path.write_text(f'{{"chelys_choices": 1, "choices": {{"{plain.sentence_key}": 2}}}}')
    assert read_choices(path) == {plain.sentence_key: 2}
    for wrong in ("", "[]", '{"choices": {}}', '{"chelys_choices": 2, "choices": {}}',
                  '{"chelys_choices": 1, "choices": {"a": 1}}',
                  f'{{"chelys_choices": 1, "choices": {{"{plain.sentence_key}": -1}}}}'):  # fmt: skip
        path.write_text(wrong)
        with pytest.raises(UserError, match="no file of choices"):
            read_choices(path)
