"""All settings, the order of the stages, and how their results become metadata.

``prepare`` does what is missing, stage after stage, and then writes metadata, manifest, statistics and shards from what
there is. The second part does not depend on who did the first, when, or in how many attempts: it reads the recordings
in the order of their names and the clips in the order of time.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from chelys.data.prepare.encode import Encode, EncodeSettings, encoder_digest
from chelys.data.prepare.engine import Engine, Local
from chelys.data.prepare.measure import (
    DeduplicateSettings,
    Fingerprint,
    Measure,
    MeasureSettings,
    SimilarSettings,
    apply_rules,
    classifier_digest,
    find_repeats,
    find_similar,
    read_rules,
)
from chelys.data.prepare.metadata import (
    CLIPS,
    MANIFEST,
    RECORDINGS,
    STATISTICS,
    ClipMetadata,
    RecordingMetadata,
    Statistics,
    read_clips,
)
from chelys.data.prepare.recordings import About, Abouts, Scan, SourceFile, find_recordings
from chelys.data.prepare.segment import Segment, SegmentSettings
from chelys.data.prepare.shard_writer import Pack, PackSettings, publish
from chelys.data.prepare.transcribe import Align, Transcribe, TranscribeSettings
from chelys.data.prepare.work import ClipRecord, ClipStage, Item, PrepareStage, Row, Store, blocks, digest, key
from chelys.deprecation import renamed_names
from chelys.errors import ConfigError, OutputError
from chelys.files import file_lock, remove_partial_files, write_json_lines, write_text
from chelys.machine import available_cores

log = logging.getLogger(__name__)
__getattr__ = renamed_names(__name__)

#: In the order in which they are done.
STAGES = ("segment", "measure", "filter", "transcribe", "align", "deduplicate", "similar", "encode", "pack")

#: Called with (stage, items done, items in all or None).
StageProgress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class PrepareSettings:
    """Settings of a preparation; those of a stage are documented with it."""

    #: licence and speaker of recordings of which no ``about.yaml`` says anything
    about: About = field(default_factory=About)
    rules: str | None = None  # YAML file of the rules that drop clips; None for chelys' own
    device: str = "cpu"  # Of the VQ-VAE: ``cpu``, ``cuda``, ``mps`` ... (``transcribe.device`` is the transcriber's).
    segment: SegmentSettings = field(default_factory=SegmentSettings)
    measure: MeasureSettings = field(default_factory=MeasureSettings)
    transcribe: TranscribeSettings = field(default_factory=TranscribeSettings)
    deduplicate: DeduplicateSettings = field(default_factory=DeduplicateSettings)
    similar: SimilarSettings = field(default_factory=SimilarSettings)
    encode: EncodeSettings = field(default_factory=EncodeSettings)
    pack: PackSettings = field(default_factory=PackSettings)


@dataclass
class PrepareSummary:
    """Result of a preparation."""

    recordings: int = 0  # files found
    unreadable: int = 0  # of them
    clips: int = 0  # found in the others
    kept: int = 0  # of them
    hours: float = 0.0  # of the kept ones
    #: reason -> number of items that failed; the next run tries them again
    failed: dict[str, int] = field(default_factory=dict)


def prepare(
    raw: Path,
    out: Path,
    settings: PrepareSettings | None = None,
    *,
    only: Iterable[str] = (),
    engine: Engine | None = None,
    progress: StageProgress | None = None,
) -> PrepareSummary:
    """Prepare a folder of recordings, or continue; finished work is not done again.

    ``only`` names the stages to do now, by default all; the metadata shows what there is afterwards. The default engine
    is a process for each core. Raises UserError if RAW is missing, OUT cannot be written, a setting is wrong or a
    package missing.
    """
    settings = settings or PrepareSettings()
    chosen = list(only) or [stage for stage in STAGES if stage != "encode" or settings.encode.model]
    if wrong := [stage for stage in chosen if stage not in STAGES]:
        raise ConfigError(f"there is no stage {wrong[0]!r}: choose of {', '.join(STAGES)}")
    found = find_recordings(raw, out)
    out = out.absolute()
    store = Store(out)
    run = _PrepareRun(raw.absolute(), store, settings, set(chosen))
    run.check()
    store.make()
    busy = f"another preparation is writing to {out}: wait for it, or choose another folder"
    with file_lock(store.lock, busy):
        store.clear_partial()
        remove_partial_files(out)
        try:
            if engine is not None:
                run.work(found, engine, progress)
            else:
                with Local(available_cores()) as own:
                    run.work(found, own, progress)
            return run.write(found)
        except OSError as error:
            raise OutputError(
                f"cannot write to {out}: {error.strerror or error}; what is done is kept: make room, and run it again"
            ) from error
        finally:
            store.clear_partial()


class _PrepareRun:
    """One preparation in progress."""

    def __init__(self, raw: Path, store: Store, settings: PrepareSettings, chosen: set[str]) -> None:
        self.raw, self.store, self.settings, self.chosen = raw, store, settings, chosen
        self.rules = read_rules(Path(settings.rules) if settings.rules else None)
        self.abouts = Abouts(raw, settings.about)
        self.scan, self.segment, self.pack = Scan(), Segment(settings.segment), Pack(settings.pack)
        self.stages: list[ClipStage] = [
            Measure(replace(settings.measure, digest=classifier_digest(settings.measure))),
            Transcribe(settings.transcribe), Align(settings.transcribe), Fingerprint(),
        ]  # fmt: skip
        if model := settings.encode.model:
            self.stages.append(Encode(replace(settings.encode, digest=encoder_digest(model)), device=settings.device))
        elif "encode" in chosen:
            raise ConfigError("encode.model is missing: name the run folder of a VQ-VAE, or a model that has one")
        elif settings.pack.contents != "flac":
            raise ConfigError(
                f"pack.contents is {settings.pack.contents!r}, but encode.model is missing: name a VQ-VAE"
            )
        self.failed: dict[str, str] = {}
        self._repeats: dict[str, tuple[str, str]] | None = None
        self._similar: dict[str, list[str]] | None = None

    def check(self) -> None:
        for stage in (self.segment, *self.stages, self.pack):
            if stage.name in self.chosen:
                stage.check()

    # ---- what is missing --------------------------------------------------------------------------------------------

    def work(self, found: list[SourceFile], engine: Engine, progress: StageProgress | None) -> None:
        def do(stage: PrepareStage, items: Iterable[Item]) -> None:
            update = None if progress is None else lambda done, total: progress(stage.name, done, total)
            failed = engine.run(stage, items, self.store, update)
            self.failed.update(failed)
            for reason, count in Counter(failed.values()).items():
                log.warning("%s: %d items failed: %s", stage.name, count, reason)

        readable = [one for one in found if one.refused is None]
        do(self.scan, (self.scan.item(self.raw, one) for one in readable))
        if "segment" in self.chosen:
            do(self.segment, (item for one in readable if (item := self._segment_item(one)) is not None))
        for i, stage in enumerate(self.stages):
            if stage.name in self.chosen:
                recordings = (self._records(one, i)[1] for one in readable)
                do(stage, (item for records in recordings for item, _ in blocks(stage, records)))
        if "pack" in self.chosen:
            do(self.pack, self.pack.items(self._kept(found)))

    def _segment_item(self, found: SourceFile) -> Item | None:
        rows = self.store.read(self.scan.name, key(self.scan, self.scan.item(self.raw, found)))
        return self.segment.item(self.raw, found.source, rows[0]["sha256"]) if rows else None

    # ---- what there is ----------------------------------------------------------------------------------------------

    def _records(
        self, found: SourceFile, until: int | None = None, keep: Collection[str] = ()
    ) -> tuple[RecordingMetadata, list[ClipRecord]]:
        """A recording and its clips after the stages before ``until``, with the rows of the stages in ``keep``."""
        about = self.abouts.of(found.source)
        recording = RecordingMetadata(found.source, licence=about.licence)

        def unreadable(reason: str) -> tuple[RecordingMetadata, list[ClipRecord]]:
            return replace(recording, status="unreadable", reason=reason), []

        if found.refused is not None:
            return unreadable(found.refused)
        item = self._segment_item(found)
        if item is None:
            return unreadable(self.failed.get(key(self.scan, self.scan.item(self.raw, found)), "not read yet"))
        recording.sha256 = item.content["sha256"]
        rows = self.store.read(self.segment.name, key(self.segment, item))
        if rows is None:
            return unreadable(self.failed.get(key(self.segment, item), "not cut yet"))
        head, pieces = rows[0], rows[1:]
        recording = replace(recording, status=head["status"], reason=head["reason"], seconds=round(head["seconds"], 3))
        records = [self._record(recording, head["audio"], piece, about.speaker) for piece in pieces]
        for stage in self.stages[:until]:
            self._merge(stage, records)
            if stage.name not in keep:  # codes and fingerprints of ten hours need not be in memory
                for record in records:
                    record.rows.pop(stage.name, None)
        return recording, records

    def _record(self, recording: RecordingMetadata, audio: str | None, piece: Row, speaker: str | None) -> ClipRecord:
        start, end = piece["start"], piece["end"]
        name = f"{digest([recording.source, recording.sha256])[:12]}-{round(start * 1000):08d}"
        clip = ClipMetadata(name, recording.source, start, end, round(end - start, 3), recording.licence, speaker)
        if piece["reason"] is not None:
            clip.reasons = [piece["reason"]]
            return ClipRecord(clip)
        rate, span = self.settings.segment.rate, (piece["audio_start"], piece["audio_end"])
        clip.audio, clip.audio_start, clip.audio_end = audio, round(span[0] / rate, 6), round(span[1] / rate, 6)
        return ClipRecord(clip, span)

    def _merge(self, stage: ClipStage, records: list[ClipRecord]) -> None:
        """Copy a stage's results into the metadata of a recording's clips, and apply the rules again."""
        for item, block in blocks(stage, records):
            name = key(stage, item)
            rows = self.store.read(stage.name, name)
            if rows is None and name in self.failed:
                for record in block:
                    record.clip.reasons = [f"{stage.name} failed: {self.failed[name]}"]
            for record, row in zip(block, rows or [], strict=rows is not None):
                record.rows[stage.name] = row
                stage.merge(record)
                record.clip.reasons = apply_rules(record.clip, self.rules)

    def records(self, found: list[SourceFile]) -> Iterator[ClipRecord]:
        """All clips, in order, complete with what only a look at all of them tells."""
        if self._repeats is None:
            self._repeats = find_repeats(self._good(found, "deduplicate"), self.settings.deduplicate, self.store)
        repeats = self._repeats
        if self._similar is None:  # only named speakers occur in more than one recording
            named = (r for r in self._good(found, "measure") if r.clip.speaker and r.clip.id not in repeats)
            self._similar = find_similar(named, self.settings.similar)
        for one in found:
            records = self._records(one, keep=("measure", "encode"))[1]
            for record in records:
                if record.clip.id in repeats:
                    record.clip.same_as, reason = repeats[record.clip.id]
                    record.clip.reasons = [reason]
            unnamed = (r for r in records if not r.clip.speaker and not r.clip.reasons)
            here = find_similar(unnamed, self.settings.similar)
            for record in records:
                record.clip.similar = here.get(record.clip.id) or self._similar.get(record.clip.id, [])
                record.clip.kept = not record.clip.reasons
            yield from records

    def _good(self, found: list[SourceFile], keep: str) -> Iterator[ClipRecord]:
        for one in found:
            yield from (record for record in self._records(one, keep=(keep,))[1] if not record.clip.reasons)

    def _kept(self, found: list[SourceFile]) -> Iterator[ClipRecord]:
        return (record for record in self.records(found) if record.clip.kept)

    # ---- output -----------------------------------------------------------------------------------------------------

    def write(self, found: list[SourceFile]) -> PrepareSummary:
        """Write metadata, manifest, statistics and shards; files that would not change are left alone."""
        out, statistics = self.store.out, Statistics()
        recordings = (asdict(statistics.recording(self._records(one, 0)[0])) for one in found)
        write_json_lines(out / RECORDINGS, recordings, keep_identical=True)
        clips = (asdict(statistics.clip(record.clip)) for record in self.records(found))
        write_json_lines(out / CLIPS, clips, keep_identical=True)
        write_json_lines(out / MANIFEST, _manifest(out), keep_identical=True)
        write_text(out / STATISTICS, json.dumps(statistics.as_row(), indent=2) + "\n", keep_identical=True)
        (out / "ledger.jsonl").unlink(missing_ok=True)  # the clips' metadata of the release before
        if "pack" in self.chosen:
            names = [key(self.pack, item) for item in self.pack.items(self._kept(found))]
            if all(self.store.has(self.pack.name, name) for name in names):
                publish(self.pack, names, self.store)
            else:
                log.warning("some shards could not be written; those of the run before stay as they are")
        hours = round(statistics.kept_seconds / 3600, 4)
        counts = statistics.recordings, statistics.unreadable, statistics.clips, statistics.kept
        return PrepareSummary(*counts, hours, dict(Counter(self.failed.values())))


def _manifest(out: Path) -> Iterator[dict[str, Any]]:
    """Lines of the manifest: ``chelys.data.manifest``, and what else is known of a clip."""
    for clip in read_clips(out):
        if clip.kept and clip.audio is not None:
            yield {
                "id": clip.id, "audio": clip.audio, "text": clip.text or "", "speaker": clip.speaker or clip.source,
                "seconds": clip.seconds, "start": clip.audio_start, "end": clip.audio_end,
                "similar": clip.similar, "confidence": clip.confidence, "licence": clip.licence,
            }  # fmt: skip
