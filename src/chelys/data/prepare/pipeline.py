"""The order of the stages, and how what they made becomes the ledger.

``prepare`` does what is missing, stage after stage, and then writes the ledger, the manifest, the statistics and the
shards from what there is. Nothing of the second part depends on who did the first, when, or in how many attempts: it
reads the recordings in the order of their names and the clips in the order of time.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from chelys.data.prepare.align import Align
from chelys.data.prepare.blocks import BlockStage, Draft, blocks
from chelys.data.prepare.deduplicate import Fingerprint, find_repeats
from chelys.data.prepare.encode import Encode
from chelys.data.prepare.engine import Engine, Local
from chelys.data.prepare.folder import lock, prepare_folder
from chelys.data.prepare.ledger import (
    LEDGER,
    MANIFEST,
    RECORDINGS,
    STATISTICS,
    Clip,
    Recording,
    read_ledger,
    write_lines,
    write_text,
)
from chelys.data.prepare.measure import Measure, digest_of
from chelys.data.prepare.pack import Pack, publish
from chelys.data.prepare.recordings import Abouts, Found, Scan, find
from chelys.data.prepare.rules import judge, read_rules
from chelys.data.prepare.segment import Segment
from chelys.data.prepare.settings import STAGES, PrepareSettings
from chelys.data.prepare.similar import find_similar
from chelys.data.prepare.statistics import Statistics
from chelys.data.prepare.transcribe import Transcribe
from chelys.data.prepare.work import Item, Row, Stage, Store, digest, key
from chelys.errors import ConfigError, OutputError

log = logging.getLogger(__name__)

#: Called with (stage, items done, items in all or None).
StageProgress = Callable[[str, int, int | None], None]


@dataclass
class Summary:
    """What a preparation came to.

    Attributes:
        recordings: Files found.
        unreadable: Of them.
        clips: Found in the others.
        kept: Of them.
        hours: Of the kept ones.
        failed: Items of work that failed, by reason; the next run tries them again.
    """

    recordings: int = 0
    unreadable: int = 0
    clips: int = 0
    kept: int = 0
    hours: float = 0.0
    failed: dict[str, int] = field(default_factory=dict)


def prepare(
    raw: Path,
    out: Path,
    settings: PrepareSettings | None = None,
    *,
    only: Iterable[str] = (),
    engine: Engine | None = None,
    progress: StageProgress | None = None,
) -> Summary:
    """Prepare a folder of recordings, or go on with it.

    Args:
        raw: Folder of recordings.
        out: Folder to write; what is done in it is not done again.
        settings: What to do.
        only: Names of the stages to do now; default all. The ledger shows what there is afterwards.
        engine: Who does the work; default one process.
        progress: Told how far it is.

    Returns:
        What it came to.

    Raises:
        UserError: If RAW is missing, OUT cannot be written, a setting is wrong or a package missing.
    """
    settings = settings or PrepareSettings()
    chosen = list(only) or [stage for stage in STAGES if stage != "encode" or settings.encode.model]
    if wrong := [stage for stage in chosen if stage not in STAGES]:
        raise ConfigError(f"there is no stage {wrong[0]!r}: choose of {', '.join(STAGES)}")
    found = find(raw, out)
    out = out.absolute()
    run = _Run(raw.absolute(), Store(out), settings, set(chosen))
    run.check()
    prepare_folder(out)
    with lock(out):
        run.store.clear_partial()
        try:
            if engine is not None:
                run.work(found, engine, progress)
            else:
                with Local(1) as own:
                    run.work(found, own, progress)
            return run.write(found)
        except OSError as error:
            raise OutputError(
                f"cannot write to {out}: {error.strerror or error}; what is done is kept: make room, and run it again"
            ) from error
        finally:
            run.store.clear_partial()


class _Run:
    """One preparation on its way."""

    def __init__(self, raw: Path, store: Store, settings: PrepareSettings, chosen: set[str]) -> None:
        self.raw, self.store, self.settings, self.chosen = raw, store, settings, chosen
        self.rules = read_rules(Path(settings.rules) if settings.rules else None)
        self.abouts = Abouts(raw, settings.about)
        self.scan, self.segment, self.pack = Scan(), Segment(settings.segment), Pack(settings.pack)
        encode = replace(settings.encode, digest=_digest_of(settings.encode.model))
        self.stages: list[BlockStage] = [
            Measure(replace(settings.measure, digest=digest_of(settings.measure))),
            Transcribe(settings.transcribe),
            Align(settings.transcribe),
            Fingerprint(),
            *([Encode(encode)] if settings.encode.model else []),
        ]
        if "encode" in chosen and not settings.encode.model:
            raise ConfigError("encode.model is missing: name the run folder of a VQ-VAE, or a model that has one")
        if settings.pack.contents != "flac" and not settings.encode.model:
            raise ConfigError(
                f"pack.contents is {settings.pack.contents!r}, but encode.model is missing: name a VQ-VAE"
            )
        self.failed: dict[str, str] = {}
        self._repeats: dict[str, tuple[str, str]] | None = None
        self._similar: dict[str, list[str]] | None = None

    def check(self) -> None:
        """Whether the chosen stages can run."""
        for stage in (self.segment, *self.stages, self.pack):
            if stage.name in self.chosen:
                stage.check()

    # ---- what is missing --------------------------------------------------------------------------------------------

    def work(self, found: list[Found], engine: Engine, progress: StageProgress | None) -> None:
        """Do all chosen stages but the packing."""

        def do(stage: Stage, items: Iterable[Item]) -> None:
            told = None if progress is None else lambda done, total: progress(stage.name, done, total)
            failed = engine.run(stage, items, self.store, told)
            self.failed.update(failed)
            for reason, count in Counter(failed.values()).items():
                log.warning("%s: %d of its items failed: %s", stage.name, count, reason)

        readable = [one for one in found if one.refused is None]
        do(self.scan, (self.scan.item(self.raw, one) for one in readable))
        if "segment" in self.chosen:
            do(self.segment, (item for one in readable if (item := self._segment_item(one)) is not None))
        for i, stage in enumerate(self.stages):
            if stage.name in self.chosen:
                recordings = (self._drafts(one, i)[1] for one in readable)
                do(stage, (item for drafts in recordings for item, _ in blocks(stage, drafts)))
        if "pack" in self.chosen:
            do(self.pack, self.pack.items(draft for draft in self.drafts(found) if draft.clip.kept))

    def _segment_item(self, found: Found) -> Item | None:
        rows = self._rows(self.scan, self.scan.item(self.raw, found))
        return self.segment.item(self.raw, found.source, rows[0]["sha256"]) if rows else None

    def _rows(self, stage: Stage, item: Item) -> list[Row] | None:
        return self.store.read(stage.name, key(stage, item))

    # ---- what there is ----------------------------------------------------------------------------------------------

    def _drafts(
        self, found: Found, until: int | None = None, keep: Collection[str] = ()
    ) -> tuple[Recording, list[Draft]]:
        """A recording and its clips, as the stages before ``until`` left them; of the rows of some, all is kept."""
        about = self.abouts.of(found.source)
        recording = Recording(found.source, licence=about.licence)
        if found.refused is not None:
            return replace(recording, status="unreadable", reason=found.refused), []
        item = self._segment_item(found)
        if item is None:
            reason = self.failed.get(key(self.scan, self.scan.item(self.raw, found)), "not read yet")
            return replace(recording, status="unreadable", reason=reason), []
        recording.sha256 = item.content["sha256"]
        rows = self._rows(self.segment, item)
        if rows is None:
            reason = self.failed.get(key(self.segment, item), "not cut yet")
            return replace(recording, status="unreadable", reason=reason), []
        head, cuts = rows[0], rows[1:]
        recording = replace(recording, status=head["status"], reason=head["reason"], seconds=round(head["seconds"], 3))
        drafts = [self._draft(recording, head["audio"], cut, about.speaker) for cut in cuts]
        for stage in self.stages[:until]:
            self._merge(stage, drafts)
            if stage.name not in keep:  # codes and fingerprints of ten hours need not lie in memory
                for draft in drafts:
                    draft.rows.pop(stage.name, None)
        return recording, drafts

    def _draft(self, recording: Recording, audio: str | None, cut: Row, speaker: str | None) -> Draft:
        name = f"{digest([recording.source, recording.sha256])[:12]}-{round(cut['start'] * 1000):08d}"
        clip = Clip(name, recording.source, cut["start"], cut["end"], round(cut["end"] - cut["start"], 3),
                    recording.licence, speaker)  # fmt: skip
        if cut["reason"] is not None:
            clip.reasons = [cut["reason"]]
            return Draft(clip)
        rate = self.settings.segment.rate
        span = (cut["audio_start"], cut["audio_end"])
        clip.audio, clip.audio_start, clip.audio_end = audio, round(span[0] / rate, 6), round(span[1] / rate, 6)
        return Draft(clip, span)

    def _merge(self, stage: BlockStage, drafts: list[Draft]) -> None:
        """Carry what a stage made of a recording's clips over to them, and judge them anew."""
        for item, block in blocks(stage, drafts):
            name = key(stage, item)
            rows = self.store.read(stage.name, name)
            if rows is None and name in self.failed:
                for draft in block:
                    draft.clip.reasons = [f"{stage.name} failed: {self.failed[name]}"]
            for draft, row in zip(block, rows or [], strict=rows is not None):
                draft.rows[stage.name] = row
                stage.merge(draft)
                draft.clip.reasons = judge(draft.clip, self.rules)

    def drafts(self, found: list[Found]) -> Iterator[Draft]:
        """All clips, in the ledger's order, with what only a look at all of them tells."""
        if self._repeats is None:
            self._repeats = find_repeats(self._good(found, "deduplicate"), self.settings.deduplicate, self.store)
        repeats = self._repeats
        if self._similar is None:  # only speakers that are named are met in more than one recording
            named = (d for d in self._good(found, "measure") if d.clip.speaker and d.clip.id not in repeats)
            self._similar = find_similar(named, self.settings.similar)
        for one in found:
            drafts = self._drafts(one, keep=("measure", "encode"))[1]
            for draft in drafts:
                if draft.clip.id in repeats:
                    draft.clip.same_as, reason = repeats[draft.clip.id]
                    draft.clip.reasons = [reason]
            unnamed = (d for d in drafts if not d.clip.speaker and not d.clip.reasons)
            here = find_similar(unnamed, self.settings.similar)
            for draft in drafts:
                draft.clip.similar = here.get(draft.clip.id) or self._similar.get(draft.clip.id, [])
                draft.clip.kept = not draft.clip.reasons
            yield from drafts

    def _good(self, found: list[Found], keep: str) -> Iterator[Draft]:
        for one in found:
            yield from (draft for draft in self._drafts(one, keep=(keep,))[1] if not draft.clip.reasons)

    # ---- the account ------------------------------------------------------------------------------------------------

    def write(self, found: list[Found]) -> Summary:
        """Write the ledger, the manifest, the statistics and the shards."""
        out = self.store.out
        statistics = Statistics()
        write_lines(out / RECORDINGS, (statistics.recording(self._drafts(one, 0)[0]) for one in found))
        write_lines(out / LEDGER, (asdict(statistics.clip(draft.clip)) for draft in self.drafts(found)))
        write_lines(out / MANIFEST, _manifest(out))
        summary = Summary(statistics.recordings, statistics.unreadable, statistics.clips, statistics.kept,
                          round(statistics.kept_seconds / 3600, 4), dict(Counter(self.failed.values())))  # fmt: skip
        write_text(out / STATISTICS, json.dumps(statistics.as_row(), indent=2, ensure_ascii=True) + "\n")
        if "pack" in self.chosen:
            names = [key(self.pack, item) for item in
                     self.pack.items(draft for draft in self.drafts(found) if draft.clip.kept)]  # fmt: skip
            if all(self.store.has(self.pack.name, name) for name in names):
                publish(self.pack, names, self.store)
            else:
                log.warning("some shards could not be written; those of the run before are left as they are")
        return summary


def _manifest(out: Path) -> Iterator[dict[str, Any]]:
    """Lines of the manifest: ``chelys.data.manifest``, and what else is known of a clip."""
    for clip in read_ledger(out):
        if clip.kept and clip.audio is not None:
            yield {
                "id": clip.id,
                "audio": clip.audio,
                "text": clip.text or "",
                "speaker": clip.speaker or clip.source,
                "seconds": clip.seconds,
                "start": clip.audio_start,
                "end": clip.audio_end,
                "similar": clip.similar,
                "confidence": clip.confidence,
                "licence": clip.licence,
            }


def _digest_of(model: str | None) -> str:
    if model is None:
        return ""
    from chelys.data.prepare.vqvae import digest as digest_of_weights

    return digest_of_weights(model)
