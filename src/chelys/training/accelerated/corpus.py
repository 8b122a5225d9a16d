"""A corpus that lies on the accelerator as a whole: mels, texts, codes, waveforms, pitch; and batches of fixed shapes.

Every clip also comes at other sizes of its speaker, resampled so that pitch and formants move together; such a speaker
counts as another voice. Clips are padded to one of a few lengths, and every batch of a length has as many rows: an
accelerator plans its kernels, or records its graph, once for each shape.

b rows, f bands, s mel frames, m codes, t text ids, c reference clips, r frames of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from chelys.audio.io import RMS
from chelys.audio.mel import MelRange, log_mel
from chelys.audio.rates import FRAMES_PER_CODE, HOP, MEL_24K, OUTPUT_RATE
from chelys.audio.resample import sinc_resample
from chelys.data.clip_pack import PackedClips
from chelys.data.pairs import Batch
from chelys.errors import ManifestError
from chelys.models.dvae import DVAE

#: Sizes of a speaker: what the sample rate is multiplied by; the first is the speaker.
SPEAKER_SIZES = (1.0, 0.90, 0.94, 1.06, 1.11)
#: Mel frames to which clips are padded, each with the shortest that holds it; longer clips are left out.
WIDTHS = (128, 192, 256, 384, 512, 768, 1024, 1536)
MIN_FRAMES = 32
#: Samples that are turned into mels at once.
_CHUNK = 10_000_000


class DeviceCorpus:
    """Clips on a device; a row is a clip at one size of its speaker.

    Attributes:
        mel: ``(frames of all rows, f)`` float16 in network units, row after row.
        codes: ``(frames / 4,)`` int16, once `encode` has made them.
        waveform: int16, of the rows at their own size.
        f0_hz: Pitch at each frame of these rows; 0 without voice, and of rows that are not ``pitched``.
        mean: Mean spectrum of each row, ``(rows, f)``.
    """

    codes: Tensor

    def __init__(
        self, clips: PackedClips, mel_range: MelRange, device: torch.device | str, *, sizes: int = 3, seed: int = 0
    ) -> None:
        self.device = torch.device(device)
        self.mel_range = mel_range
        rng = np.random.default_rng(seed)
        names, speaker = np.unique(clips.speakers, return_inverse=True)
        # each speaker comes at sizes of its own, none of them twice
        order = np.stack([np.concatenate([[0], 1 + rng.permutation(len(SPEAKER_SIZES) - 1)]) for _ in names])
        usable = np.array([len(audio) > MIN_FRAMES * HOP * rate / OUTPUT_RATE for audio, rate in
                           zip(clips.audio, clips.rates, strict=True)])  # fmt: skip
        wanted = [
            (i, v) for v in range(sizes) for i in np.flatnonzero(usable & (~clips.held_out if v else True)).tolist()
        ]
        groups: dict[tuple[int, float], list[tuple[int, int, int]]] = {}
        for i, v in wanted:
            key = int(clips.rates[i]), SPEAKER_SIZES[order[speaker[i], v]]
            groups.setdefault(key, []).append((len(clips.audio[i]), i, v))
        mels: list[Tensor] = []
        waveforms: list[Tensor] = []
        pitch = [np.zeros(0, np.float16)]
        rows: list[tuple[int, int, int]] = []
        for (rate, size), members in groups.items():
            for part in _chunks(sorted(members)):
                for (_, i, v), (mel, waveform) in zip(part, self._features(clips, part, rate, size), strict=True):
                    if MIN_FRAMES <= len(mel) <= WIDTHS[-1]:
                        rows.append((i, v, len(mel)))
                        mels.append(mel)
                        waveforms.append(waveform if v == 0 else waveform[:0])
                        if v == 0:  # a frame that the tracker did not reach is 0, and so is all that was not tracked
                            pitch.append(np.resize(np.append(clips.f0_hz[i], np.float16(0)), len(mel)))
        if not rows:
            raise ManifestError("the packs hold no clip of a usable length")
        clip, variant, self.frames = np.array(rows).T
        self.mel, self.waveform = torch.cat(mels), torch.cat(waveforms)
        self._first = self.frames.cumsum() - self.frames
        self.starts = self._to_device(self._first)
        self.lengths = self._to_device(self.frames)
        counts = np.array([len(waveform) for waveform in waveforms])
        self.waveform_starts = self._to_device(counts.cumsum() - counts)
        self.f0_hz = self._to_device(np.concatenate(pitch)).float()
        self.pitched = (variant == 0) & np.array([len(clips.f0_hz[i]) > 0 for i in clip])
        self.resized, self.speaker = variant > 0, speaker[clip]
        self.voice = self.speaker * len(SPEAKER_SIZES) + order[self.speaker, variant]
        self.held_out, self.read, self.source = clips.held_out[clip], clips.read[clip], clips.sources[clip]
        self.width = np.array(WIDTHS)[np.searchsorted(WIDTHS, self.frames)]
        self._set_text(clips, clip)
        self._set_voices()
        owner = torch.repeat_interleave(torch.arange(len(rows), device=self.device), self.lengths)
        total = torch.zeros(len(rows), self.mel.shape[1], device=self.device)
        for at in torch.arange(len(owner), device=self.device).split(2_000_000):
            total.index_add_(0, owner[at], self.mel[at].float())
        self.mean = total / self.lengths[:, None]

    def _to_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, non_blocking=True)

    @torch.no_grad()
    def _features(
        self, clips: PackedClips, part: list[tuple[int, int, int]], rate: int, size: float
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Mel ``(s, f)`` and int16 waveform ``(256 s,)`` of clips of one rate, at one size."""
        block = torch.zeros(len(part), max(n for n, _, _ in part), dtype=torch.int16)
        for row, (n, i, _) in enumerate(part):
            block[row, :n] = torch.from_numpy(clips.audio[i])
        x = sinc_resample(block.to(self.device).float() / 32768, rate, OUTPUT_RATE)
        x = F.pad(sinc_resample(x, round(OUTPUT_RATE * size), OUTPUT_RATE), (0, MEL_24K.n_fft))
        lengths = [int(n * OUTPUT_RATE / rate / size) for n, _, _ in part]
        loudness = torch.stack([x[row, :n].square().mean().sqrt() for row, n in enumerate(lengths)])
        x = x * (RMS / (loudness + 1e-6)).clamp(max=8.0)[:, None]
        mel = self.mel_range.normalize(log_mel(x, MEL_24K)).transpose(1, 2).half()
        samples = (x * 32767).clamp(-32767, 32767).short()
        for row, n in enumerate(lengths):
            frames = n // HOP // FRAMES_PER_CODE * FRAMES_PER_CODE
            yield mel[row, :frames].clone(), samples[row, : frames * HOP].clone()

    def _set_text(self, clips: PackedClips, clip: np.ndarray) -> None:
        """Tables of text ids ``(2, rows, t)``, as they are and partly letters; widest text of each width."""
        kinds = [[kind[i] for i in clip] for kind in (clips.text, clips.grapheme_text)]
        longest = max(len(ids) for kind in kinds for ids in kind)
        table = np.zeros((2, len(clip), longest), np.int16)
        for number, kind in enumerate(kinds):
            for row, ids in enumerate(kind):
                table[number, row, : len(ids)] = ids
        lengths = np.array([[len(ids) for ids in kind] for kind in kinds])
        self.text, self.text_lengths = self._to_device(table), self._to_device(lengths)
        self.text_width = {int(w): int(lengths[:, self.width == w].max()) for w in np.unique(self.width)}

    def _set_voices(self) -> None:
        """Training rows voice by voice, and where each row stands among those of its voice; -1 if it does not."""
        order = np.argsort(self.voice, kind="stable")
        self._by_voice = order[~self.held_out[order]]
        voices, slots = self.voice[self._by_voice], int(self.voice.max()) + 1
        self._voice_start = np.searchsorted(voices, np.arange(slots))
        self._voice_rows = np.bincount(voices, minlength=slots)
        self._place = np.full(len(self.voice), -1)
        self._place[self._by_voice] = np.arange(len(voices)) - self._voice_start[voices]

    # ---- what a batch is made of ------------------------------------------------------------------------------------

    def mels(self, rows: np.ndarray, width: int, first: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Mels ``(b, f, width)`` from frame ``first`` on, zero behind their clips, and True where there is sound."""
        at_rows = self._to_device(rows)
        at = torch.arange(width, device=self.device) + (0 if first is None else self._to_device(first)[:, None])
        lengths = self.lengths[at_rows][:, None]
        mask = (at < lengths).expand(len(rows), -1)
        mel = self.mel[self.starts[at_rows][:, None] + torch.minimum(at, lengths - 1)].float() * mask[..., None]
        return mel.transpose(1, 2), mask

    def texts(self, rows: np.ndarray, width: int, graphemes: np.ndarray) -> tuple[Tensor, Tensor]:
        """Ids ``(b, t)``, t the same for all clips of a width, and lengths; ``graphemes``: which are partly letters."""
        kind, at_rows = self._to_device(graphemes.astype(np.int64)), self._to_device(rows)
        return self.text[kind, at_rows, : self.text_width[width]].long(), self.text_lengths[kind, at_rows]

    def references(self, rows: np.ndarray, frames: int, clips: int, rng: np.random.Generator) -> Tensor:
        """Crops ``(b, c, f, frames)`` of other clips of each row's voice, repeated where they are shorter.

        A voice with a single clip has crops of that one.
        """
        voice, own = self.voice[rows], self._place[rows]
        count = self._voice_rows[voice]
        crops = []
        for _ in range(clips):
            pick = (rng.random(len(rows)) * np.maximum(count - (own >= 0), 1)).astype(int)
            pick += (own >= 0) & (count > 1) & (pick >= own)
            at = np.minimum(self._voice_start[voice] + pick, len(self._by_voice) - 1)
            other = np.where(count > 0, self._by_voice[at], rows)
            first = (rng.random(len(rows)) * (np.maximum(self.frames[other] - frames, 0) + 1)).astype(int)
            at_other = self._to_device(other)
            place = self._to_device(first)[:, None] + torch.arange(frames, device=self.device)
            place = self.starts[at_other][:, None] + place % self.lengths[at_other][:, None]
            crops.append(self.mel[place].float().transpose(1, 2))
        return torch.stack(crops, 1)

    def pairs(
        self, rows: np.ndarray, width: int, rng: np.random.Generator, *, frames: int, clips: int, grapheme_share: float
    ) -> Batch:
        """Texts, codes and references of clips of one width; a share of the texts is partly letters."""
        at_rows = self._to_device(rows)
        text, text_lengths = self.texts(rows, width, rng.random(len(rows)) < grapheme_share)
        code_lengths = self.lengths[at_rows] // FRAMES_PER_CODE
        at = torch.arange(width // FRAMES_PER_CODE, device=self.device)
        place = (self.starts[at_rows] // FRAMES_PER_CODE)[:, None] + at
        codes = self.codes[place.clamp(max=len(self.codes) - 1)].long() * (at < code_lengths[:, None])
        return Batch(text, text_lengths, codes, code_lengths, self.references(rows, frames, clips, rng))

    def waveforms(self, rows: np.ndarray, first: np.ndarray, frames: int) -> tuple[Tensor, Tensor]:
        """Waveforms ``(b, 256 frames)`` and pitch ``(b, frames)`` of crops of rows at their speaker's own size."""
        begin = self.waveform_starts[self._to_device(rows)] + self._to_device(first) * HOP
        waveform = self.waveform[begin[:, None] + torch.arange(frames * HOP, device=self.device)].float() / 32767
        return waveform, self.f0_hz[(begin // HOP)[:, None] + torch.arange(frames, device=self.device)]

    # ---- made once --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, dvae: DVAE, frames: int = 200_000) -> None:
        """Make the codes of all rows, so many mel frames at once."""
        self.codes = torch.zeros(len(self.mel) // FRAMES_PER_CODE, dtype=torch.int16, device=self.device)
        for width in np.unique(self.width):
            mine = np.flatnonzero(self.width == width)
            for rows in np.array_split(mine, -(-len(mine) * int(width) // frames)):
                firsts, frames_of = self._first[rows].tolist(), self.frames[rows].tolist()
                mels = [self.mel[a : a + n].float().T for a, n in zip(firsts, frames_of, strict=True)]
                for first, codes in zip(firsts, dvae.encode_clips(mels, frames=int(width)), strict=True):
                    at = first // FRAMES_PER_CODE
                    self.codes[at : at + len(codes)] = codes.short()

    def move(self, device: torch.device | str) -> DeviceCorpus:
        """Put all tensors on a device."""
        self.device = torch.device(device)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(self.device))
        return self

    # ---- which rows come ------------------------------------------------------------------------------------------

    def chances(self, sources: Mapping[str, float], resized: float) -> np.ndarray:
        """Chance of each training row: shares of the sources, within them the root of each speaker's clips.

        Args:
            sources: Source to share; ``other`` stands for all that are not named.
            resized: Share of the clips at other sizes of their speakers.
        """
        named = np.isin(self.source, list(sources))
        chance = np.zeros(len(self.frames))
        for source, share in sources.items():
            group = (~named if source == "other" else self.source == source) & ~self.held_out
            for again in (False, True):
                rows = group & (self.resized == again)
                weight = 1 / np.sqrt(np.bincount(self.speaker[rows], minlength=1)[self.speaker[rows]])
                chance[rows] = share * (resized if again else 1 - resized) * weight / max(weight.sum(), 1e-9)
        if not chance.any():
            raise ManifestError(f"no clip to train on is of the sources {', '.join(sources)}")
        return chance / chance.sum()

    def batches(
        self, chance: np.ndarray, frames: int, max_rows: int, rng: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Rows and their width, without end: always as many for a width, about ``frames`` mel frames together."""
        cumulative = (chance / chance.sum()).cumsum()
        waiting: dict[int, list[int]] = {}
        while True:
            ready = []
            for row in np.searchsorted(cumulative, rng.random(4096)).clip(max=len(chance) - 1):
                width = int(self.width[row])
                queue = waiting.setdefault(width, [])
                queue.append(int(row))
                if len(queue) >= rows_of(width, frames, max_rows):
                    ready.append((np.array(queue), width))
                    waiting[width] = []
            for number in rng.permutation(len(ready)):
                yield ready[number]


def rows_of(width: int, frames: int, max_rows: int) -> int:
    """Rows of a batch of clips of a width, at least two: contrast needs another row."""
    return max(2, min(max_rows, frames // width))


def _chunks(members: list[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
    """Clips of like length, shortest first, that are padded to at most so many samples together."""
    part: list[tuple[int, int, int]] = []
    for member in members:
        if part and member[0] * (len(part) + 1) > _CHUNK:
            yield part
            part = []
        part.append(member)
    if part:
        yield part
