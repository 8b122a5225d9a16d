"""Text in, speech out: the pipeline in one screen.

    text -> sentences -> ids -> N takes of codes -> ranked by CLVP -> latents of the best -> mel -> wave

``stream`` gives sentence by sentence, ``speak`` collects it. A sentence's random numbers come from the seed, its place
in the text and the number of the take alone, so it sounds the same however it was asked for.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chelys.audio.io import clip_paths, read_clips
from chelys.audio.rates import FRAMES_PER_CODE, OUTPUT_RATE
from chelys.errors import UserError, VoiceError
from chelys.inference import rerank, voice_shelf
from chelys.inference.decode import Prompt, code_limit, decode
from chelys.inference.denoise import denoise
from chelys.inference.options import SpeechOptions, options_for
from chelys.inference.speech import Candidate, Chunk, Speech
from chelys.inference.voice import KEPT_SECONDS, Voice, make_voice
from chelys.text.normalize import check_speakable
from chelys.text.split import Sentence, split
from chelys.weights.folder import Model, load_model

#: Called with the name of the step of the pipeline, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


class Synthesizer:
    """A loaded model with its voices. Holds no random state and changes none."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.device = next(model.autoregressive.parameters()).device
        self.dtype = next(model.autoregressive.parameters()).dtype
        folder = model.folder / "voices"
        self._voice_files = {path.stem: path for path in sorted(folder.glob("*.safetensors"))}

    @classmethod
    def from_folder(cls, folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Synthesizer:
        """Load a model folder.

        Raises:
            ModelError: If it is incomplete or damaged.
        """
        return cls(load_model(folder, device=device, dtype=dtype))

    # ---- voices -------------------------------------------------------------------------------------------------

    @property
    def voices(self) -> dict[str, Voice]:
        """The model's built-in voices by name."""
        return {name: Voice.load(path) for name, path in self._voice_files.items()}

    @property
    def voice_names(self) -> list[str]:
        """Names of the built-in voices, the default one first."""
        default = self.model.config.default_voice
        return sorted(self._voice_files, key=lambda name: (name != default, name))

    def voice(
        self, clips: Sequence[str | Path] | str | Path, *, name: str = "", kept_seconds: float = KEPT_SECONDS
    ) -> Voice:
        """Make a voice from recordings of one speaker, in any format and rate.

        Args:
            clips: Audio files, or folders of them; a few clean seconds each.
            name: For the voice file.
            kept_seconds: How much of the clips the voice shall carry, so that other models can use it too; 0 is none.

        Raises:
            AudioError: If a clip is missing, no audio, too short or silent; it is named.
            VoiceError: If there are no clips.
        """
        paths = clip_paths([clips] if isinstance(clips, (str, Path)) else clips)
        about = {"name": name, "sources": [path.name for path in paths]}
        return self._make_voice(read_clips(paths, OUTPUT_RATE), about, kept_seconds)

    def _make_voice(self, clips: Sequence[np.ndarray], about: dict[str, Any], kept_seconds: float) -> Voice:
        model = self.model
        return make_voice(
            clips, model.autoregressive, model.diffusion, model.config.mel_range,
            model=model.config.fingerprint, about=about, kept_seconds=kept_seconds,
        )  # fmt: skip

    def resolve_voice(self, voice: Voice | str | Path | None = None) -> Voice:
        """A voice of this model from whatever names one.

        Args:
            voice: A Voice; the name of a built-in voice or of one of the user's; a voice file; an audio file or a
                folder of them; a mix such as ``heart:0.7+cedar:0.3``; None is the default voice.

        Raises:
            VoiceError: If nothing goes by that name; the answer lists the known ones.
            AudioError: If its clips cannot be used.
        """
        if voice is None:
            if not self.voice_names:
                raise VoiceError("the model has no voice of its own: give a voice file, a clip or a folder of clips")
            voice = self.voice_names[0]
        found = voice if isinstance(voice, Voice) else self._find(str(voice))
        if found.model == self.model.config.fingerprint:
            sizes = (self.model.config.autoregressive.dim, 2 * self.model.config.diffusion.dim)
            if (len(found.autoregressive), len(found.diffusion)) != sizes:
                raise VoiceError(f"voice {found.name!r} is damaged, its vectors do not fit the model: make it anew")
            return found
        if not found.clips:
            raise VoiceError(
                f"voice {found.name!r} was made for another model and carries no clips: make it anew from recordings"
            )
        waves = [clip.astype(np.float32) / 32767 for clip in found.clips]
        return self._make_voice(waves, found.about, KEPT_SECONDS)

    def _find(self, name: str) -> Voice:
        if name in self._voice_files:
            return Voice.load(self._voice_files[name])
        if shelved := voice_shelf.find_user_voice(name):
            return Voice.load(shelved)
        path = _existing(name)
        if path is not None:
            return Voice.load(path) if path.suffix == ".safetensors" else self.voice([path], name=path.stem)
        if "+" in name:
            return self._mix(name)
        known = ", ".join(dict.fromkeys([*self.voice_names, *voice_shelf.list_user_voices()]))
        choice = f"choose from {known}, or give" if known else "give"
        raise VoiceError(f"unknown voice {name!r}: {choice} a voice file, a clip or a folder of clips")

    def _mix(self, recipe: str) -> Voice:
        """``a:0.7+b:0.3``; a part without a weight counts as 1."""
        voices, weights = [], []
        for part in recipe.split("+"):
            name, colon, weight = part.strip().rpartition(":")
            try:
                weights.append(float(weight) if colon else 1.0)
            except ValueError:
                raise VoiceError(
                    f"{part!r} is no part of a mix: write NAME:WEIGHT, as in 'heart:0.7+cedar:0.3'"
                ) from None
            voices.append(self.resolve_voice(name if colon else weight))
        return Voice.mix(voices, weights)

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
            preset: ``ultra_fast``, ``fast``, ``standard`` or ``high_quality``.
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
        options, seed = _checked(text, preset, candidates, options, keep, seed)
        resolved = self.resolve_voice(voice)
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
            "sentences": [{"text": chunk.text, "scores": chunk.scores} for chunk in chunks],
            "scores": [take.score for take in takes],
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
        """The same, sentence by sentence as each is ready.

        Arguments and errors as for ``speak``; what is wrong with them is found out at once, not with the first chunk.
        """
        knobs, seed = _checked(text, preset, candidates, options, keep, seed)
        resolved = self.resolve_voice(voice)
        return self._chunks(text, resolved, seed, keep, knobs, progress)

    def _chunks(
        self, text: str, voice: Voice, seed: int, keep: int, options: SpeechOptions, progress: Progress | None
    ) -> Iterator[Chunk]:
        """Sentence by sentence, of what ``_checked`` let pass."""
        sentences = split(text, longest=options.longest)
        for number, sentence in enumerate(sentences):
            yield self._sentence(sentence, number, len(sentences), voice, seed, keep, options, progress)

    @torch.inference_mode()
    def _sentence(
        self, sentence: Sentence, number: int, of: int, voice: Voice, seed: int, keep: int, options: SpeechOptions,
        progress: Progress | None,
    ) -> Chunk:  # fmt: skip
        model = self.model
        encoding = model.tokenizer.analyse(sentence.text)
        ids = torch.tensor(encoding.ids, device=self.device)
        conditioning = voice.autoregressive.to(self.device, self.dtype)
        prompt = Prompt(conditioning, ids, code_limit(len(ids)))
        generators = [take_generator(seed, number, take) for take in range(options.candidates)]

        def tell(stage: str) -> Callable[[int, int], None] | None:
            where = f"{stage} {number + 1}/{of}" if of > 1 else stage
            return (lambda done, total: progress(where, done, total)) if progress else None

        prompts = [prompt] * options.candidates
        takes = decode(model.autoregressive, prompts, options, generators, progress=tell("sampling"))
        scores = rerank.score(model.clvp, ids, takes)
        best = rerank.ranked(takes, scores)[:keep]
        pause = np.zeros(round(sentence.pause_s * OUTPUT_RATE), np.float32)
        kept = []
        for take in best:
            wave = self._render(ids, takes[take].codes, voice, generators[take], options, tell("rendering"))
            kept.append(Candidate(np.concatenate((wave, pause)), scores[take], [takes[take].codes.tolist()]))
        warnings = []
        if encoding.dropped:
            warnings.append(f"dropped what cannot be spoken: {encoding.dropped}")
        if not takes[best[0]].stopped:
            warnings.append(f"no take came to its end: {sentence.text[:60]!r} may be cut or ramble")
        return Chunk(kept[0].audio, OUTPUT_RATE, sentence.text, kept, scores, warnings)

    def _render(
        self, ids: Tensor, codes: Tensor, voice: Voice, generator: torch.Generator, options: SpeechOptions,
        progress: Callable[[int, int], None] | None,
    ) -> np.ndarray:  # fmt: skip
        """Codes ``(m,)`` of one take to its wave ``(1024 m,)``."""
        model = self.model
        heard, rendered = (v.to(self.device, self.dtype)[None] for v in (voice.autoregressive, voice.diffusion))
        latents = model.autoregressive.latents(heard, ids[None], codes[None])
        frames = len(codes) * FRAMES_PER_CODE
        content = model.diffusion.content(latents, rendered, frames // model.diffusion.config.patch)
        noise = torch.randn(1, model.diffusion.config.bands, frames, generator=generator)
        bounds = model.config.mel_range.bounds
        start = (noise * options.diffusion_temperature).to(self.device, self.dtype)
        mel = denoise(model.diffusion, content, start, options.steps, options.guidance, bounds, progress=progress)
        wave = model.vocoder.vocode(model.config.mel_range.denormalize(mel.float()).to(self.dtype), generator)
        return wave.flatten().float().cpu().numpy()


def _existing(name: str) -> Path | None:
    """What lies at a path; None if nothing does, or nothing can."""
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except (OSError, RuntimeError, ValueError):  # longer than a name can be; the home of nobody; a null character
        return None


def _checked(
    text: str, preset: str, candidates: int | None, options: SpeechOptions | None, keep: int, seed: int | None
) -> tuple[SpeechOptions, int]:
    """The knobs and the seed, if all that was asked for can be done."""
    options = options or options_for(preset, candidates=candidates)
    if not 1 <= keep <= options.candidates:
        raise UserError(f"keep is {keep}; it must lie between 1 and the number of candidates, {options.candidates}")
    seed = fresh_seed() if seed is None else operator.index(seed)  # a plain integer, for the receipt
    if not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed}; it must lie between 0 and {2**32 - 1}")
    check_speakable(text)
    return options, seed


def take_generator(seed: int, sentence: int, take: int) -> torch.Generator:
    """Random numbers of one take of one sentence."""
    state = np.random.SeedSequence([seed, sentence, take]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


def fresh_seed() -> int:
    """A seed that nobody asked for."""
    return int(np.random.SeedSequence().generate_state(1)[0])
