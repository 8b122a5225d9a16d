"""All that can be set of a preparation, with its defaults."""

from __future__ import annotations

from dataclasses import dataclass, field

from chelys.data.prepare.deduplicate import DeduplicateSettings
from chelys.data.prepare.encode import EncodeSettings
from chelys.data.prepare.measure import MeasureSettings
from chelys.data.prepare.pack import PackSettings
from chelys.data.prepare.recordings import About
from chelys.data.prepare.segment import SegmentSettings
from chelys.data.prepare.similar import SimilarSettings
from chelys.data.prepare.transcribe import TranscribeSettings

#: In the order in which they are done.
STAGES = ("segment", "measure", "filter", "transcribe", "align", "deduplicate", "similar", "encode", "pack")


@dataclass(frozen=True)
class PrepareSettings:
    """What a preparation does.

    Attributes:
        about: What holds for recordings of which no ``about.yaml`` says anything.
        rules: YAML file of the rules by which clips are dropped; None takes chelys' own.
        segment: See there, as for the others.
        measure: .
        transcribe: Also of the alignment.
        deduplicate: .
        similar: .
        encode: .
        pack: .
    """

    about: About = field(default_factory=About)
    rules: str | None = None
    segment: SegmentSettings = field(default_factory=SegmentSettings)
    measure: MeasureSettings = field(default_factory=MeasureSettings)
    transcribe: TranscribeSettings = field(default_factory=TranscribeSettings)
    deduplicate: DeduplicateSettings = field(default_factory=DeduplicateSettings)
    similar: SimilarSettings = field(default_factory=SimilarSettings)
    encode: EncodeSettings = field(default_factory=EncodeSettings)
    pack: PackSettings = field(default_factory=PackSettings)
