"""Clips to codes by a VQ-VAE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chelys.data.prepare.blocks import Draft, sounds
from chelys.data.prepare.named import named
from chelys.data.prepare.work import Item, Row, Store

#: Sound ``(n,)`` and its rate, Hz -> codes ``(m,)``.
Encoder = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class EncodeSettings:
    """Who encodes.

    Attributes:
        encoder: ``package.module:function`` that makes an ``Encoder`` of ``model``.
        model: Run folder of the dvae stage, or a model folder; None leaves the stage out.
        digest: Of its weights, so that other weights in the same place are other work.
    """

    encoder: str = "chelys.data.prepare.vqvae:load_encoder"
    model: str | None = None
    digest: str = ""


@dataclass(frozen=True)
class Encode:
    """The stage."""

    settings: EncodeSettings = EncodeSettings()
    name: str = "encode"
    version: int = 1

    def check(self) -> None:
        """See ``Stage``."""
        self._encoder()

    def wants(self, draft: Draft) -> bool:
        """Clips that are not dropped."""
        return not draft.clip.reasons

    def asks(self, draft: Draft) -> Any:
        """Nothing but the sound."""
        return None

    def work(self, item: Item, store: Store) -> list[Row]:
        """Encode a block."""
        encoder = self._encoder()
        return [{"codes": encoder(audio, rate).tolist()} for audio, rate in sounds(item, store)]

    def merge(self, draft: Draft) -> None:
        """The ledger does not show them; the shards do."""

    def _encoder(self) -> Encoder:
        return named(self.settings.encoder)(self.settings.model)
