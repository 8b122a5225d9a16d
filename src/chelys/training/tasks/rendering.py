"""The mels that the diffusion decoder learns to render, and which codes they belong to.

nano has one front end: four mel frames to a code. The published system codes at 22.05 kHz and renders at 24 kHz: a
corpus is laid out twice, and a piece of m codes is 4 m x 160 / 147 frames of the other layout, rounded down.

f bands, s mel frames.
"""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from chelys.audio.mel import MEL_EXTREMES, MelRange
from chelys.audio.rates import FRAMES_PER_CODE, OUTPUT_RATE, mel_frames
from chelys.data.dataset import Clip, ClipDataset
from chelys.data.pairs import repeat_to
from chelys.errors import ConfigError


class Rendering:
    """Targets and voices of the clips of a feature folder."""

    def __init__(self, features: ClipDataset, mel_range: MelRange, rendered: ClipDataset | None = None) -> None:
        """Look up targets.

        Args:
            features: What the clips are of.
            mel_range: Of the targets.
            rendered: The same clips at 24 kHz, where the features are of the codes' front end.

        Raises:
            ConfigError: If the two do not go together.
        """
        self.published = features.front_end == "codes"
        self.rate = features.spec.sample_rate
        if self.published and rendered is None:
            raise ConfigError(
                f"{features.folder} is of the codes' front end: name the same corpus of the shared one, rendered=FOLDER"
            )
        if rendered is not None and (not self.published or rendered.front_end != "shared"):
            raise ConfigError(
                "rendered=FOLDER goes with features of the codes' front end, and is of the shared one itself; "
                f"features are {features.front_end}, rendered {rendered.front_end}"
            )
        self.mel_range = mel_range
        self.features = rendered or features
        self._twins = {clip.id: clip for clip in rendered.clips} if rendered else {}

    def twin(self, clip: Clip) -> Clip:
        """The clip in the layout that is rendered.

        Raises:
            ConfigError: If it is not there.
        """
        if not self.published:
            return clip
        if clip.id not in self._twins:
            raise ConfigError(f"{self.features.folder} lacks {clip.id}: make both feature folders of one manifest")
        return self._twins[clip.id]

    def codes(self, clip: Clip) -> int:
        """How many of a clip's codes can be rendered: the other layout ends with a whole code of its own."""
        if not self.published:
            return clip.codes
        codes = clip.codes
        while codes > 1 and self._frames(codes) > self.twin(clip).frames:
            codes -= 1
        return codes

    def _frames(self, codes: int) -> int:
        return mel_frames(codes, self.rate)

    def mel(self, clip: Clip, first: int, codes: int) -> Tensor:
        """Target of a piece of a clip, ``(f, s)`` in network units.

        Args:
            clip: Of the features.
            first: Code that the piece begins with.
            codes: How many.
        """
        frames = self._frames(codes)
        start = round(first * FRAMES_PER_CODE * OUTPUT_RATE / self.rate)  # at most half a frame beside, 5 ms
        twin = self.twin(clip)
        return self.mel_range.normalize(self.features.mel(twin, min(start, twin.frames - frames), frames))

    def voice(self, clip: Clip, frames: int, rng: np.random.Generator) -> Tensor:
        """What the contextual embedder hears of a clip: a piece at random, ``(f, frames)``.

        Published mels are not normalised here, and silence follows a clip that is too short; nano's are repeated.
        """
        twin = self.twin(clip)
        start = int(rng.integers(max(0, twin.frames - frames) + 1))
        mel = self.features.mel(twin, start, min(frames, twin.frames))
        if self.published:
            return F.pad(mel, (0, frames - mel.shape[1]), value=MEL_EXTREMES[0])
        return self.mel_range.normalize(repeat_to(mel, frames))
