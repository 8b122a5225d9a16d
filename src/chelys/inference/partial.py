"""What is finished of a long text, kept on the disk, so that speaking it can be stopped and go on.

Until ``long.wav`` is finished, ``long.partial.jsonl`` has a line for each finished chunk, and the sound so far lies in
``long.wav`` itself where it grows in sight, else in ``long.partial.wav``, 32-bit floats (``long-2.partial.wav`` and so
on for further candidates). The sound is written before the line that vouches for it, so a process that is killed at any
moment leaves at most sound that is cut off and spoken again. ``long.partial.lock`` keeps a second process away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from chelys.audio.io import WAV_HEAD, WavStream, wav_samples
from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import OutputError
from chelys.files import file_lock, json_line, output_errors, read_text, write_json_lines
from chelys.inference.speech import Candidate, Chunk
from chelys.parsing import parse_json

_MOST_BYTES = 256 << 20  # of a journal: more than a hundred hours of speech


@dataclass(frozen=True)
class Finished:
    """What a journal says of one chunk."""

    about: dict[str, Any]  # fields of the ``Chunk`` but for its sound
    candidates: list[dict[str, Any]]  # of each kept one: samples, score, codes

    @classmethod
    def of(cls, line: dict[str, Any], keep: int) -> Finished:
        """Check a line. Raises KeyError, TypeError or ValueError if it is none of a journal."""
        about = {name: line[name] for name in _KEPT}
        candidates = [{name: kept[name] for name in ("samples", "score", "codes")} for kept in line["candidates"]]
        counts = [about["sentence"], about["sentences"], *(kept["samples"] for kept in candidates)]
        if len(candidates) != keep or not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError("no line of a journal")
        return cls(about, candidates)


_KEPT = ("text", "scores", "warnings", "sentence", "sentences", "complete")


class PartialSpeech:
    """The finished chunks of a text that is being spoken. A context manager; the files stay until ``remove``.

    Args:
        output: The file that is made of the text in the end.
        request: Everything that the samples depend on; only the same request goes on.
        keep: Candidates of each sentence.
        in_sight: Whether ``output`` itself, a 16-bit WAV, grows; then ``keep`` is 1.
    """

    def __init__(self, output: Path, request: dict[str, Any], *, keep: int = 1, in_sight: bool = False) -> None:
        self.output, self.journal = output, journal_of(output)
        stems = [output.stem, *(f"{output.stem}-{place}" for place in range(2, keep + 1))]
        self.sounds = [output] if in_sight else [output.with_name(f"{stem}.partial.wav") for stem in stems]
        self.request, self.finished = json.loads(json.dumps(request)), list[Finished]()
        self._coding: Any = "PCM_16" if in_sight else "FLOAT"
        self._stack, self._held, self._locked = ExitStack(), ExitStack(), False
        self._streams: list[WavStream] = []
        self._file: IO[str] | None = None

    def resume(self) -> None:
        """Take up what an earlier run left, if it left anything.

        Raises OutputError if that was another request, or another process is at it.
        """
        self._lock()
        request, lines = read_journal(self.journal)
        if request is None:
            return
        if differing := [name for name in self.request if request.get(name) != self.request[name]]:
            given = ", ".join(differing)
            raise OutputError(
                f"{self.journal} was begun with another {given}: give the same again, or begin anew with --force"
            )
        lengths = [wav_samples(path, OUTPUT_RATE, self._coding) for path in self.sounds]
        for line in lines:
            try:
                chunk = Finished.of(line, len(self.sounds))
            except (KeyError, TypeError, ValueError):
                break
            lengths = [left - kept["samples"] for left, kept in zip(lengths, chunk.candidates, strict=True)]
            if min(lengths) < 0:  # the sound was cut
                break
            self.finished.append(chunk)
        while self.finished and not self.finished[-1].about["complete"]:  # pieces of a sentence that may lack its end
            self.finished.pop()

    @property
    def sentences(self) -> int:
        """How many sentences are finished."""
        return self.finished[-1].about["sentence"] + 1 if self.finished else 0

    @property
    def seconds(self) -> float:
        """How long the finished sentences last."""
        return sum(chunk.candidates[0]["samples"] for chunk in self.finished) / OUTPUT_RATE

    def chunks(self) -> list[Chunk]:
        """The finished chunks with their sound."""
        if not self.finished:
            return []
        audio = [np.fromfile(path, "<f4", offset=WAV_HEAD).astype(np.float32) for path in self.sounds]
        made, starts = [], [0] * len(self.sounds)
        for chunk in self.finished:
            candidates = []
            for place, kept in enumerate(chunk.candidates):
                end = starts[place] + kept["samples"]
                candidates.append(Candidate(audio[place][starts[place] : end], kept["score"], kept["codes"]))
                starts[place] = end
            made.append(Chunk(candidates[0].audio, OUTPUT_RATE, candidates=candidates, **chunk.about))
        return made

    def __enter__(self) -> PartialSpeech:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._held.close()

    def add(self, chunk: Chunk) -> None:
        """Keep a chunk that is finished. Raises OutputError if it cannot be written, or another process is at it."""
        if self._file is None:
            self._open()
        candidates = []
        for stream, candidate in zip(self._streams, chunk.candidates, strict=True):
            stream.write(candidate.audio)
            stream.sync()
            candidates.append({"samples": len(candidate.audio), "score": candidate.score, "codes": candidate.codes})
        about = {name: getattr(chunk, name) for name in _KEPT}
        assert self._file is not None
        with output_errors(self.journal):
            self._file.write(json_line({**about, "candidates": candidates}))
            self._file.flush()
        self.finished.append(Finished(about, candidates))

    def pcm(self) -> Iterator[bytes]:
        """The samples of a file that grew in sight, piece by piece."""
        left = 2 * sum(chunk.candidates[0]["samples"] for chunk in self.finished)
        with output_errors(self.output), self.output.open("rb") as file:
            file.seek(WAV_HEAD)
            while left > 0 and (piece := file.read(min(left, 1 << 20))):
                left -= len(piece)
                yield piece

    def remove(self, comment: str = "") -> None:
        """Remove what is not needed any more; of a file that grew in sight the journal alone.

        ``comment``: what such a file carries from then on.
        """
        self._stack.close()
        if comment and self.finished:
            samples = sum(chunk.candidates[0]["samples"] for chunk in self.finished)
            with WavStream(self.output, OUTPUT_RATE, coding=self._coding, keep=samples) as stream:
                stream.finish(comment)
                stream.sync()
        self.finished = []
        with output_errors(self.journal):
            self.journal.unlink(missing_ok=True)
            if self._coding == "FLOAT":
                for path in self.sounds:
                    path.unlink(missing_ok=True)
        self._held.close()

    def _lock(self) -> None:
        if not self._locked:
            busy = f"another process is speaking into {self.output}: wait for it, or name another file with -o"
            self._held.enter_context(file_lock(self.journal.with_suffix(".lock"), busy, remove=True))
            self._locked = True

    def _open(self) -> None:
        """Write the journal anew, of what is believed of it, then open the sound behind that."""
        self._lock()
        lines = [{"request": self.request}, *({**one.about, "candidates": one.candidates} for one in self.finished)]
        with output_errors(self.journal):
            write_json_lines(self.journal, lines)
            self._file = self._stack.enter_context(self.journal.open("a", encoding="utf8", newline=""))
        for place, path in enumerate(self.sounds):
            kept = sum(chunk.candidates[place]["samples"] for chunk in self.finished)
            stream = WavStream(path, OUTPUT_RATE, coding=self._coding, keep=kept)
            self._streams.append(self._stack.enter_context(stream))


def journal_of(output: Path) -> Path:
    """Where the journal of a file lies while it is being spoken."""
    return output.with_name(f"{output.stem}.partial.jsonl")


def read_journal(path: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The request of a journal, None if there is no journal, and its whole lines.

    Raises OutputError if it is something else.
    """
    if not path.exists():
        return None, []
    lines = []
    try:
        for line in read_text(path, _MOST_BYTES).split("\n")[:-1]:  # a process was killed while it wrote the last
            lines.append(parse_json(line, nan=True))
        if not lines:
            return None, []
        return dict(lines[0]["request"]), lines[1:]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise OutputError(f"{path} is no journal of a stopped run: remove it, or begin anew with --force") from error
