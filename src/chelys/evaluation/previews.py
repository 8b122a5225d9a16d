"""The quick part of ``chelys eval`` in training: the samples of an evaluation are heard, a few scalars for the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from chelys.errors import UserError, first_line
from chelys.evaluation import listening
from chelys.evaluation.measures import MEASURES, Settings, check_names, figures, measure
from chelys.evaluation.speaking import JudgedClip

log = logging.getLogger(__name__)

#: Figures of each measure that say something of a few clips.
FIGURES = {
    "words": ("wer", "cer"), "voice": ("similarity",), "naturalness": ("mos",), "noise": ("dnsmos",),
    "clvp": ("clvp_cosine",), "copy": ("mel_db", "pitch_cents"),
}  # fmt: skip


class Copied(Protocol):
    """A copy of a recording, as training writes it."""

    @property
    def audio(self) -> Path: ...
    @property
    def text(self) -> str: ...
    @property
    def original(self) -> Path: ...


class PreviewListener:
    """Hears copies of recordings by some measures of ``MEASURES``.

    What cannot be measured, because a package is missing or for any other reason, is said once in the log and left out
    from then on: a training goes on without it. Torch's random numbers are as they were. Raises UserError if a name is
    no measure.
    """

    def __init__(self, names: Sequence[str]) -> None:
        check_names(names)
        self._names = list(dict.fromkeys(names))
        self._settings: Settings | None = None

    def __call__(self, copies: Sequence[Copied]) -> dict[str, float]:
        """Means over the copies, by the names of the figures."""
        clips = [JudgedClip(one.audio, one.text, reference=one.original, original=one.original) for one in copies]
        found: dict[str, float] = {}
        for name in list(self._names):
            try:
                with torch.random.fork_rng(devices=[]):  # networks that listen begin with random weights
                    found |= self._figures(name, clips)
            except Exception as error:  # of packages of others: no reason to lose a training
                reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
                log.warning("the samples are not heard by %s from here on: %s", name, reason)
                self._names.remove(name)
        return found

    def _figures(self, name: str, clips: Sequence[JudgedClip]) -> dict[str, float]:
        if name == "words" and self._settings is None:  # loaded once
            self._settings = Settings(recogniser=listening.load_recogniser())
        one = {name: MEASURES[name](self._settings or Settings(), clips)}
        measured = figures([measure(clip, one) for clip in clips])
        return {figure: measured[figure][0].value for figure in FIGURES[name] if figure in measured}
