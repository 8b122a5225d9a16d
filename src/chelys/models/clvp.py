"""CLVP: how well do codes say a text? It picks the best of many candidates.

Two encoders of one shape encode text ids and speech codes; the mean over time of each goes through a projection onto
the unit sphere, and the score is the cosine of the two, scaled. Training pulls the pairs of a batch together and
everything else apart, as CLIP does for images.

A mean over time hardly moves when one word of ten is wrong, and candidates of one text differ in less. So nano's speech
encoder also has a CTC head: a linear layer predicts the text from the state at each code, and the log-likelihood of the
right text, over all alignments, is added to the score.

The blocks are those of `nn.encoder`, which CVVP shares.

Letters: b batch, t text ids, m codes, s either of them, d width, r CTC frames of a code.

Source: Betker 2023, Better speech synthesis through scaling, section 2.3; Radford et al. 2021, CLIP; Graves et al.
2006, Connectionist temporal classification.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.errors import ConfigError
from chelys.nn.attention import rotary_tables
from chelys.nn.encoder import EncoderBlock

#: Log-likelihood of each id of a text that is too long for any alignment.
NO_ALIGNMENT = -20.0


@dataclass(frozen=True)
class CLVPConfig:
    """Size of CLVP. The defaults are those of nano; where nothing else is said, both encoders have the same size."""

    RENAMED: ClassVar[dict[str, str | None]] = {"readings": "frames_per_token"}

    text_tokens: int = 100  # rows of the text table: every id that may come
    speech_tokens: int = 1024  # rows of the speech table: codes only, no start or stop
    dim: int = 192  # width of the stream
    depth: int = 4  # blocks (attention, then feed-forward)
    heads: int = 3
    speech_dim: int | None = None  # these three of the speech encoder, where they are not those of the text encoder
    speech_depth: int | None = None
    speech_heads: int | None = None
    latent_dim: int | None = None  # width of the latents, where it is not dim
    head_dim: int = 64  # channels of a head; heads x head_dim need not equal dim
    ff_mult: int = 2  # inner width of the feed-forward, in units of dim
    rotary_dim: int = 32  # channels of each head that are turned, even
    rotate_values: bool = False  # the published network turns values too
    frames_per_token: int = 0  # CTC frames of each code, for the likelihood of the text; 0: no CTC head
    dropout: float = 0.0  # of attention weights and of the inner feed-forward; the published training had 0.1

    def __post_init__(self) -> None:
        if self.rotary_dim % 2 or not 0 < self.rotary_dim <= self.head_dim:
            raise ConfigError(
                f"clvp: rotary_dim is {self.rotary_dim}; it must be even and at most head_dim, {self.head_dim}"
            )

    @classmethod
    def tortoise_v2(cls) -> CLVPConfig:
        """The published network (clvp2.pth): 243,846,145 parameters."""
        return cls(text_tokens=256, speech_tokens=8192, dim=768, depth=20, heads=12, rotate_values=True, dropout=0.1)


class TokenEncoder(nn.Module):
    """Ids to one vector: embed, read, normalise, average over time, project."""

    def __init__(self, tokens: int, dim: int, depth: int, heads: int, config: CLVPConfig) -> None:
        super().__init__()
        self.rotary_dim = config.rotary_dim
        self.embedding = nn.Embedding(tokens, dim)
        self.blocks = nn.ModuleList(
            EncoderBlock(
                dim,
                heads,
                head_dim=config.head_dim,
                ff_mult=config.ff_mult,
                rotate_values=config.rotate_values,
                dropout=config.dropout,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.projection = nn.Linear(dim, config.latent_dim or config.dim, bias=False)

    def forward(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(b, s) integer -> (b, d) of length 1; see `CLVP.encode_text`."""
        return self.point(self.states(ids, lengths), lengths)

    def states(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(b, s) integer -> (b, s, d): the state at each id."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        rotary = rotary_tables(positions, self.rotary_dim)
        mask = _mask(ids, lengths)
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, rotary, None if mask is None else mask[:, None, None])
        return self.norm(x)

    def point(self, states: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(b, s, d) -> (b, d) of length 1."""
        return F.normalize(self.projection(masked_mean(states, _mask(states, lengths))), dim=-1)


class CLVP(nn.Module):
    """Contrastive language-voice pre-training, over codes instead of audio."""

    def __init__(self, config: CLVPConfig) -> None:
        super().__init__()
        self.config = config
        self.text_encoder = TokenEncoder(config.text_tokens, config.dim, config.depth, config.heads, config)
        self.speech_encoder = TokenEncoder(
            config.speech_tokens, config.speech_dim or config.dim, config.speech_depth or config.depth,
            config.speech_heads or config.heads, config,
        )  # fmt: skip
        self.temperature = nn.Parameter(torch.tensor(1.0))  # logarithm of the scale of the cosines
        self.blank = config.text_tokens  # the CTC blank
        if config.frames_per_token:
            outputs = config.frames_per_token * (config.text_tokens + 1)
            self.ctc_head = nn.Linear(config.speech_dim or config.dim, outputs)

    def score(
        self, text: Tensor, codes: Tensor, text_lengths: Tensor | None = None, code_lengths: Tensor | None = None, *,
        text_latents: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """How well each candidate says its text.

        ``text``: (b, t) integer, or (1, t): one text for all candidates, which is then encoded once. ``codes``: (b, m)
        integer. ``text_lengths``: (b,), at least 1 each; without it nothing is padding. ``code_lengths``: the same for
        the codes. ``text_latents``: of the text, where `encode_text` made them before. Returns (b,) scores, higher is
        better; comparable between candidates of one text.
        """
        text_latents = self.encode_text(text, text_lengths) if text_latents is None else text_latents
        states = self.speech_encoder.states(codes, code_lengths)
        cosines = (text_latents * self.speech_encoder.point(states, code_lengths)).sum(dim=-1) * self.temperature.exp()
        if not self.config.frames_per_token:
            return cosines
        return cosines + self._log_likelihood(states, text, text_lengths, code_lengths)

    def score_beginnings(self, text: Tensor, codes: Tensor) -> Tensor:
        """The same of candidates that are not yet complete: how well each says some beginning of the text.

        ``text``: (1, t) integer. ``codes``: (b, m) integer. Returns (b,) scores, higher is better.
        """
        states = self.speech_encoder.states(codes)
        cosines = (self.encode_text(text) * self.speech_encoder.point(states)).sum(dim=-1) * self.temperature.exp()
        if not self.config.frames_per_token:
            return cosines
        return cosines + beginnings_likelihood(self._ctc(states), text[0], self.blank)

    def encode_text(self, text: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Text ids to points on the unit sphere.

        ``text``: (b, t) integer. ``lengths``: (b,), at least 1 each: ids from there on are neither attended nor
        averaged. Without it all are, which is what the published system does. Returns (b, d), each of length 1.
        """
        return self.text_encoder(text, lengths)

    def encode_speech(self, codes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Codes (b, m) to points (b, d) on the unit sphere, as `encode_text` does for text."""
        return self.speech_encoder(codes, lengths)

    def similarity(self, text_latents: Tensor, speech_latents: Tensor) -> Tensor:
        """Scores of every text with every speech: (a, d) and (b, d) -> (a, b). Training wants the diagonal largest."""
        return text_latents @ speech_latents.T * self.temperature.exp()

    def likelihood(
        self, text: Tensor, codes: Tensor, text_lengths: Tensor | None = None, code_lengths: Tensor | None = None
    ) -> Tensor:
        """Log-likelihood of the text under the CTC head; needs `CLVPConfig.frames_per_token`.

        ``text``: (b, t) integer, or (1, t): one text for all candidates. ``codes``: (b, m) integer. ``text_lengths``:
        (b,) or (1,). ``code_lengths``: (b,). Returns (b,) logarithms, summed over the ids of the text; `NO_ALIGNMENT`
        for each id where the codes are too few.
        """
        return self._log_likelihood(self.speech_encoder.states(codes, code_lengths), text, text_lengths, code_lengths)

    def read(self, codes: Tensor) -> Tensor:
        """What the CTC head hears: codes (b, m) to logarithms of probabilities (b, r m, ids + blank), blank last."""
        return self._ctc(self.speech_encoder.states(codes))

    def _ctc(self, states: Tensor) -> Tensor:
        logits = self.ctc_head(states).float().unflatten(2, (self.config.frames_per_token, -1))
        return logits.flatten(1, 2).log_softmax(-1)

    def _log_likelihood(
        self, states: Tensor, text: Tensor, text_lengths: Tensor | None, code_lengths: Tensor | None
    ) -> Tensor:
        """`likelihood` of the text, from the states of the speech encoder at each code, (b, m, d)."""
        b, m = states.shape[:2]
        log_probabilities = self._ctc(states)
        ids = text.new_tensor([text.shape[1]]) if text_lengths is None else text_lengths
        times = text.new_full((b,), m) if code_lengths is None else code_lengths
        text, ids = text.expand(b, -1), ids.expand(b)
        times = times * self.config.frames_per_token
        # older torch has no CTC loss on MPS
        device = torch.device("cpu") if states.device.type == "mps" else states.device
        nll = F.ctc_loss(
            log_probabilities.transpose(0, 1).to(device), text.to(device), times.to(device), ids.to(device),
            blank=self.blank, reduction="none", zero_infinity=True,
        ).to(states.device)  # fmt: skip
        # a loss of zero means that there is no alignment
        return torch.where(nll > 0, -nll, NO_ALIGNMENT * ids)


def beginnings_likelihood(log_probabilities: Tensor, text: Tensor, blank: int) -> Tensor:
    """Log-likelihood of all beginnings of a text together, under CTC (Graves et al. 2006, equations 5 to 7).

    It is the sum of the forward variables at the last frame. ``log_probabilities``: (b, frames, ids + blank). ``text``:
    (t,) integer. Returns (b,).
    """
    path = torch.full((2 * len(text) + 1,), blank, device=text.device)
    path[1::2] = text
    emitted = log_probabilities[:, :, path]  # (b, frames, 2 t + 1)
    skips = path[2:] != path[:-2]  # from an id to the next, unless they are equal, or blanks
    reached = torch.full_like(emitted[:, 0], float("-inf"))
    reached[:, :2] = emitted[:, 0, :2]
    for frame in emitted.unbind(1)[1:]:
        step = torch.logaddexp(reached, F.pad(reached[:, :-1], (1, 0), value=float("-inf")))
        step[:, 2:] = torch.logaddexp(step[:, 2:], reached[:, :-2].masked_fill(~skips, float("-inf")))
        reached = step + frame
    return reached.logsumexp(1)


def _mask(x: Tensor, lengths: Tensor | None) -> Tensor | None:
    """Which positions of (b, s, ...) are not padding, (b, s); None where all are."""
    return None if lengths is None else torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over time of (b, s, d), of the positions where `mask` (b, s) is true, or of all: (b, d)."""
    if mask is None:
        return x.mean(dim=1)
    weights = mask[..., None].to(x.dtype)  # (b, s, 1)
    return (x * weights).sum(dim=1) / weights.sum(dim=1)
