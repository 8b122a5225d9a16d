"""Recordings to clips: speech is detected, cut at pauses, never in a word, and kept as one FLAC file per recording.

The paper cuts at half a second of silence. Here a stretch that is too long is cut at its longest shorter pause, and one
without any pause is dropped. Everything runs in pieces: memory does not grow with the recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import soundfile as sf

from chelys.audio.io import Resampler, growing_sound_file
from chelys.audio.stream import AudioStream, open_audio
from chelys.data.prepare.work import Item, PrepareStage, Row, Store, key
from chelys.errors import AudioError, ConfigError, MissingExtra

VAD_RATE = 16_000  # Hz
FRAME = 512  # samples, 32 ms
FRAME_SECONDS = FRAME / VAD_RATE
TOO_SHORT = "too short"
NO_PAUSE = "no pause to cut at"
_CONTEXT = 64  # samples before each frame that the network sees again
_CHUNK = 64 * FRAME  # samples that the detector gets at once, 2 s


# ---- voice activity -------------------------------------------------------------------------------------------------


class VoiceActivity(Protocol):
    """A detector of speech, with the state of one recording."""

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """Probability of speech ``(f,)`` in the next f frames, from samples ``(f * FRAME,)`` at 16 kHz."""
        ...


def make_detector(name: str) -> VoiceActivity:
    """A detector for one recording: ``silero``, or ``energy`` for recordings without noise.

    Raises ConfigError if there is no such detector; MissingExtra if Silero VAD is not installed.
    """
    if name == "silero":
        return Silero(_silero_session())
    if name == "energy":
        return Energy()
    raise ConfigError(f"unknown detector {name!r} of speech: choose silero or energy")


class Silero:
    """Silero VAD, a recurrent network, run here because the package's own classes start anew with each call."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.hidden = np.zeros((1, 1, 128), np.float32)
        self.cell = np.zeros((1, 1, 128), np.float32)
        self.context = np.zeros(_CONTEXT, np.float32)

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        if not len(audio):
            return np.zeros(0, np.float32)
        padded = np.concatenate([self.context, audio])
        frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME + _CONTEXT)[::FRAME]
        inputs = {"input": np.ascontiguousarray(frames), "h": self.hidden, "c": self.cell}
        probabilities, self.hidden, self.cell = self.session.run(None, inputs)
        self.context = audio[-_CONTEXT:]
        return probabilities.reshape(-1)


@lru_cache(1)
def _silero_session() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("prepare", error) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    spec = find_spec("silero_vad")  # importing the package would load torch and set its number of threads
    network = Path(spec.origin).parent / "data" / "silero_vad_16k_sequence.onnx" if spec and spec.origin else None
    if network is None or not network.is_file():
        raise MissingExtra("prepare", ImportError("Silero VAD", name="silero-vad"))
    return onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])


class Energy:
    """Speech is 12 dB louder than the background and louder than -50 dBFS."""

    _MIN_DB = -50.0
    _ABOVE_BACKGROUND_DB = 12.0
    _RISE_DB = 0.02  # of the background's estimate with each frame

    def __init__(self) -> None:
        self.background = -70.0

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        power = np.square(audio.reshape(-1, FRAME), dtype=np.float64).mean(1)
        out = np.zeros(len(power), np.float32)
        for i, level in enumerate(10 * np.log10(power + 1e-10)):
            self.background = min(max(level, -90.0), self.background + self._RISE_DB)
            out[i] = float(level > max(self._MIN_DB, self.background + self._ABOVE_BACKGROUND_DB))
        return out


# ---- where to cut ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SegmenterSettings:
    """Where to cut."""

    RENAMED: ClassVar[dict[str, str | None]] = {
        "pause": "min_silence", "least": "min_seconds", "most": "max_seconds", "least_pause": "min_pause",
        "margin": "padding", "on": "onset", "off": "offset",
    }  # fmt: skip

    min_silence: float = 0.5  # silence between two clips (seconds); 0.5 in the paper
    min_seconds: float = 0.6  # shortest clip
    max_seconds: float = 20.0  # longest clip; 20 in the paper
    min_pause: float = 0.16  # shortest pause at which a stretch that is too long is cut (seconds)
    padding: float = 0.2  # silence kept before and after speech, where there is as much (seconds)
    onset: float = 0.5  # probability at which speech begins
    offset: float = 0.35  # probability below which it ends


class ClipSpan(NamedTuple):
    """A piece of a recording: start and end (seconds), and why it is no clip, or None."""

    start: float
    end: float
    reason: str | None


class SpeechSegment(NamedTuple):
    """Speech without a pause: first frame, and the first frame after it."""

    start: int
    end: int


