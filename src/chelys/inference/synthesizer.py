"""Text in, speech out: the pipeline in one screen.

    text -> sentences -> ids -> N takes of codes -> ranked by CLVP -> latents of the best -> mel -> wave

``stream`` gives sentence by sentence (HiFi-GAN: piece by piece), ``speak`` collects it. A sentence's random numbers
come from the seed, its place in the text and the number of the take alone, so it sounds the same however it was asked
for.
"""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import UserError
from chelys.inference.family import LatentDecoder, Redaction, family_of
from chelys.inference.options import SpeechOptions, options_for
from chelys.inference.pipeline import Pipeline
from chelys.inference.speech import Candidate, Chunk, Speech
from chelys.inference.voice import KEPT_SECONDS, Voice
from chelys.inference.voices import Voices
from chelys.text.split import Sentence
from chelys.text.tokenizer import Encoding
from chelys.weights.folder import Model, load_model

#: Called with the name of the step of the pipeline, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


class Synthesizer:
    """A loaded model with its voices. Holds no random state and changes none.

    Args:
        model: Loaded.
        compat: A way of speaking that the model's family knows; ``reference`` is TorToise as it was, faults included.
        aligner: What finds [bracketed] words in the audio; None gets the published one when it is first needed.
    """

    def __init__(self, model: Model, *, compat: str = "repaired", aligner: Any = None) -> None:
        self.model = model
        self.family = family_of(model, compat)
        self.pipeline = Pipeline(self.family)
        self._voices = Voices(self.family)
        self._aligner = aligner
        self._redaction: Redaction | None = None

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        compat: str = "repaired",
        aligner: Any = None,
    ) -> Synthesizer:
        """Load a model folder.

        Raises:
            ModelError: If it is incomplete or damaged.
        """
        return cls(load_model(folder, device=device, dtype=dtype), compat=compat, aligner=aligner)

    def options(self, preset: str = "fast", **changes: object) -> SpeechOptions:
        """A preset of this model with some knobs turned; knobs given as None stay.

        Raises:
            UserError: If the preset is unknown, or a value is out of range.
        """
        return options_for(preset, self.family.presets, **changes)

    # ---- voices -------------------------------------------------------------------------------------------------

    @property
    def voices(self) -> dict[str, Voice]:
        """The model's built-in voices by name."""
        return self._voices.built_in

    @property
    def voice_names(self) -> list[str]:
        """Names of the built-in voices, the default one first."""
        return self._voices.names

    def voice(
        self,
        clips: Sequence[str | Path] | str | Path,
        *,
        name: str = "",
        kept_seconds: float = KEPT_SECONDS,
        borrowed: float | None = None,
    ) -> Voice:
        """Make a voice from recordings of one speaker, in any format and rate.

        Args:
            clips: Audio files, or folders of them; a few clean seconds each.
            name: For the voice file.
            kept_seconds: How much of the clips the voice shall carry, so that other models can use it too; 0 is none.
            borrowed: Share of the model's default voice in how the voice reads (``Voice.borrow``): more is clearer,
                less keeps more of the speaker's own pace and melody. None leaves it to the model; TorToise v2 borrows
                none.

        Raises:
            AudioError: If a clip is missing, no audio, too short or silent; it is named.
            VoiceError: If there are no clips, or the share is not 0 to 1.
        """
        return self._voices.from_clips(clips, name=name, kept_seconds=kept_seconds, borrowed=borrowed)

    def resolve_voice(self, voice: Voice | str | Path | None = None, *, seed: int | None = None) -> Voice:
        """A voice of this model from whatever names one.

        Args:
            voice: A Voice; the name of a built-in voice or of one of the user's; a voice file, also one of the
                original's with two vectors; an audio file or a folder of them; a mix such as
                ``heart:0.7+rowan:0.3``; ``random`` or ``random:SEED``; None is the default voice.
            seed: Which voice ``random`` is; None draws one. TorToise v2, which has no voices of its own, also speaks
                in that one by default.

        Raises:
            VoiceError: If nothing goes by that name; the answer lists the known ones.
            AudioError: If its clips cannot be used.
        """
        return self._voices.resolve(voice, seed=seed)

    # ---- speech -------------------------------------------------------------------------------------------------

    def speak(
        self,
        text: str,
        *,
        voice: Voice | str | Path | None = None,
        preset: str = "fast",
        seed: int | None = None,
        candidates: int | None = None,
        keep: int = 1,
        options: SpeechOptions | None = None,
        progress: Progress | None = None,
    ) -> Speech:
        """Speak a text of any length.

        Args:
            text: English.
            voice: See ``resolve_voice``.
            preset: ``ultra_fast``, ``fast``, ``standard`` or ``high_quality``; TorToise v2 also has ``paper`` and
                ``streaming``.
            seed: Of everything random, 0 or more; None draws one, which the receipt names.
            candidates: Takes sampled for each sentence; None leaves it to the preset.
            keep: How many of them to render, best first.
            options: All knobs at once, in place of preset and candidates.
            progress: Called as the work goes on.

        Raises:
            TextError: If nothing of the text can be spoken.
            VoiceError: If the voice is unknown.
            UserError: If an option is out of range.
        """
        started = time.perf_counter()
        named = preset if options is None else None
        options, seed = self._checked(text, preset, candidates, options, keep, seed)
        resolved = self._voice_for(options, voice, seed)
        chunks = list(self._chunks(text, resolved, seed, keep, options, progress))
        takes = [
            Candidate(
                audio=np.concatenate([chunk.candidates[i].audio for chunk in chunks]),
                score=float(np.mean([chunk.candidates[i].score for chunk in chunks])),
                codes=[codes for chunk in chunks for codes in chunk.candidates[i].codes],
            )
            for i in range(keep)
        ]
        elapsed, seconds = time.perf_counter() - started, len(takes[0].audio) / OUTPUT_RATE
        receipt = {
            "text": text,
            "voice": resolved.name,
            "model": self.model.config.name,
            "seed": seed,
            "preset": named,
            "options": {k: getattr(options, k) for k in options.__dataclass_fields__},
            "sample_rate": OUTPUT_RATE,
            "seconds": round(seconds, 3),
            "synthesis_seconds": round(elapsed, 3),
            "real_time_factor": round(elapsed / seconds, 3),
            "sentences": [{"text": chunk.text, "scores": chunk.scores} for chunk in chunks if chunk.text],
            "scores": [None if math.isnan(take.score) else take.score for take in takes],
        }
        warnings = list(dict.fromkeys(w for chunk in chunks for w in chunk.warnings))
        return Speech(takes[0].audio, OUTPUT_RATE, takes, receipt, warnings)

    def stream(
        self,
        text: str,
        *,
        voice: Voice | str | Path | None = None,
        preset: str = "fast",
        seed: int | None = None,
        candidates: int | None = None,
        keep: int = 1,
        options: SpeechOptions | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Chunk]:
        """The same, sentence by sentence as each is ready; HiFi-GAN's single take comes in pieces of two seconds.

        Arguments and errors as for ``speak``; what is wrong with them is found out at once, not with the first chunk.
        """
        knobs, seed = self._checked(text, preset, candidates, options, keep, seed)
        resolved = self._voice_for(knobs, voice, seed)
        return self._chunks(text, resolved, seed, keep, knobs, progress)

    def _checked(
        self, text: str, preset: str, candidates: int | None, options: SpeechOptions | None, keep: int, seed: int | None
    ) -> tuple[SpeechOptions, int]:
        """The knobs and the seed, if all that was asked for can be done."""
        options = options or self.options(preset, candidates=candidates)
        if not 1 <= keep <= options.candidates:
            raise UserError(f"keep is {keep}; it must lie between 1 and the number of candidates, {options.candidates}")
        seed = fresh_seed() if seed is None else operator.index(seed)  # a plain integer, for the receipt
        if not 0 <= seed < 2**32:
            raise UserError(f"seed is {seed}; it must lie between 0 and {2**32 - 1}")
        self.family.tokenizer.check(text)
        self.family.latent_decoder(options)  # a model without it says so now
        self._prompted(text, options)
        return options, seed

    def _prompted(self, text: str, options: SpeechOptions) -> Redaction | None:
        """What cuts prompts out of the audio of a text; None if there are none."""
        if not options.redact or "[" not in text and "]" not in text:
            return None
        if self._redaction is None:
            self._redaction = self.family.redaction(self._aligner)
        return self._redaction if self._redaction.applies(text) else None

    def _voice_for(self, options: SpeechOptions, voice: Voice | str | Path | None, seed: int) -> Voice:
        resolved = self.resolve_voice(voice, seed=seed)
        self.family.check_voice(resolved, options)
        return resolved

    def _chunks(
        self, text: str, voice: Voice, seed: int, keep: int, options: SpeechOptions, progress: Progress | None
    ) -> Iterator[Chunk]:
        """Sentence by sentence, of what ``_checked`` let pass."""
        sentences = self.family.split(text, options)
        if redaction := self._prompted(text, options):
            sentences = redaction.join(sentences)
        decoder = self.family.latent_decoder(options)
        for number, sentence in enumerate(sentences):
            place = self.family.seed_index(number)
            told = _Told(progress, number, len(sentences))
            encoding = self.family.tokenizer.analyse(sentence.text)
            prompted = self._prompted(sentence.text, options)  # to be cut once all of it is there
            if decoder is not None and options.candidates == 1 and prompted is None:
                yield from self._pieces(sentence, encoding, place, voice, seed, options, decoder)
            else:
                yield self._sentence(sentence, encoding, place, voice, seed, keep, options, told)

    @torch.inference_mode()
    def _sentence(
        self, sentence: Sentence, encoding: Encoding, place: int, voice: Voice, seed: int, keep: int,
        options: SpeechOptions, told: _Told,
    ) -> Chunk:  # fmt: skip
        pipeline = self.pipeline
        ids = pipeline.ids(encoding.ids)
        generators = [take_generator(seed, place, take) for take in range(options.candidates)]
        takes = pipeline.sample(pipeline.prompt(ids, voice, options), options, generators, told.of("sampling"))
        scores, order = pipeline.rank(ids, takes, voice, options)
        best = order[:keep]
        pause = _pause(sentence)
        kept = []
        for take in best:
            codes = takes[take].codes
            wave = pipeline.render(ids, codes, voice, generators[take], options, told.of("rendering"))
            if redaction := self._prompted(sentence.text, options):
                wave = redaction.cut(wave, sentence.text)
            kept.append(Candidate(np.concatenate((wave, pause)), scores[take], [codes.tolist()]))
        warnings = _dropped(encoding)
        if not takes[best[0]].stopped:
            warnings.append(_unfinished(sentence))
        return Chunk(kept[0].audio, OUTPUT_RATE, sentence.text, kept, scores, warnings)

    def _pieces(
        self, sentence: Sentence, encoding: Encoding, place: int, voice: Voice, seed: int, options: SpeechOptions,
        decoder: LatentDecoder,
    ) -> Iterator[Chunk]:  # fmt: skip
        """A latent decoder's take of a sentence while it is being sampled; the first piece names the sentence."""
        prompt = self.pipeline.prompt(self.pipeline.ids(encoding.ids), voice, options)
        text, warnings = sentence.text, _dropped(encoding)
        for wave, codes in self.pipeline.stream(prompt, options, take_generator(seed, place, 0), decoder):
            yield Chunk(wave, OUTPUT_RATE, text, [Candidate(wave, math.nan, [codes])], [], warnings)
            text, warnings = "", []
        pause = _pause(sentence)
        if len(pause):
            yield Chunk(pause, OUTPUT_RATE, "", [Candidate(pause, math.nan, [])])


class _Told:
    """Progress on one of several sentences."""

    def __init__(self, progress: Progress | None, number: int, of: int) -> None:
        self._progress, self._where = progress, f" {number + 1}/{of}" if of > 1 else ""

    def of(self, stage: str) -> Callable[[int, int], None] | None:
        """What to call with what is done of a stage, and how much there is."""
        progress, name = self._progress, stage + self._where
        return (lambda done, total: progress(name, done, total)) if progress else None


def _pause(sentence: Sentence) -> np.ndarray:
    return np.zeros(round(sentence.pause_s * OUTPUT_RATE), np.float32)


def _dropped(encoding: Encoding) -> list[str]:
    return [f"dropped what cannot be spoken: {encoding.dropped}"] if encoding.dropped else []


def _unfinished(sentence: Sentence) -> str:
    return f"no take came to its end: {sentence.text[:60]!r} may be cut or ramble"


def take_generator(seed: int, sentence: int, take: int) -> torch.Generator:
    """Random numbers of one take of one sentence."""
    state = np.random.SeedSequence([seed, sentence, take]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


def fresh_seed() -> int:
    """A seed that nobody asked for."""
    return int(np.random.SeedSequence().generate_state(1)[0])
