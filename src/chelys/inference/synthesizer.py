"""Text in, speech out: the whole pipeline.

    text -> document -> ids -> N candidates of codes -> ranked by CLVP -> latents of the best -> mel -> waveform

``stream`` gives sentence by sentence, ``speak`` collects it. The random numbers of a sentence come from the seed, its
place in the text and the number of the candidate alone, so it sounds the same however it was asked for.

t text ids, m codes, d width of the latents, f bands, s mel frames, n samples.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chelys.audio.rates import OUTPUT_RATE
from chelys.deprecation import renamed_arguments
from chelys.errors import TextError, UserError
from chelys.files import digest
from chelys.inference.dictionaries import find_dictionary
from chelys.inference.family import Redactor, family_of
from chelys.inference.generation import (
    CodeCandidate,
    CodeGroup,
    CodeSampler,
    Prompt,
    default_max_new_tokens,
    generate,
)
from chelys.inference.memory import MemoryLimit
from chelys.inference.options import SpeechOptions, whole_number
from chelys.inference.receipt import made_with
from chelys.inference.rendering import Renderer, SentencePlan
from chelys.inference.speech import Candidate, Chunk, Progress, Speech
from chelys.inference.streaming import early_pieces, pieces
from chelys.inference.voice import KEPT_SECONDS, AnyVoice, Clips, Voice
from chelys.inference.voice_library import VoiceLibrary
from chelys.models.code_reader import CodeReader, Weights, best_weights
from chelys.text.dictionary import Dictionary
from chelys.text.document import FASTEST, SLOWEST, Document, Sentence
from chelys.weights.folder import Model, load_model

log = logging.getLogger(__name__)

#: Speech that comes in pieces where it is to come early; what follows is made while that is heard.
EARLY_SECONDS = 6.0


class Synthesizer(Renderer):
    """A loaded model with its voices; holds no random state and changes none. ``Renderer`` makes audio of candidates.

    ``family``: how models of this family speak. ``compat``: a way of speaking that the model's family knows;
    ``reference`` is TorToise as it was, faults included. ``aligner``: what finds [bracketed] words in the audio; None
    loads the published one when it is first needed.
    """

    def __init__(self, model: Model, *, compat: str = "repaired", aligner: Any = None) -> None:
        super().__init__(model, family_of(model, compat))
        self._library = VoiceLibrary(self.family)
        self._aligner = aligner
        self._redaction: Redactor | None = None

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
        """Load a model folder. Raises ModelError if it is incomplete or damaged."""
        started = time.perf_counter()
        model = load_model(folder, device=device, dtype=dtype)
        log.info(
            "loaded %s on %s in %s, %d threads of the CPU: %.2f s", model.config.name, device,
            str(dtype).removeprefix("torch."), torch.get_num_threads(), time.perf_counter() - started,
        )  # fmt: skip
        return cls(model, compat=compat, aligner=aligner)

    @cached_property
    def sampling_weights(self) -> Weights:
        """Precision of the weights that codes are sampled with; set it before speaking to have another.

        The fastest that this machine is measured to have, of those whose logits are exact to a thousandth; float32
        for small models, and where the original is to be reproduced.
        """
        return "float32" if self.family.compat == "reference" else best_weights(self.model.autoregressive)

    @cached_property
    def reader(self) -> CodeReader:
        """What samples codes."""
        started = time.perf_counter()
        reader = CodeReader(self.model.autoregressive, self.sampling_weights)
        if self._memory is not None:
            reader.room = self._memory.room(reader.weights)
        log.info("samples codes with weights in %s: %.2f s", reader.weights, time.perf_counter() - started)
        return reader

    @property
    def max_memory(self) -> int | None:
        """Bytes that speaking may take, about: fewer candidates are sampled at a time, and weights that are mapped from
        their files are let go as soon as they have been used. None, the default, is no limit.

        Samples stay the same, but for last bits where a wide decoder samples on several threads. Rendering a sentence
        of half a minute can take more. Set before speaking; raises UserError if there is no room for one candidate.
        """
        return None if self._memory is None else self._memory.most_bytes

    @max_memory.setter
    def max_memory(self, most_bytes: int | None) -> None:
        memory = None if most_bytes is None else MemoryLimit(self.model, whole_number("max_memory", most_bytes))
        room = sys.maxsize if memory is None else memory.room(self.sampling_weights)
        self._memory = memory
        if "reader" in self.__dict__:
            self.reader.room = room

    @property
    def fingerprint(self) -> str:
        """Changes with the weights, device, dtype and `sampling_weights`: what samples depend on besides a request."""
        parts = [f"{name} {value}" for name, value in sorted(self.model.config.hashes.items())]
        parts += [self.device.type, str(self._dtype)]
        if self.sampling_weights != "float32":
            parts.append(f"sampled with {self.sampling_weights}")
        return digest(*(part.encode() for part in parts))

    def options(self, preset: str = "fast", **changes: object) -> SpeechOptions:
        """A preset of this model with some options changed; options given as None stay.

        To set steps, sampler or guidance takes the diffusion decoder that is not distilled. Raises UserError if the
        preset is unknown, or a value is out of range.
        """
        return self.family.options(preset, **changes)

    # ---- voices -----------------------------------------------------------------------------------------------------

    @property
    def voices(self) -> dict[str, Voice]:
        """The model's built-in voices by name."""
        return self._library.built_in

    @property
    def voice_names(self) -> list[str]:
        """Names of the built-in voices, the default one first."""
        return self._library.names

    @renamed_arguments(borrowed="speaker_blend")
    def voice(
        self,
        clips: Clips,
        *,
        sample_rate: int = OUTPUT_RATE,
        name: str = "",
        kept_seconds: float = KEPT_SECONDS,
        speaker_blend: float | None = None,
    ) -> Voice:
        """Make a voice from recordings of one speaker.

        Raises AudioError if a clip is missing, no audio, too short or silent; it is named; VoiceError if there are no
        clips, or the share is not 0 to 1.

        Args:
            clips: A few clean seconds each: audio files of any format and rate, folders of them, or waveforms ``(n,)``
                as numpy arrays or tensors, floats in [-1, 1] or 16-bit integers; or pairs of a name and a waveform.
            sample_rate: Of the waveforms, Hz.
            name: For the voice file.
            kept_seconds: How much of the clips the voice carries, so that other models can use it too; 0 is none.
            speaker_blend: Share of the model's default voice in what codes are sampled with (``Voice.blend``): more is
                clearer, less keeps more of the speaker's own pace and melody. None leaves it to the model; TorToise v2
                blends none.
        """
        return self._library.create(
            clips, sample_rate=sample_rate, name=name, kept_seconds=kept_seconds, speaker_blend=speaker_blend
        )

    def resolve_voice(self, voice: AnyVoice | None = None, *, seed: int | None = None) -> Voice:
        """A voice of this model from whatever names one.

        Raises VoiceError if there is no such voice; the message lists the known ones; AudioError if its clips cannot be
        used.

        Args:
            voice: A Voice; the name of a built-in voice or of one of the user's; a voice file, also one of the
                original's with two latents; an audio file or a folder of them; a mix such as
                ``heart:0.7+rowan:0.3``; ``random`` or ``random:SEED``; clips as for ``voice``, waveforms at 24 kHz;
                None is the default voice.
            seed: Which voice ``random`` is; None draws one. TorToise v2, which has no voices of its own, also speaks
                in that one by default.
        """
        return self._library.resolve(voice, seed=seed)

    def read_voice(self, path: Path) -> Voice | None:
        """A voice in a file format of another program, such as a ``.pth`` of TorToise; None if the path is none.

        Raises VoiceError if the file is damaged or does not fit the model.
        """
        return self.family.read_voice(path)

    def random_voice(self, seed: int) -> Voice:
        """The voice ``random:SEED``.

        Raises VoiceError if the seed is out of range, or the model has nothing to draw a voice from.
        """
        return self._library.random(seed)

    # ---- speech -----------------------------------------------------------------------------------------------------

    def read_text(
        self, text: str, *, format: str = "auto", locale: str = "en-US",
        lexicon: str | Path | Dictionary | None = None, voice: AnyVoice | None = None,
        options: SpeechOptions | None = None,
    ) -> Document:  # fmt: skip
        """What will be said for a text of any length: sentences with words, phonemes and pauses, and warnings.

        ``speak`` and ``stream`` take the document in place of the text. Raises TextError if nothing of the text can be
        spoken, or it is damaged SSML; UserError if there is no such format.

        Args:
            text: English; plain or with tags such as ``[pause:0.8]``, Markdown, HTML or SSML.
            format: ``text``, ``markdown``, ``html``, ``ssml``; ``auto`` finds out. TorToise v2 takes it for plain text.
            locale: ``en-US``, or ``en-GB``, where a date in figures has the day first.
            lexicon: Words and how they sound, or a file of them (``chelys.text.dictionary``), beside the user's own.
            voice: Who is to speak: a voice file can have such a file beside it.
            options: They say how long a piece may be; None is the preset ``fast``.
        """
        options = options or self.options()
        dictionary = find_dictionary(self.family.tokenizer, lexicon, voice)
        redaction = self._redaction_of(text, options)
        join = redaction.join if redaction else None
        return self.family.read_text(text, options, format=format, locale=locale, dictionary=dictionary, join=join)

    def speak(
        self,
        text: str | Document,
        *,
        voice: AnyVoice | None = None,
        preset: str | None = None,
        seed: int | None = None,
        candidates: int | None = None,
        speed: float | None = None,
        keep: int = 1,
        options: SpeechOptions | None = None,
        progress: Progress | None = None,
        spoken: Sequence[Chunk] = (),
        on_chunk: Callable[[Chunk], object] | None = None,
    ) -> Speech:
        """Speak a text of any length.

        Raises TextError if nothing of the text can be spoken; VoiceError if the voice is unknown; UserError if an
        option is out of range, or given twice.

        Args:
            text: English, or what ``read_text`` made of it.
            voice: See ``resolve_voice``.
            preset: ``ultra_fast``, ``fast`` (the default), ``standard``, ``high_quality`` or ``streaming``; TorToise v2
                also has ``paper``.
            seed: Of everything random, 0 or more; None draws one, which the receipt names.
            candidates: Candidates sampled for each sentence; None leaves it to the preset.
            speed: Pace, 0.5 to 2, where 2 is twice as fast; None leaves it to the preset. The pitch stays.
            keep: How many of them to render, best first.
            options: All options at once; then preset, candidates and speed must not be given.
            progress: Called with the stage, the steps done and the number of steps.
            spoken: Chunks of whole sentences, the first of the text, that an earlier call with the same arguments and
                seed gave to ``on_chunk``; they are not spoken again.
            on_chunk: Called with each further sentence as soon as it is ready, so that it can be kept.
        """
        started = time.perf_counter()
        named = None if options is not None else preset or "fast"
        document, options, seed = self._check(text, voice, preset, candidates, speed, options, keep, seed)
        voices = self.voices_of(document, options, voice, seed)
        chunks = list(spoken)
        start = chunks[-1].sentence + 1 if chunks else 0
        for chunk in self._chunks(document, voices, seed, keep, options, progress, start, at_once=True):
            chunks.append(chunk)
            if on_chunk is not None:
                on_chunk(chunk)
        kept = [
            Candidate(
                audio=np.concatenate([chunk.candidates[i].audio for chunk in chunks]),
                score=float(np.mean([chunk.candidates[i].score for chunk in chunks])),
                codes=[codes for chunk in chunks for codes in chunk.candidates[i].codes],
            )
            for i in range(keep)
        ]
        elapsed, seconds = time.perf_counter() - started, len(kept[0].audio) / OUTPUT_RATE
        receipt = {
            "text": document.text,
            "voice": voices[None].name,
            **made_with(self, {name or voice.name: voice for name, voice in voices.items()}, options, seed, named),
            "sample_rate": OUTPUT_RATE,
            "seconds": round(seconds, 3),
            "synthesis_seconds": round(elapsed, 3),
            "real_time_factor": round(elapsed / seconds, 3),
            "sentences": [{"text": chunk.text, "scores": chunk.scores} for chunk in chunks if chunk.text],
            "scores": [None if math.isnan(candidate.score) else candidate.score for candidate in kept],
        }
        log.info("spoke %.2f s in %.2f s: real-time factor %.2f", seconds, elapsed, elapsed / seconds)
        warnings = list(dict.fromkeys(w for chunk in chunks for w in chunk.warnings))
        return Speech(kept[0].audio, OUTPUT_RATE, kept, receipt, warnings)

    def stream(
        self,
        text: str | Document,
        *,
        voice: AnyVoice | None = None,
        preset: str | None = None,
        seed: int | None = None,
        candidates: int | None = None,
        speed: float | None = None,
        keep: int = 1,
        options: SpeechOptions | None = None,
        progress: Progress | None = None,
        start: int = 0,
        early: bool | None = None,
    ) -> Iterator[Chunk]:
        """The same, sentence by sentence as each is ready; HiFi-GAN's single candidate comes in pieces of two seconds.

        Arguments and errors as for ``speak``; errors are raised at once, not with the first chunk.

        Args:
            start: The sentence to begin with, from 0; it sounds as it does after those before it.
            early: Give the first seconds in pieces, the first one of less than a second, while their sentence is still
                being sampled; they differ from what ``speak`` makes of the same seed. Raises UserError where the model
                cannot, or more than one candidate is kept. None does what the options say (preset ``streaming``: yes)
                where it can be done.
        """
        document, options, seed = self._check(text, voice, preset, candidates, speed, options, keep, seed)
        voices = self.voices_of(document, options, voice, seed)
        possible = keep == 1 and self.speaks_early(options)
        if early is None:
            early = options.early and possible
        if early and not possible:
            raise UserError("early pieces are of one kept candidate that diffusion renders, and no published model's")
        return self._chunks(document, voices, seed, keep, options, progress, start, early=early)

    def speaks_early(self, options: SpeechOptions) -> bool:
        """Whether a sentence can come in pieces while it is being sampled."""
        return self.family.speaks_early and options.decoder == "diffusion" and not options.redact

    def _check(
        self, text: str | Document, voice: AnyVoice | None, preset: str | None, candidates: int | None,
        speed: float | None, options: SpeechOptions | None, keep: int, seed: int | None,
    ) -> tuple[Document, SpeechOptions, int]:  # fmt: skip
        """What to say, the options and the seed, if everything that was asked for can be done."""
        if options is None:
            options = self.options(preset or "fast", candidates=candidates, speed=speed)
        else:
            for name, given in (("preset", preset), ("candidates", candidates), ("speed", speed)):
                if given is not None:
                    raise UserError(f"{name} and options are both given: set it in the options, or leave them out")
            if not isinstance(options, SpeechOptions):
                raise UserError(f"options is {type(options).__name__}: give SpeechOptions, as tts.options() makes them")
        keep = whole_number("keep", keep)
        if not 1 <= keep <= options.candidates:
            raise UserError(f"keep is {keep}; it must lie between 1 and the number of candidates, {options.candidates}")
        seed = random_seed() if seed is None else whole_number("seed", seed)
        if not 0 <= seed < 2**32:
            raise UserError(f"seed is {seed}; it must lie between 0 and {2**32 - 1}")
        self._check_distilled(options)
        decoder = self.family.latent_decoder(options)  # a model without it says so now
        if isinstance(text, str):
            text = self.read_text(text, voice=voice, options=options)
        elif not isinstance(text, Document):
            raise TextError(f"the text is {type(text).__name__}: give a str, or a Document")
        if decoder is not None and any(options.speed * sentence.rate != 1 for sentence in text.sentences):
            raise UserError(f"{options.decoder} keeps the pace of the voice: set speed to 1, or decoder to diffusion")
        return text, options, seed

    def _check_distilled(self, options: SpeechOptions) -> None:
        """Refuse a distilled decoder that the model lacks, and other steps or guidance than its adapters hold."""
        distillation = self.model.config.distillation
        if options.sampler != "distilled":
            return
        if distillation is None:
            raise UserError(f"model {self.model.config.name!r} has no distilled decoder: choose another sampler")
        if (options.steps, options.guidance) != (distillation.steps, distillation.guidance):
            raise UserError(
                f"the distilled decoder takes {distillation.steps} steps with guidance {distillation.guidance:g}, not "
                f"{options.steps} with {options.guidance:g}: choose sampler dpm++2m"
            )

    def voices_of(
        self, document: Document, options: SpeechOptions, voice: AnyVoice | None, seed: int
    ) -> dict[str | None, Voice]:
        """The voice that was asked for, under None, and those that the text asks for, by name.

        Raises VoiceError if one is unknown, or cannot be spoken in with such options.
        """
        voices: dict[str | None, Voice] = {None: self.resolve_voice(voice, seed=seed)}
        for name in dict.fromkeys(sentence.voice for sentence in document.sentences if sentence.voice):
            voices[name] = self._library.resolve_known(name)
        for resolved in voices.values():
            self.family.check_voice(resolved, options)
        return voices

    def _redaction_of(self, text: str, options: SpeechOptions) -> Redactor | None:
        """What cuts prompts out of the audio of a text; None if it has none."""
        if not options.redact or ("[" not in text and "]" not in text):
            return None
        if self._redaction is None:
            self._redaction = self.family.redaction(self._aligner)
        return self._redaction if self._redaction.applies(text) else None

    # ---- sentences --------------------------------------------------------------------------------------------------

    def plan(
        self,
        text: str | Document,
        *,
        voice: AnyVoice | None = None,
        preset: str | None = None,
        seed: int | None = None,
        candidates: int | None = None,
        speed: float | None = None,
        keep: int = 1,
        options: SpeechOptions | None = None,
    ) -> list[SentencePlan]:
        """The sentences of a text, for a program that samples them together with others (``CodeSampler``).

        Arguments and errors as for ``speak``. ``finish`` makes of each plan and its candidates what ``stream`` yields.
        """
        document, options, seed = self._check(text, voice, preset, candidates, speed, options, keep, seed)
        voices, sentences = self.voices_of(document, options, voice, seed), document.sentences
        return [self._plan(sentence, number, voices, seed, keep, options) for number, sentence in enumerate(sentences)]

    def _plan(
        self, sentence: Sentence, number: int, voices: dict[str | None, Voice], seed: int, keep: int,
        options: SpeechOptions,
    ) -> SentencePlan:  # fmt: skip
        voice = voices[sentence.voice]
        if sentence.rate != 1:
            options = replace(options, speed=min(max(options.speed * sentence.rate, SLOWEST), FASTEST))
        prompt = self._prompt(self.text_ids(self.family.tokenizer.ids(sentence.phonemes)), voice, options)
        stream = (seed, self.family.seed_index(number))
        generators = [candidate_generator(*stream, i) for i in range(options.candidates)]
        redaction = self._redaction_of(sentence.text, options)
        return SentencePlan(sentence, prompt, generators, voice, options, keep, redaction)

    def text_ids(self, ids: list[int]) -> Tensor:
        """Ids of a text ``(t,)``, with the stops that this family of models wants after them."""
        stops = [self.model.config.autoregressive.stop_text] * self.family.text_stops
        return torch.tensor(ids + stops, device=self.device)

    def _prompt(self, text_ids: Tensor, voice: Voice, options: SpeechOptions) -> Prompt:
        conditioning = voice.sampling_latent.to(self.device, self._dtype)
        return Prompt(conditioning, text_ids, options.max_new_tokens or default_max_new_tokens(len(text_ids)))

    def _chunks(
        self, document: Document, voices: dict[str | None, Voice], seed: int, keep: int, options: SpeechOptions,
        progress: Progress | None, start: int = 0, *, at_once: bool = False, early: bool = False,
    ) -> Iterator[Chunk]:  # fmt: skip
        """Sentence by sentence, of arguments that ``_check`` let pass; the first brings the document's warnings.

        ``at_once``: sample the first sentence together with others, as no listener waits for it. ``early``: give
        the first sentences in pieces.
        """
        decoder = self.family.latent_decoder(options)
        sentences, warnings = document.sentences, document.warnings if not start else []
        log.info(
            "%d sentences in %s, seed %d, %d candidates, %d steps of %s, guidance %g", len(sentences),
            ", ".join(voice.name for voice in voices.values()), seed, options.candidates, options.steps,
            options.sampler, options.guidance,
        )  # fmt: skip
        log.debug("%s", options)
        plans = (
            self._plan(sentence, number, voices, seed, keep, options)
            for number, sentence in enumerate(sentences[start:], start)
        )

        def numbered(chunk: Chunk, number: int, *, complete: bool) -> Chunk:
            nonlocal warnings
            so_far, warnings = [*warnings, *chunk.warnings], []
            return replace(chunk, sentence=number, sentences=len(sentences), complete=complete, warnings=so_far)

        given, early = 0, early and not start  # samples
        while early and start < len(sentences) and given < EARLY_SECONDS * OUTPUT_RATE:
            for chunk in early_pieces(self, next(plans)):
                given += len(chunk.audio)
                yield numbered(chunk, start, complete=False)
            start += 1
        if decoder is not None and options.candidates == 1:
            sampled: Iterator[tuple[SentencePlan, list[CodeCandidate] | None]] = ((plan, None) for plan in plans)
        else:
            sampled = self._sampled(plans, options, range(start, len(sentences)), progress, at_once=at_once)
        for number, (plan, candidates) in enumerate(sampled, start):
            of_sentence = _numbered(progress, number, len(sentences))
            log.info("sentence %d of %d: %d ids", number + 1, len(sentences), len(plan.prompt.text_ids))
            log.debug("%r is read as %s", plan.sentence.text, plan.sentence.phonemes)
            complete = decoder is None or options.candidates > 1 or plan.redaction is not None
            if decoder is not None and not complete:
                chunks = pieces(self, plan, decoder)
            else:
                chunks = iter([self.finish(plan, candidates or self._generate(plan, of_sentence), of_sentence)])
            for chunk in chunks:
                yield numbered(chunk, number, complete=complete)

    def _generate(self, plan: SentencePlan, progress: Progress | None) -> list[CodeCandidate]:
        """Sample the candidates of one sentence."""
        return generate(
            self.reader, [plan.prompt] * len(plan.generators), plan.options, plan.generators,
            rules=self.family.decoding_rules(plan.options), progress=progress,
        )  # fmt: skip

    def _sampled(
        self, plans: Iterator[SentencePlan], options: SpeechOptions, numbers: range, progress: Progress | None, *,
        at_once: bool,
    ) -> Iterator[tuple[SentencePlan, list[CodeCandidate]]]:  # fmt: skip
        """Sentences with their candidates, in order. ``numbers``: of the sentences, up to that of the text's last.

        As many are sampled together as a batch has room for, which changes none of them.
        """
        sampler, rules = CodeSampler(self.reader), self.family.decoding_rules(options)
        ahead: deque[tuple[SentencePlan, CodeGroup]] = deque()
        most = max(1, options.batch // options.candidates)
        for number in numbers:
            room = most if at_once or number > numbers.start else 1
            for plan in islice(plans, room - len(ahead)):
                ahead.append((plan, sampler.join(plan.prompt, plan.options, plan.generators, rules)))
            plan, group = ahead.popleft()
            of_sentence = _numbered(progress, number, numbers.stop)
            while not group.done:
                sampler.step()
                if of_sentence:
                    of_sentence("sampling", *group.progress)
            if of_sentence:  # it may have come to its end with those before it
                done, _ = group.progress
                of_sentence("sampling", done, done)
            lengths = [len(codes) for codes in group.codes]
            log.info("sampled %d to %d codes", min(lengths), max(lengths))
            yield plan, group.candidates


def candidate_generator(seed: int, sentence: int, candidate: int) -> torch.Generator:
    """Random numbers of one candidate of one sentence."""
    state = np.random.SeedSequence([seed, sentence, candidate]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


def random_seed() -> int:
    """A fresh seed from the system's entropy."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def _numbered(progress: Progress | None, number: int, sentences: int) -> Progress | None:
    """Progress that names the sentence, where there are several."""
    if progress is None or sentences == 1:
        return progress
    call: Callable[[str, int, int], None] = progress
    return lambda stage, done, total: call(f"{stage} {number + 1}/{sentences}", done, total)
