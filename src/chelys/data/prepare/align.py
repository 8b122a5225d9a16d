"""When each word is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chelys.data.prepare.blocks import Draft
from chelys.data.prepare.transcribe import TranscribeSettings, check, heard_at_16k, transcriber
from chelys.data.prepare.work import Item, Row, Store


@dataclass(frozen=True)
class Align:
    """The stage: words of the best transcript to times, by the transcriber's own attention."""

    settings: TranscribeSettings = TranscribeSettings()
    name: str = "align"
    version: int = 1

    def check(self) -> None:
        """See ``Stage``."""
        check(self.settings)

    def wants(self, draft: Draft) -> bool:
        """Clips with words that are not dropped."""
        return bool(draft.clip.text) and not draft.clip.reasons

    def asks(self, draft: Draft) -> Any:
        """The words."""
        return draft.clip.text

    def work(self, item: Item, store: Store) -> list[Row]:
        """Align a block."""
        texts = item.content["asked"]
        found = transcriber(self.settings).align(heard_at_16k(item, store), texts)
        return [{"words": [[w.word, round(w.start, 2), round(w.end, 2)] for w in words]} for words in found]

    def merge(self, draft: Draft) -> None:
        """See ``BlockStage``."""
        draft.clip.words = draft.rows[self.name]["words"]