class Segmenter:
    """Cuts one recording as its frames arrive, with a memory of one clip. Frames are 32 ms."""

    def __init__(self, settings: SegmenterSettings) -> None:
        self.settings = settings
        self.frame = 0
        self._begun: int | None = None  # first frame of the speech segment that is not over yet
        self._group: list[SpeechSegment] = []  # segments of the current stretch, which becomes one clip or more
        self._before = 0  # where the silence before the stretch begins
        self._min_silence = round(settings.min_silence / FRAME_SECONDS)
        self._min_pause = max(1, round(settings.min_pause / FRAME_SECONDS))

    @property
    def open_since(self) -> float:
        """No later clip begins before this time (seconds)."""
        if self._group:
            begin = self._group[0].start
        else:
            begin = self.frame if self._begun is None else self._begun
        return max(0.0, begin * FRAME_SECONDS - self.settings.padding)

    def add(self, probabilities: Iterable[float]) -> Iterator[ClipSpan]:
        """Go on with the probabilities of the next frames; yields the pieces that are complete."""
        for probability in probabilities:
            if self._begun is None and probability >= self.settings.onset:
                self._begun = self.frame
            elif self._begun is not None and probability < self.settings.offset:
                self._group.append(SpeechSegment(self._begun, self.frame))
                self._begun = None
            self.frame += 1
            yield from self._split()
            silent = self._group and self._begun is None
            if silent and self.frame - self._group[-1].end >= self._min_silence:
                yield from self._close()

    def end(self, *, damaged: bool = False) -> Iterator[ClipSpan]:
        """The recording ends here; if it is damaged, the stretch in progress is not whole and is left out."""
        if self._begun is not None and not damaged:
            self._group.append(SpeechSegment(self._begun, self.frame))
        elif self._begun is not None and self._group:
            self._group = []
        self._begun = None
        yield from self._split()
        if self._group:
            yield from self._close()

    def _length(self, start: int, end: int) -> float:
        return (end - start) * FRAME_SECONDS + 2 * self.settings.padding

    def _split(self) -> Iterator[ClipSpan]:
        """Cut a stretch that has become too long at its longest pause."""
        while self._group:
            first = self._group[0].start
            last = self._group[-1].end if self._begun is None else self.frame
            if self._length(first, last) <= self.settings.max_seconds:
                return
            at = self._longest_pause()
            if at is None:  # this can never be cut: one segment, however long it grows
                self._group = [SpeechSegment(first, self._group[-1].end)]
                return
            piece, self._group = self._group[: at + 1], self._group[at + 1 :]
            after = self._group[0].start if self._group else self._begun
            assert after is not None
            yield self._piece(piece, after)

    def _longest_pause(self) -> int | None:
        """Index of the segment after which to cut; None if there is no pause."""
        starts = [segment.start for segment in self._group[1:]]
        if self._begun is not None:
            starts.append(self._begun)
        pauses = [(start - segment.end, i) for i, (segment, start) in enumerate(zip(self._group, starts, strict=False))]
        usable = [(length, i) for length, i in pauses if length >= self._min_pause]
        lengths = {i: self._length(self._group[0].start, self._group[i].end) for _, i in usable}
        fitting = [p for p in usable if self.settings.min_seconds <= lengths[p[1]] <= self.settings.max_seconds]
        if fitting:
            return max(fitting)[1]
        return usable[0][1] if usable else None  # what comes before it is too short or too long for a clip

    def _close(self) -> Iterator[ClipSpan]:
        piece, self._group = self._group, []
        yield self._piece(piece, self.frame)

    def _piece(self, segments: list[SpeechSegment], after: int) -> ClipSpan:
        """A piece with its padding, on each side at most half of the silence that there is."""
        start, end, padding = segments[0].start, segments[-1].end, self.settings.padding
        before = min(padding, (start - self._before) * FRAME_SECONDS / (2 if self._before else 1))
        behind = min(padding, (after - end) * FRAME_SECONDS / 2)
        self._before = end
        piece = ClipSpan(start * FRAME_SECONDS - before, end * FRAME_SECONDS + behind, None)
        if piece.end - piece.start < self.settings.min_seconds:
            return piece._replace(reason=TOO_SHORT)
        return piece if self._length(start, end) <= self.settings.max_seconds else piece._replace(reason=NO_PAUSE)


# ---- the stage ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SegmentSettings:
    """How recordings are cut."""

    RENAMED: ClassVar[dict[str, str | None]] = {"cut": "segmenter"}

    rate: int = 24_000  # of the clips (Hz)
    detector: str = "silero"  # ``silero`` or ``energy``; see ``make_detector``
    segmenter: SegmenterSettings = field(default_factory=SegmenterSettings)  # where to cut


