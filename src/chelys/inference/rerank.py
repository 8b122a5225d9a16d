"""Which take is the best: CLVP hears whether it says the text, CVVP whether it sounds like the speaker's clips.

CLVP: Betker 2023, section 3.2. CVVP counts only where a weight is given to it.

b takes, m codes, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from chelys.errors import VoiceError
from chelys.inference.decode import Take
from chelys.models.clvp import CLVP
from chelys.tortoise.code_rules import CodeRules
from chelys.tortoise.cvvp import CVVP

#: Rows of one length that are read at a time, to bound the memory.
ROWS = 16
#: Codes ``(b, m)`` to scores ``(b,)``.
Judge = Callable[[Tensor], Tensor]


@torch.inference_mode()
def score(
    clvp: CLVP,
    text: Tensor,
    takes: list[Take],
    *,
    rules: CodeRules | None = None,
    stops: int = 0,
    cvvp: CVVP | None = None,
    clips: Sequence[Tensor] | Tensor = (),
    weight: float = 0.0,
) -> list[float]:
    """Score of each take, higher is better.

    Args:
        clvp: In evaluation mode.
        text: Ids ``(t,)``; it is read once.
        takes: Any number.
        rules: Of the published codes, whose judges read rows of one length; without them each take is read as it is.
        stops: Stop ids that the text gets at its end.
        cvvp: In evaluation mode; only needed if it has a weight.
        clips: Mels ``(bands, s)`` of the speaker's clips, as CVVP reads them; its score is the mean over them.
        weight: Of CVVP against CLVP, 0 to 1. At 0 CVVP is not run, at 1 CLVP is not.

    Returns:
        Scores in the order of the takes; minus infinity for one that cannot be read, having no code at all or one that
        is not speech.

    Raises:
        VoiceError: If CVVP has a weight, but nothing to listen to.
    """
    judges: list[tuple[float, Judge]] = []
    if weight < 1.0:
        judges.append((1.0 - weight, _clvp_judge(clvp, F.pad(text, (0, stops)))))  # the stop id is 0
    if weight > 0.0:
        if cvvp is None or len(clips) == 0:
            raise VoiceError(
                f"cvvp is {weight}, but there are no clips of the voice to compare with: give clips, or set cvvp to 0"
            )
        judges.append((weight, _cvvp_judge(cvvp, clips)))
    scores = [float("-inf")] * len(takes)
    for places, codes in _batches(takes, rules, clvp.config.speech_tokens):
        judged = sum(share * judge(codes) for share, judge in judges)
        assert isinstance(judged, Tensor)
        for place, value in zip(places, judged.tolist(), strict=True):
            scores[place] = value
    return scores


def _clvp_judge(clvp: CLVP, text: Tensor) -> Judge:
    said = clvp.encode_text(text[None])
    return lambda codes: clvp.score(text[None], codes, said=said)


def _cvvp_judge(cvvp: CVVP, clips: Sequence[Tensor] | Tensor) -> Judge:
    heard = torch.cat([cvvp.encode_clip(mel[None]) for mel in clips])  # (clips, d)
    return lambda codes: cvvp.similarity(heard, cvvp.encode_speech(codes)).mean(0)


def _batches(takes: list[Take], rules: CodeRules | None, tokens: int) -> list[tuple[list[int], Tensor]]:
    """Places of takes, and the rows ``(b, m)`` to read for them; takes without a code to read are in none.

    Without rules they go one by one: then a take's score does not depend on its company.
    """
    rows = [take.codes if rules is None else rules.padded(take.codes) for take in takes]
    # the original may say the start code, of which the judges know nothing
    sound = [place for place, row in enumerate(rows) if len(row) and int(row.max()) < tokens]
    size = 1 if rules is None else ROWS
    groups = [sound[first : first + size] for first in range(0, len(sound), size)]
    return [(places, torch.stack([rows[place] for place in places])) for places in groups]


def ranked(takes: list[Take], scores: list[float], *, reference: bool = False) -> list[int]:
    """Indices of the takes, best first.

    Args:
        takes: Their codes do not matter, but whether they stopped does.
        scores: One for each, higher is better.
        reference: By the scores alone, as the original did. Else a take that never stopped comes after all that did.
    """
    return sorted(range(len(takes)), key=lambda i: (not (takes[i].stopped or reference), -scores[i], i))
