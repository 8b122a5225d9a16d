"""The aligner that TorToise cuts bracket prompts with: wav2vec 2.0 (Baevski et al. 2020) with a CTC head that spells.

It needs the extra ``align``, and its weights (1.2 GB) come from the hub on first use.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import soxr
import torch
from torch.nn import functional

from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import MissingExtra, ModelError

NETWORK = "jbetker/wav2vec2-large-robust-ft-libritts-voxpopuli"
SYMBOLS = "jbetker/tacotron-symbols"

_RATE = 16_000  # Hz, that it listens at
_SHORTEST = 400  # samples: what its convolutions see at once


class Wav2Vec2Aligner:
    """An aligner on a CTC network of the transformers library.

    Args:
        network: ``Wav2Vec2ForCTC``, wherever it lies.
        symbols: Its ``Wav2Vec2CTCTokenizer``.
    """

    def __init__(self, network: Any, symbols: Any) -> None:
        self.network = network.eval()
        silent = {*symbols.all_special_ids, symbols.pad_token_id, network.config.pad_token_id}
        tokens = enumerate(symbols.convert_ids_to_tokens(list(range(len(symbols)))))
        self.characters = ["" if place in silent else str(token).lower() for place, token in tokens]
        if symbols.word_delimiter_token_id is not None:  # some versions count it among the special ones
            self.characters[symbols.word_delimiter_token_id] = " "

    @classmethod
    def load(
        cls, device: str | torch.device = "cpu", *, network: str = NETWORK, symbols: str = SYMBOLS
    ) -> Wav2Vec2Aligner:
        """Get the published aligner from the hub, or from the hub's cache.

        Args:
            device: Where it shall listen; nowhere else is anything put.
            network: Hub id or folder of the network.
            symbols: Hub id or folder of its tokenizer.

        Raises:
            MissingExtra: If the extra ``align`` is not installed.
            ModelError: If it cannot be fetched.
        """
        try:
            from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2ForCTC
        except ImportError as error:
            raise MissingExtra("align", error) from error
        try:
            return cls(
                Wav2Vec2ForCTC.from_pretrained(network).to(device), Wav2Vec2CTCTokenizer.from_pretrained(symbols)
            )
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(
                f"cannot get {network}, which finds the [brackets] in the audio ({reason}): connect to the network "
                "once, or speak without brackets"
            ) from error

    @torch.inference_mode()
    def frames(self, wave: np.ndarray) -> list[str]:
        """The likeliest character of each frame of 20 ms; see ``chelys.tortoise.alignment.Aligner``."""
        parameter = next(self.network.parameters())
        heard = torch.from_numpy(soxr.resample(np.asarray(wave, np.float32), OUTPUT_RATE, _RATE, quality="HQ"))
        heard = functional.pad(heard, (0, max(0, _SHORTEST - len(heard))))
        heard = (heard - heard.mean()) / torch.sqrt(heard.var() + 1e-7)
        logits = self.network(heard[None].to(parameter.device, parameter.dtype)).logits[0]
        ids = logits.argmax(-1).tolist()
        return [self.characters[i] if i < len(self.characters) else "" for i in ids]