@dataclass(frozen=True)
class Segment(PrepareStage):
    """The stage. Its first row is about the recording, the others about its clips."""

    settings: SegmentSettings = SegmentSettings()
    name: str = "segment"
    version: int = 2  # 1 used the network that faster-whisper carries

    def item(self, raw: Path, source: str, sha256: str) -> Item:
        """Of one recording. Its suffix tells some formats; the rest of its name does not matter."""
        return Item({"sha256": sha256, "suffix": Path(source).suffix.lower()}, {"raw": str(raw), "source": source})

    def check(self) -> None:
        make_detector(self.settings.detector)

    def work(self, item: Item, store: Store) -> list[Row]:
        path, name = Path(item.place["raw"], item.place["source"]), key(self, item)
        audio = f"audio/{name[:2]}/{name}.flac"
        try:
            with open_audio(path) as stream, store.growing(store.out / audio) as partial:
                run = _SegmentRun(self.settings, stream)
                with growing_sound_file(partial, self.settings.rate) as file:
                    rows = list(run.clips(file))
            if not run.read:
                return [_unreadable(stream.damage or "holds no samples")]
        except MissingExtra:
            raise  # it may be installed by the next run
        except AudioError as error:
            return [_unreadable(str(error))]
        seconds = run.read / stream.sample_rate
        head: Row = {"status": "read", "reason": stream.damage, "seconds": seconds, "audio": audio}
        return [head, *rows]


def _unreadable(reason: str) -> Row:
    return {"status": "unreadable", "reason": reason, "seconds": 0.0, "audio": None}


class _SegmentRun:
    """One recording in progress: its samples go to the detector at 16 kHz, and to the clips at their rate."""

    def __init__(self, settings: SegmentSettings, stream: AudioStream) -> None:
        self.settings, self.stream = settings, stream
        self.read = 0  # samples of the recording
        self.detector: VoiceActivity = make_detector(settings.detector)
        self.segmenter = Segmenter(settings.segmenter)
        self._to_detector = Resampler(stream.sample_rate, VAD_RATE)
        self._to_clips = Resampler(stream.sample_rate, settings.rate)
        self._waiting = np.zeros(0, np.float32)  # for the detector
        self._buffer = np.zeros(0, np.float32)  # what may become a clip
        self._buffer_start = 0  # where the buffer begins in the recording, samples at the clips' rate
        self._written = 0  # samples

    def clips(self, file: sf.SoundFile) -> Iterator[Row]:
        """Write all clips, one after another; yields their rows."""
        for block in self.stream.blocks():
            self.read += len(block)
            yield from self._write(self._detect(self._to_detector(block), self._to_clips(block)), file)
        empty = np.zeros(0, np.float32)
        rest = np.concatenate([self._waiting, self._to_detector(empty, last=True)])
        self._waiting = np.zeros(0, np.float32)
        padded = np.pad(rest, (0, -len(rest) % FRAME))
        yield from self._write(self._detect(padded, self._to_clips(empty, last=True), chunk=FRAME), file)
        yield from self._write(self.segmenter.end(damaged=self.stream.damage is not None), file)

    def _detect(self, coarse: np.ndarray, fine: np.ndarray, *, chunk: int = _CHUNK) -> Iterator[ClipSpan]:
        self._buffer = np.concatenate([self._buffer, fine])
        self._waiting = np.concatenate([self._waiting, coarse])
        whole = len(self._waiting) - len(self._waiting) % chunk
        for first in range(0, whole, _CHUNK):
            found = self.detector(self._waiting[first : min(first + _CHUNK, whole)])
            yield from self.segmenter.add(found.tolist())
        self._waiting = self._waiting[whole:]

    def _write(self, pieces: Iterator[ClipSpan], file: sf.SoundFile) -> Iterator[Row]:
        rate = self.settings.rate
        for piece in pieces:
            row: Row = {"start": round(piece.start, 3), "end": round(piece.end, 3), "reason": piece.reason}
            if piece.reason is None:
                first = round(piece.start * rate) - self._buffer_start
                assert first >= 0, "the beginning of a clip left the buffer"
                samples = np.clip(self._buffer[first : round(piece.end * rate) - self._buffer_start], -1.0, 1.0)
                file.write(samples)
                row["end"] = round(piece.start + len(samples) / rate, 3)  # the last frame may go beyond the recording
                row["audio_start"], row["audio_end"] = self._written, self._written + len(samples)
                self._written += len(samples)
            yield row
        # Speech whose end is not known yet is kept, but never more than could become a clip.
        since = round((self.segmenter.open_since - 0.1) * rate)
        longest = round((self.settings.segmenter.max_seconds + 30) * rate)
        drop = max(since, len(self._buffer) + self._buffer_start - longest) - self._buffer_start
        if drop > rate:
            self._buffer = self._buffer[drop:].copy()
            self._buffer_start += drop
