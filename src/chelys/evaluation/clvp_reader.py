"""What CLVP thinks of finished audio, by the VQ-VAE and the CLVP of a model: nano's, whatever model speaks.

The paper (Betker 2023, section 4) judges realism by the Fréchet distance between CLVP's latents of spoken and of
recorded clips. Here the audio that is heard is coded again, so that diffusion decoder and vocoder are judged too, and
speech of any system can be compared.

n samples, t text ids, m codes, d width of a latent.
"""

from __future__ import annotations

import numpy as np
import torch

from chelys.data.prepare.encode import VQVAEEncoder
from chelys.errors import ModelError
from chelys.models.clvp import CLVP
from chelys.weights.catalog import find_model
from chelys.weights.folder import build, read_config
from chelys.weights.tensor_file import load_network

#: Seconds of the longest clip that is scored; CLVP learns from sentences.
LONGEST = 30.0


class ClvpReader:
    """Codes audio and scores it. Raises ModelError if the model has no VQ-VAE, or a file of it is damaged."""

    def __init__(self, model: str = "nano") -> None:
        folder = find_model(model)
        config = read_config(folder)
        if config.family != "nano":
            raise ModelError(
                f"model {config.name!r} is of the family {config.family}: score with the CLVP of chelys' own"
            )
        self._encoder = VQVAEEncoder(folder)
        self._tokenizer = config.load_tokenizer(folder)
        network = build(config, "clvp")
        load_network(folder / "clvp.safetensors", network)
        assert isinstance(network, CLVP)
        self._clvp = network.eval()

    @torch.inference_mode()
    def latent(self, audio: np.ndarray, rate: int) -> np.ndarray | None:
        """Speech latent ``(d,)`` of length 1, of ``(n,)`` samples at a rate in Hz; None for too few or too many."""
        codes = self._codes(audio, rate)
        return None if codes is None else self._clvp.encode_speech(codes[None])[0].numpy()

    @torch.inference_mode()
    def agreement(self, audio: np.ndarray, rate: int, text: str) -> tuple[float, float | None] | None:
        """Cosine of text and speech, and the log-likelihood of the text by the CTC head, nats for each of its ids.

        The second is None where CLVP has no such head. None for a clip that is too short or too long. Raises TextError
        if nothing of the text can be spoken.
        """
        codes = self._codes(audio, rate)
        if codes is None:
            return None
        ids = torch.tensor([self._tokenizer.encode(text)])
        cosine = float((self._clvp.encode_text(ids) * self._clvp.encode_speech(codes[None])).sum())
        if not self._clvp.config.frames_per_token:
            return cosine, None
        return cosine, float(self._clvp.likelihood(ids, codes[None])) / ids.shape[1]

    def _codes(self, audio: np.ndarray, rate: int) -> torch.Tensor | None:
        if len(audio) > LONGEST * rate:
            return None
        codes = self._encoder(audio, rate)
        return torch.from_numpy(codes) if len(codes) else None
