"""Sentences to takes, stage by stage, each looked up in the store before it is computed.

    sentence -> candidates of codes, ranked (stage ``codes``) -> waveform of one of them (stage ``wave``)
                    ^------------ which one, if takes are verified (stage ``verdict``) -------v

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
from chelys.audiobook.verify import Verdict, Verifier, halves, of_parts
from chelys.inference.code_sampling import skip_codes
from chelys.inference.generation import CodeCandidate, CodeGroup, CodeSampler, generate
from chelys.inference.options import SpeechOptions
from chelys.inference.rendering import SentencePlan
from chelys.inference.speech import silence
from chelys.inference.synthesizer import Synthesizer, candidate_generator
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
    "speed", "decoder", "sampler", "steps", "eta", "guidance", "guidance_ramp", "guidance_share",
    "diffusion_temperature", "redact",
)  # fmt: skip
#: Further candidates are sampled at twice the temperature of the first, then at three times, up to this.
HOTTEST = 0.9
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
        drawn_for = f"{self.seed}\n{self.sentence.phonemes}\n{self.occurrence}"
        return int.from_bytes(hashlib.sha256(drawn_for.encode()).digest()[:4], "big")


def numbered(requests: Iterable[SentenceRequest]) -> Iterator[SentenceRequest]:
    """The same requests, each with how often the same words were asked for before."""
    before: dict[bytes, int] = {}
    for request in requests:
        words = hashlib.sha256(request.sentence.phonemes.encode()).digest()[:8]
        yield replace(request, occurrence=before.get(words, 0))
        before[words] = before.get(words, 0) + 1


@dataclass(frozen=True)
class Take:
    """One sentence, spoken."""

    audio: np.ndarray  # ``(n,)`` float32 in [-1, 1] at 24 kHz, without pauses
    codes: list[int]  # what it was rendered from
    score: float  # of its candidate, higher is better; comparable between takes of one sentence
    candidate: int  # number of the candidate; -1 if the sentence was spoken in two parts
    stopped: bool  # whether it came to its end by itself
    key: str  # of its wave in a store
    sentence_key: str  # of the sentence, its voice and its candidates: what a choice is kept under
    words: tuple[WordTime, ...] = ()  # when each word is said; empty if the model has no reader
    computed: tuple[str, ...] = ()  # stages that were computed now, empty if all came from the store
    spent_s: float = 0.0  # seconds of work that computing it took, whenever that was
    verdict: Verdict | None = None  # if takes are verified
    tried: int = 1  # candidates that were sampled for it

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return len(self.audio) / OUTPUT_RATE

    @property
    def passed(self) -> bool:
        """Whether nothing was found against it."""
        return self.verdict is None or self.verdict.passed


@dataclass
class _Ranked:
    """Candidates of a sentence that were sampled together, with their scores."""

    first: int  # number of the first one
    candidates: list[CodeCandidate]
    scores: list[float]
    order: list[int]  # places, best first
    spent_s: float

    @property
    def best(self) -> int:
        """Number of the best candidate."""
        return self.first + self.order[0]


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

    def hotter(self, first: int) -> SpeechOptions:
        """Options of the candidates from number ``first`` on: later ones differ more from one another."""
        options, times = self.plan.options, 1 + first // len(self.plan.generators)
        return replace(options, temperature=min(times * options.temperature, max(options.temperature, HOTTEST)))

    def inputs_from(self, first: int) -> dict[str, Any]:
        """Of the codes of these candidates."""
        later = {"first": first, "options": _chosen(self.hotter(first), SAMPLING)}
        return {**self.inputs, **later} if first else self.inputs


class SentenceRenderer:
    """Makes takes of sentences.

    Args:
        tts: Whose samples the takes have.
        store: Where stages are looked up and kept; None computes all.
        verify: Gives a verdict of each take; more candidates are sampled until one passes. A sentence that never does
            is spoken in two parts, and flagged if these do not pass either.
        choices: Number of the candidate that a person chose, by ``Take.sentence_key``.
        on_progress: Called with the stage, steps done and their number, as in ``Synthesizer.speak``.
    """

    def __init__(
        self, tts: Synthesizer, store: StageStore | None, *, verify: Verifier | None = None,
        choices: Mapping[str, int] | None = None, on_progress: Callable[[str, int, int], None] | None = None,
    ) -> None:  # fmt: skip
        self.tts, self.store, self.verify, self.choices = tts, store, verify, choices or {}
        self._progress = on_progress
        self._sampler = CodeSampler(tts.reader)
        self._waiting = deque[_Pending]()  # sentences ahead of the one that is wanted

    def takes(self, requests: Iterable[SentenceRequest]) -> Iterator[Take]:
        """A take of each sentence, in order. Requests are asked for a few tens ahead, so that several are sampled
        together.

        Raises what ``Synthesizer.speak`` raises.
        """
        source, waiting = iter(requests), self._waiting
        try:
            while True:
                self._look_ahead(source, waiting)
                if not waiting:
                    return
                yield self._take(waiting.popleft())
        finally:
            for job in waiting:
                if job.group is not None:
                    self._sampler.leave(job.group)
            waiting.clear()
            if self.store is not None:
                self.store.release()

    def alternatives(self, request: SentenceRequest, count: int) -> list[Take]:
        """Takes of a sentence to choose from, at most ``count``: the best of its first candidates, without verdicts."""
        job = self._pending(request)
        ranked = self._sampled(job)
        return [self._rendered(job, ranked, ranked.first + place) for place in ranked.order[:count]]

    def verdict(self, judge: Verifier, request: SentenceRequest, take: Take) -> Verdict:
        """What a verifier finds of a take that was made of a request."""
        codes = torch.tensor(take.codes, device=self.tts.model.device)
        plan = self._pending(request).plan
        return judge.of_audio(plan, judge.of_codes(plan, CodeCandidate(codes, take.stopped)), take.audio)

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
            if job.ranked is None and self._is_free(job):
                job.group = self._sampler.join(job.plan.prompt, job.plan.options, job.plan.generators, rules)

    def _pending(self, request: SentenceRequest) -> _Pending:
        alone = replace(request.sentence, pause_s=0.0, lead_s=0.0)
        document = Document(alone.text, [alone])
        voice = self.tts.resolve_voice(request.voice, seed=request.seed)
        [plan] = self.tts.plan(document, voice=voice, seed=request.draw, options=request.options)
        inputs = {
            "samples": SAMPLES, "model": self.tts.fingerprint, "compat": self.tts.family.compat,
            "phonemes": request.sentence.phonemes, "voice": plan.voice.fingerprint, "seed": request.seed,
            "occurrence": request.occurrence, "options": _chosen(plan.options, SAMPLING),
        }  # fmt: skip
        return _Pending(request, plan, inputs, self._known(plan, inputs, 0))

    # ---- codes ------------------------------------------------------------------------------------------------------

    def _known(self, plan: SentencePlan, inputs: Mapping[str, Any], first: int) -> _Ranked | None:
        """Candidates that the store has."""
        kept = None if self.store is None else self.store.get("codes", inputs)
        return None if kept is None else self._unpack(plan, kept, first)

    def _is_free(self, job: _Pending) -> bool:
        """Whether the candidates of a sentence are to be sampled here: no other process is at it, or just was."""
        if self.store is None:
            return True
        if self.store.claim("codes", job.inputs):
            job.ranked = self._known(job.plan, job.inputs, 0)  # it may have come to its end since it was looked for
            if job.ranked is None:
                return True
            self.store.release("codes", job.inputs)
        return False

    def _kept(self, stage: str, inputs: Mapping[str, Any]) -> Kept | None:
        """What the store has; None if it is to be computed here. What another process computes is waited for."""
        return None if self.store is None else self.store.get_or_claim(stage, inputs, self._go_on)

    def _go_on(self) -> bool:
        """Sample one code more of the sentences ahead; whether there was any to do.

        What comes to its end is kept at once, so that no two processes wait for one another.
        """
        ahead = [job for job in self._waiting if job.group is not None and job.ranked is None]
        if ahead:
            self._step(ahead)
            for job in ahead:
                self._finish(job)
        return bool(ahead)

    def _more(self, job: _Pending, first: int) -> _Ranked:
        """As many candidates again, from number ``first`` on."""
        plan, inputs = replace(job.plan, options=job.hotter(first)), job.inputs_from(first)
        kept = self._kept("codes", inputs)
        ranked = None if kept is None else self._unpack(plan, kept, first)
        if ranked is None:
            started = time.perf_counter()
            generators = [self._fresh(job, first + place) for place in range(len(plan.generators))]
            ranked = self._ranked(job, self._generated(plan, generators), first, inputs, started)
        return ranked

    def _generated(self, plan: SentencePlan, generators: list[torch.Generator]) -> list[CodeCandidate]:
        return generate(
            self.tts.reader, [plan.prompt] * len(generators), plan.options, generators,
            rules=self.tts.family.decoding_rules(plan.options), progress=self._progress,
        )  # fmt: skip

    def _sampled(self, job: _Pending) -> _Ranked:
        """The first candidates of a sentence, from the store or sampled, with those that wait for their turn."""
        if job.ranked is None and job.group is None:
            kept, started = self._kept("codes", job.inputs), time.perf_counter()
            if kept is not None:
                job.ranked = self._unpack(job.plan, kept, 0)
            else:
                candidates = self._generated(job.plan, job.plan.generators)
                job.ranked = self._ranked(job, candidates, 0, job.inputs, started)
        self._finish(job)
        while job.ranked is None:
            self._step([job, *self._waiting])
            if self._progress and job.group is not None:
                self._progress("sampling", *job.group.progress)
            self._finish(job)
        return job.ranked

    def _step(self, jobs: Iterable[_Pending]) -> None:
        """Sample one code more for each candidate of sentences, which share the time that it takes."""
        began, sharing = time.perf_counter(), [job for job in jobs if job.group is not None and job.group.active]
        self._sampler.step()
        for job in sharing:
            job.spent_s += (time.perf_counter() - began) / len(sharing)

    def _finish(self, job: _Pending) -> None:
        """Rank and keep the candidates of a sentence, if they have just come to their end."""
        if job.ranked is None and job.group is not None and job.group.done:
            job.ranked = self._ranked(job, job.group.candidates, 0, job.inputs, time.perf_counter() - job.spent_s)

    def _ranked(
        self, job: _Pending, candidates: list[CodeCandidate], first: int, inputs: Mapping[str, Any], started: float
    ) -> _Ranked:
        """Rank candidates, and keep them."""
        scores, order = self.tts.rank(job.plan, candidates)
        ranked = _Ranked(first, candidates, scores, order, time.perf_counter() - started)
        job.computed.append("codes")
        if self.store is not None:
            self.store.put("codes", inputs, *self._pack(job, ranked))
        # others are rendered from codes alone, whether they come from the store or not
        ranked.candidates = [c if i == order[0] else replace(c, latents=()) for i, c in enumerate(candidates)]
        return ranked

    def _pack(self, job: _Pending, ranked: _Ranked) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and plain values of candidates; the latents are those of the best."""
        rows = [candidate.codes.cpu().numpy().astype(np.int16) for candidate in ranked.candidates]
        arrays: dict[str, np.ndarray] = {
            "codes": np.concatenate(rows), "lengths": np.array([len(row) for row in rows], np.int32),
            "stopped": np.array([candidate.stopped for candidate in ranked.candidates]),
            "scores": np.array(ranked.scores, np.float64), "order": np.array(ranked.order, np.int32),
        }  # fmt: skip
        latents = ranked.candidates[ranked.order[0]].latents
        if latents and self.tts.keeps_latents(job.plan):
            arrays["latents"] = torch.stack(tuple(latents)).float().cpu().numpy()
        return arrays, {"seconds": round(ranked.spent_s, 3), "label": job.request.sentence.text}

    def _unpack(self, plan: SentencePlan, kept: Kept, first: int) -> _Ranked:
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
        return _Ranked(first, candidates, arrays["scores"].tolist(), order, float(kept.about["seconds"]))

    # ---- takes ------------------------------------------------------------------------------------------------------

    def _take(self, job: _Pending, *, whole: bool = False) -> Take:
        """The take that was chosen, or passes, or is the best. ``whole``: the sentence is not spoken in parts."""
        ranked, chosen = self._sampled(job), self.choices.get(key_of("codes", job.inputs))
        if chosen is not None:
            first = chosen - chosen % len(ranked.candidates)
            return self._rendered(job, ranked if not first else self._more(job, first), chosen)
        return self._rendered(job, ranked, ranked.best) if self.verify is None else self._checked(job, ranked, whole)

    def _checked(self, job: _Pending, ranked: _Ranked, whole: bool) -> Take:
        assert self.verify is not None
        inputs = {
            **job.inputs, "rendering": _chosen(job.plan.options, RENDERING), "verify": self.verify.inputs,
            "whole": whole, "hottest": HOTTEST,
        }  # fmt: skip
        kept = self._kept("verdict", inputs)
        if kept is not None:
            found = kept.about
            verdict, number = Verdict.from_json(found["verdict"]), found["candidate"]
            if verdict.split:
                parts = halves(job.plan.sentence)
                assert parts is not None
                take = self._in_parts(job, parts)
            else:
                first = number - number % len(ranked.candidates)
                take = self._rendered(job, ranked if not first else self._more(job, first), number)
            return replace(take, verdict=verdict, tried=found["tried"], spent_s=found["seconds"])
        take = self._judged(job, ranked, whole)
        if self.store is not None:
            assert take.verdict is not None
            found = {"candidate": take.candidate, "tried": take.tried, "seconds": take.spent_s}
            found |= {"verdict": take.verdict.as_json(), "label": job.request.sentence.text}
            self.store.put("verdict", inputs, {}, found)
        return take

    def _judged(self, job: _Pending, ranked: _Ranked, whole: bool) -> Take:
        """The first good take of ever more candidates; else the surest one, in two parts if it fails."""
        verify, plan = self.verify, job.plan
        assert verify is not None
        pool: list[tuple[Verdict, int, _Ranked]] = []  # candidates that are not rendered yet, the surest first
        made: list[Take] = []
        tried, spent = 0, 0.0

        def render(verdict: Verdict, number: int, ranked: _Ranked) -> None:
            nonlocal spent
            take, started = self._rendered(job, ranked, number), time.perf_counter()
            verdict = verify.of_audio(plan, verdict, take.audio)
            spent += take.spent_s - ranked.spent_s + time.perf_counter() - started
            made.append(replace(take, verdict=verdict, tried=tried, spent_s=round(spent, 3)))

        for batch in range(verify.settings.rounds + 2):  # the best of the first alone, the others, more and more
            if batch > 1:
                ranked = self._more(job, (batch - 1) * len(plan.generators))
            if batch != 1:
                tried, spent = tried + len(ranked.candidates), spent + ranked.spent_s
            started = time.perf_counter()
            for place in {0: ranked.order[:1], 1: ranked.order[1:]}.get(batch, ranked.order):
                pool.append((verify.of_codes(plan, ranked.candidates[place]), ranked.first + place, ranked))
            pool.sort(key=lambda one: one[0].danger)
            spent += time.perf_counter() - started
            for _ in range(2):
                if pool and verify.good(pool[0][0]):
                    render(*pool.pop(0))
                    if self._enough(made):
                        return replace(min(made, key=_danger), tried=tried, spent_s=made[-1].spent_s)
        if pool:
            render(*pool[0])
        least = min(made, key=_danger)
        parts = None if whole or least.passed else halves(plan.sentence)
        if parts is not None:
            take = self._in_parts(job, parts)
            tried, spent = tried + take.tried, spent + take.spent_s
            least = take if take.passed else least
        return replace(least, tried=tried, spent_s=round(spent, 3))

    def _enough(self, made: list[Take]) -> bool:
        """Whether the last take is good, or so many have passed that the surest of them will do."""
        verify, last = self.verify, made[-1].verdict
        assert verify is not None and last is not None
        return verify.good(last) or sum(take.passed for take in made) >= verify.settings.right_takes

    def _in_parts(self, job: _Pending, parts: tuple[Sentence, Sentence]) -> Take:
        """A sentence as two, with the pause that is between them."""
        takes = []
        for part in parts:
            pending = self._pending(replace(job.request, sentence=part))
            takes.append(self._take(pending, whole=True))
            job.computed += pending.computed
        first, second = takes
        pause = silence(parts[0].pause_s)
        later = first.seconds + len(pause) / OUTPUT_RATE
        words = tuple(replace(word, start_s=word.start_s + later, end_s=word.end_s + later) for word in second.words)
        verdict = None
        if first.verdict is not None and second.verdict is not None:
            verdict = of_parts(first.verdict, second.verdict, len(first.words))
        return Take(
            np.concatenate((first.audio, pause, second.audio)), first.codes + second.codes,
            first.score + second.score, -1, first.stopped and second.stopped,
            key_of("parts", {"of": [first.key, second.key]}), key_of("codes", job.inputs), first.words + words,
            tuple(job.computed), first.spent_s + second.spent_s, verdict, first.tried + second.tried,
        )  # fmt: skip

    # ---- waves ------------------------------------------------------------------------------------------------------

    def _rendered(self, job: _Pending, ranked: _Ranked, number: int) -> Take:
        """The take of one candidate, from the store or rendered."""
        plan, place = job.plan, number - ranked.first
        candidate = ranked.candidates[place]
        inputs = {
            **job.inputs_from(ranked.first), "candidate": number, "rendering": _chosen(plan.options, RENDERING),
        }  # fmt: skip
        kept = self._kept("wave", inputs)
        if kept is None:
            started, generator = time.perf_counter(), self._fresh(job, number)
            codes = self.tts.model.autoregressive.config.codes + 2
            skip_codes(generator, len(candidate.codes) + candidate.stopped, plan.options, codes)
            audio = self.tts.render_candidate(plan, candidate, generator, self._progress)
            about = {"seconds": round(time.perf_counter() - started, 3), "label": job.request.sentence.text}
            kept = Kept({"audio": audio}, about)
            job.computed.append("wave")
            if self.store is not None:
                self.store.put("wave", inputs, kept.arrays, kept.about)
        audio = kept.arrays["audio"]
        return Take(
            audio, candidate.codes.tolist(), ranked.scores[place], number, candidate.stopped, key_of("wave", inputs),
            key_of("codes", job.inputs), self._words(plan, candidate, len(audio) / OUTPUT_RATE), tuple(job.computed),
            round(ranked.spent_s + float(kept.about["seconds"]), 3), tried=len(ranked.candidates),
        )  # fmt: skip

    def _fresh(self, job: _Pending, number: int) -> torch.Generator:
        """The random numbers of a candidate before its sampling."""
        return candidate_generator(job.request.draw, self.tts.family.seed_index(0), number)

    def _words(self, plan: SentencePlan, candidate: CodeCandidate, seconds: float) -> tuple[WordTime, ...]:
        found = align(self.tts.model.clvp, plan.prompt.text_ids, candidate.codes)
        if found is None:
            return ()
        symbols = [self.tts.family.tokenizer.symbol(one) for one in plan.prompt.text_ids.tolist()]
        return found.words(plan.sentence.spoken, symbols, seconds)


def _danger(take: Take) -> tuple[bool, float, float, float]:
    assert take.verdict is not None
    return take.verdict.danger


def _chosen(options: SpeechOptions, names: Iterable[str]) -> Mapping[str, Any]:
    values = asdict(options)
    return {name: values[name] for name in names}
