"""Sentences to takes, stage by stage, each looked up in the store before it is computed.

    sentence -> candidates of codes, ranked (stage ``codes``) -> waveform of one of them (stage ``wave``)

A sentence of a book is spoken as the only sentence of a text of its own, with a seed that comes from what is said and
how often it was said before, and not from its place. So a line that is put in, or taken out, changes no other, and each
take is, to the bit, what ``Synthesizer.speak`` makes of the sentence with that seed (``SentenceRequest.draw``).
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from chelys.audio.rates import OUTPUT_RATE
from chelys.audiobook.hearing import WordTime, align
from chelys.audiobook.store import Kept, StageStore, key_of
from chelys.inference.generation import CodeCandidate, CodeGroup, CodeSampler, generate, skip_codes
from chelys.inference.options import SpeechOptions
from chelys.inference.synthesizer import SentencePlan, Synthesizer, candidate_generator
from chelys.inference.voice import AnyVoice
from chelys.text.document import Document, Sentence

#: Changes whenever the same inputs give other samples.
SAMPLES = 1
#: Options that candidates depend on; `batch` changes none, the others are of rendering and of cutting texts.
SAMPLING = (
    "candidates", "temperature", "top_p", "top_k", "typical_mass", "repetition_penalty", "max_new_tokens", "cvvp",
)  # fmt: skip
#: Options that only the rendering of given codes depends on.
RENDERING = (
    "speed", "decoder", "sampler", "steps", "eta", "guidance", "guidance_ramp", "diffusion_temperature", "redact",
)  # fmt: skip
#: Sentences that are looked at ahead of the one that is wanted.
_AHEAD = 32


@dataclass(frozen=True)
class SentenceRequest:
    """Everything that decides how one sentence sounds."""

    sentence: Sentence  # as ``read_text`` gives it; its pauses are not spoken
    voice: AnyVoice | None = None  # whatever ``resolve_voice`` takes; a voice that the sentence asks for comes first
    seed: int = 0  # of the book
    options: SpeechOptions = SpeechOptions()
    occurrence: int = 0  # how often the same was said before it

    @property
    def draw(self) -> int:
        """Seed with which ``Synthesizer.speak`` gives the same take."""
        said = f"{self.seed}\n{self.sentence.phonemes}\n{self.occurrence}"
        return int.from_bytes(hashlib.sha256(said.encode()).digest()[:4], "big")


def numbered(requests: Iterable[SentenceRequest]) -> Iterator[SentenceRequest]:
    """The same requests, each with how often the same words were asked for before."""
    before: dict[bytes, int] = {}
    for request in requests:
        said = hashlib.sha256(request.sentence.phonemes.encode()).digest()[:8]
        yield replace(request, occurrence=before.get(said, 0))
        before[said] = before.get(said, 0) + 1


@dataclass(frozen=True)
class Take:
    """One sentence, spoken."""

    audio: np.ndarray  # ``(n,)`` float32 in [-1, 1] at 24 kHz, without pauses
    codes: list[int]  # what it was rendered from
    score: float  # of its candidate, higher is better; comparable between takes of one sentence
    candidate: int  # number of the candidate
    stopped: bool  # whether it came to its end by itself
    key: str  # of its wave in a store
    words: tuple[WordTime, ...] = ()  # when each word is said; empty if the model has no reader
    computed: tuple[str, ...] = ()  # stages that were computed now, empty if all came from the store
    spent_s: float = 0.0  # seconds of work that computing it took, whenever that was

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return len(self.audio) / OUTPUT_RATE


@dataclass
class _Ranked:
    """The candidates of a sentence with their scores."""

    candidates: list[CodeCandidate]
    scores: list[float]
    order: list[int]  # places, best first
    spent_s: float


@dataclass
class _Pending:
    """A sentence on its way."""

    request: SentenceRequest
    plan: SentencePlan
    inputs: dict[str, Any]  # of its codes
    ranked: _Ranked | None  # what the store has
    group: CodeGroup | None = None  # what is being sampled
    spent_s: float = 0.0
    computed: list[str] = field(default_factory=list)


class SentenceRenderer:
    """Makes takes of sentences.

    Args:
        tts: Whose samples the takes have.
        store: Where stages are looked up and kept; None computes all.
        on_progress: Called with the stage, steps done and their number, as in ``Synthesizer.speak``.
    """

    def __init__(
        self, tts: Synthesizer, store: StageStore | None, *,
        on_progress: Callable[[str, int, int], None] | None = None,
    ) -> None:  # fmt: skip
        self.tts, self.store, self._progress = tts, store, on_progress
        self._sampler = CodeSampler(tts.model.autoregressive)

    def takes(self, requests: Iterable[SentenceRequest]) -> Iterator[Take]:
        """A take of each sentence, in order. Requests are asked for a few tens ahead, so that several are sampled
        together.

        Raises what ``Synthesizer.speak`` raises.
        """
        source, waiting = iter(requests), deque[_Pending]()
        try:
            while True:
                self._look_ahead(source, waiting)
                if not waiting:
                    return
                yield self._take(waiting.popleft(), waiting)
        finally:
            for job in waiting:
                if job.group is not None:
                    self._sampler.leave(job.group)

    def _look_ahead(self, source: Iterator[SentenceRequest], waiting: deque[_Pending]) -> None:
        """Look up what comes next, and begin to sample what is not there, as far as a batch has room."""
        while len(waiting) < _AHEAD:
            rows = self._sampler.rows
            if waiting and rows and rows + len(waiting[-1].plan.generators) > waiting[-1].plan.options.batch:
                return
            request = next(source, None)
            if request is None:
                return
            job = self._pending(request)
            waiting.append(job)
            rules = self.tts.family.decoding_rules(job.plan.options)
            if job.ranked is None and len(job.plan.generators) <= job.plan.options.batch:
                job.group = self._sampler.join(job.plan.prompt, job.plan.options, job.plan.generators, rules)

    def _pending(self, request: SentenceRequest) -> _Pending:
        alone = replace(request.sentence, pause_s=0.0, lead_s=0.0)
        document = Document(alone.text, [alone])
        voice = self.tts.resolve_voice(request.voice, seed=request.seed)
        [plan] = self.tts.plan(document, voice=voice, seed=request.draw, options=request.options)
        inputs = {
            "samples": SAMPLES, "model": self.tts.fingerprint, "compat": self.tts.family.compat,
            "said": request.sentence.phonemes, "voice": plan.voice.fingerprint, "seed": request.seed,
            "occurrence": request.occurrence, "options": _chosen(plan.options, SAMPLING),
        }  # fmt: skip
        kept = None if self.store is None else self.store.get("codes", inputs)
        return _Pending(request, plan, inputs, None if kept is None else self._unpack(plan, kept))

    # ---- codes ------------------------------------------------------------------------------------------------------

    def _sampled(self, job: _Pending, waiting: Iterable[_Pending]) -> _Ranked:
        """The candidates of a sentence, from the store or sampled, with those that wait for their turn."""
        if job.ranked is not None:
            return job.ranked
        plan, started = job.plan, time.perf_counter()
        if job.group is None:
            candidates = generate(
                self.tts.model.autoregressive, [plan.prompt] * len(plan.generators), plan.options, plan.generators,
                rules=self.tts.family.decoding_rules(plan.options), progress=self._progress,
            )  # fmt: skip
            job.spent_s += time.perf_counter() - started
        else:
            others = [other for other in waiting if other.group is not None]
            while job.group.active:
                began, sharing = time.perf_counter(), [job, *(o for o in others if o.group and o.group.active)]
                self._sampler.step()
                if self._progress:
                    self._progress("sampling", job.group.steps, job.group.max_codes)
                share = (time.perf_counter() - began) / len(sharing)
                for one in sharing:
                    one.spent_s += share
            candidates, started = job.group.candidates, time.perf_counter()
        scores, order = self.tts.rank(plan, candidates)
        job.spent_s += time.perf_counter() - started
        ranked = job.ranked = _Ranked(candidates, scores, order, job.spent_s)
        job.computed.append("codes")
        if self.store is not None:
            self.store.put("codes", job.inputs, *self._pack(plan, ranked))
        # others are rendered from codes alone, whether they come from the store or not
        ranked.candidates = [c if i == order[0] else replace(c, latents=()) for i, c in enumerate(candidates)]
        return ranked

    def _pack(self, plan: SentencePlan, ranked: _Ranked) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and plain values of candidates; the latents are those of the best."""
        rows = [candidate.codes.cpu().numpy().astype(np.int16) for candidate in ranked.candidates]
        arrays: dict[str, np.ndarray] = {
            "codes": np.concatenate(rows), "lengths": np.array([len(row) for row in rows], np.int32),
            "stopped": np.array([candidate.stopped for candidate in ranked.candidates]),
            "scores": np.array(ranked.scores, np.float64), "order": np.array(ranked.order, np.int32),
        }  # fmt: skip
        latents = ranked.candidates[ranked.order[0]].latents
        if latents and self.tts.keeps_latents(plan):
            arrays["latents"] = torch.stack(tuple(latents)).float().cpu().numpy()
        return arrays, {"seconds": round(ranked.spent_s, 3)}

    def _unpack(self, plan: SentencePlan, kept: Kept) -> _Ranked:
        device, arrays = plan.prompt.text_ids.device, kept.arrays
        ends = np.cumsum(arrays["lengths"])[:-1]
        rows = [torch.from_numpy(row.astype(np.int64)).to(device) for row in np.split(arrays["codes"], ends)]
        candidates = [
            CodeCandidate(codes, bool(stopped)) for codes, stopped in zip(rows, arrays["stopped"], strict=True)
        ]
        order = arrays["order"].tolist()
        if "latents" in arrays:
            latents = torch.from_numpy(arrays["latents"]).to(device, plan.prompt.conditioning.dtype).unbind()
            candidates[order[0]] = replace(candidates[order[0]], latents=latents)
        return _Ranked(candidates, arrays["scores"].tolist(), order, float(kept.about["seconds"]))

    # ---- waves ------------------------------------------------------------------------------------------------------

    def _take(self, job: _Pending, waiting: Iterable[_Pending]) -> Take:
        ranked = self._sampled(job, waiting)
        return self._rendered(job, ranked, ranked.order[0])

    def _rendered(self, job: _Pending, ranked: _Ranked, number: int) -> Take:
        """The take of one candidate, from the store or rendered."""
        plan, candidate = job.plan, ranked.candidates[number]
        inputs = {**job.inputs, "candidate": number, "rendering": _chosen(plan.options, RENDERING)}
        kept = None if self.store is None else self.store.get("wave", inputs)
        if kept is None:
            started = time.perf_counter()
            generator = plan.generators[number]
            if "codes" not in job.computed:
                generator = self._generator(job, candidate, number)
            audio = self.tts.render_candidate(plan, candidate, generator, self._progress)
            kept = Kept({"audio": audio}, {"seconds": round(time.perf_counter() - started, 3)})
            job.computed.append("wave")
            if self.store is not None:
                self.store.put("wave", inputs, kept.arrays, kept.about)
        audio = kept.arrays["audio"]
        return Take(
            audio, candidate.codes.tolist(), ranked.scores[number], number, candidate.stopped, key_of("wave", inputs),
            words=self._words(plan, candidate, len(audio) / OUTPUT_RATE), computed=tuple(job.computed),
            spent_s=round(ranked.spent_s + float(kept.about["seconds"]), 3),
        )  # fmt: skip

    def _generator(self, job: _Pending, candidate: CodeCandidate, number: int) -> torch.Generator:
        """The random numbers of a candidate as its sampling left them."""
        generator = candidate_generator(job.request.draw, self.tts.family.seed_index(0), number)
        codes = self.tts.model.autoregressive.config.codes + 2
        skip_codes(generator, len(candidate.codes) + candidate.stopped, job.plan.options, codes)
        return generator

    def _words(self, plan: SentencePlan, candidate: CodeCandidate, seconds: float) -> tuple[WordTime, ...]:
        found = align(self.tts.model.clvp, plan.prompt.text_ids, candidate.codes)
        if found is None:
            return ()
        symbols = [self.tts.family.tokenizer.symbol(one) for one in plan.prompt.text_ids.tolist()]
        return found.words(plan.sentence.spoken, symbols, seconds)


def _chosen(options: SpeechOptions, names: Iterable[str]) -> Mapping[str, Any]:
    values = asdict(options)
    return {name: values[name] for name in names}
