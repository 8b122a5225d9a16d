"""What the published networks expect of a row of codes: silence behind the speech, and where to cut it.

TorToise gives CLVP and the decoder's latent pass rows of one length. From the stop on, a row is silence, and its last
codes are those that recordings often ended with; then the latents are cut where the silence has lasted. nano knows
nothing of this: its codes are what was said, and no more.

m codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class SilenceTrimming:
    """Rules of the published codes; the defaults are the published numbers.

    Attributes:
        silence: The code of silence.
        max_silence: Codes of silence in a row that are rendered; what follows them is cut off.
        tail: What every row ends with, wherever the speech ended.
        length: Codes of a row, which is also the most that a take may have.
        sampled_before: Codes that the repetition penalty counts as said before anything is. The original stood
            for voice and text by as many ones and by the start code, which is how the published figures came about.
    """

    RENAMED: ClassVar[dict[str, str | None]] = {"calm": "max_silence", "penalised_from_start": "sampled_before"}

    silence: int = 83
    max_silence: int = 8
    tail: tuple[int, ...] = (45, 45, 248)
    length: int = 500
    sampled_before: tuple[int, ...] = (1, 8192)

    def padded(self, codes: Tensor) -> Tensor:
        """The row that CLVP, CVVP and the latent pass read.

        Args:
            codes: A take ``(m,)``, without start and stop, of at most ``length`` codes. One that fills the row never
                stopped, and stays as it is.

        Returns:
            ``(length,)``; the tail overwrites the last codes of speech that reaches so far.
        """
        assert len(codes) <= self.length, f"{len(codes)} codes do not fit into a row of {self.length}"
        if len(codes) == self.length:
            return codes
        row = codes.new_full((self.length,), self.silence)
        row[: len(codes)] = codes
        row[self.length - len(self.tail) :] = torch.tensor(self.tail, dtype=codes.dtype, device=codes.device)
        return row

    def end(self, codes: Tensor) -> int:
        """How many of the codes ``(m,)`` are rendered: all before the first silence that is one too many in a row."""
        run = 0
        for place, code in enumerate(codes.tolist()):
            run = run + 1 if code == self.silence else 0
            if run > self.max_silence:
                return place
        return len(codes)

    def trimmed(self, codes: Tensor) -> Tensor:
        """What of a take ``(m,)`` is rendered: its row up to that silence; latents look back only."""
        row = self.padded(codes)
        return row[: self.end(row)]
