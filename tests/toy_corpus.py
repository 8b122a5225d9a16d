"""A corpus of half a minute made by code: three speakers hum vowels, one or two to a word.

From it, in a folder of the test session's: features, codes of a small VQ-VAE whose code book k-means has started, and
a tokenizer. Nothing of it is to be changed by a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

from chelys.audio.mel import MelRange
from chelys.data.dataset import Clip, Codes, Features
from chelys.data.features import encode, extract
from chelys.data.loader import is_held_out
from chelys.data.manifest import Utterance, write_manifest
from chelys.data.pairs import PairConfig, Pairs
from chelys.models.dvae import DVAE, DVAEConfig
from chelys.text.lexicon import Lexicon
from chelys.text.tokenizer import Tokenizer, make_tokenizer

RATE = 24_000
MEL_RANGE = MelRange(low=-9.0, high=-3.0)
#: Of runs that train on it.
LOOP = {
    "steps": 12, "warmup": 3, "threads": 1, "precision": "float32", "pictures": False, "tensorboard": False,
    "log_every": 1, "evaluate_every": 5, "checkpoint_every": 4,
}  # fmt: skip
DVAE_SIZES = DVAEConfig(tokens=16, code_width=4, hidden=16, residual_blocks=1)

#: Pitch of each speaker, Hz.
SPEAKERS = {"ada": 210.0, "bob": 105.0, "cleo": 150.0}
#: The first two formants of each vowel, Hz.
VOWELS = {"ɑ": (750, 1150), "i": (280, 2250), "u": (310, 870), "ɛ": (550, 1850), "O": (450, 900)}
WORDS = {"calm": "kˈɑm", "three": "θɹˈi", "moon": "mˈun", "seven": "sˈɛvɛn", "slow": "slˈO", "polo": "pˈOlO"}


@dataclass(frozen=True)
class ToyCorpus:
    """Where the parts lie.

    Attributes:
        folder: Of all of it.
    """

    folder: Path

    @property
    def manifest(self) -> Path:
        """Eighteen clips of 0.6 to 2 s; one of each speaker is held out."""
        return self.folder / "corpus" / "manifest.jsonl"

    @property
    def features(self) -> Path:
        """Feature folder."""
        return self.folder / "features"

    @property
    def codes(self) -> Path:
        """Codes of `dvae`."""
        return self.folder / "codes.npy"

    @property
    def text(self) -> Path:
        """Folder of the tokenizer."""
        return self.folder / "text"

    def dvae(self) -> DVAE:
        """What wrote the codes: as it came, but for a code book from k-means over the corpus."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            dvae = DVAE(DVAE_SIZES).eval()
        features = Features(self.features)
        with torch.no_grad():
            mels = [MEL_RANGE.normalize(features.mel(clip))[None] for clip in features.clips]
            encoded = torch.cat([dvae.encoder(mel).transpose(1, 2)[0] for mel in mels])
        dvae.codebook.start(encoded, torch.Generator().manual_seed(0))
        return dvae

    def pairs(self, config: PairConfig | None = None, seed: int = 1) -> Pairs:
        """Batches of the corpus."""
        config = config or PairConfig(budget=120, reference_frames=32)
        return Pairs(
            Features(self.features), Codes(self.codes), Tokenizer.load(self.text), MEL_RANGE, config, seed
        )  # fmt: skip

    def paths(self) -> dict[str, str]:
        """Keys of a run's configuration that say where the data lie."""
        return {"features": str(self.features), "codes": str(self.codes), "text": str(self.text)}


def make(folder: Path) -> ToyCorpus:
    """Make all of it, in about a second; what is there is left as it is."""
    toy = ToyCorpus(folder)
    if not toy.codes.exists():
        make_corpus(toy.manifest.parent)
        extract([toy.manifest], toy.features, workers=1)
        tokenizer().save(toy.text)
        encode(Features(toy.features), toy.dvae(), MEL_RANGE, toy.codes)
    return toy


@dataclass(frozen=True)
class TwoMelSpecs:
    """The corpus laid out twice, as the published networks hear it.

    Attributes:
        features: Of the codes' mel spec.
        rendered: Of the shared one.
        codes: Random ones, 16 of them.
        text: Folder of the tokenizer.
    """

    features: Path
    rendered: Path
    codes: Path
    text: Path

    def codes_paths(self) -> dict[str, str]:
        """Keys of a run's configuration that say where the data lie."""
        return {"features": str(self.features), "codes": str(self.codes), "text": str(self.text)}


def lay_out_twice(toy: ToyCorpus, folder: Path) -> TwoMelSpecs:
    """Lay it out once more; what is there is left as it is."""
    two = TwoMelSpecs(folder / "features", toy.features, folder / "codes.npy", toy.text)
    if not two.codes.exists():
        extract([toy.manifest], two.features, mel_spec="codes", workers=1)
        count = len(Features(two.features).frames) // 4
        np.save(two.codes, np.random.default_rng(0).integers(16, size=count).astype(np.uint16))
    return two


def make_corpus(folder: Path, *, clips: int = 18, rate: int = RATE) -> Path:
    """Write recordings and their manifest; the last clip of each speaker is held out.

    Returns:
        Path of the manifest.
    """
    rng = np.random.default_rng(0)
    names = list(SPEAKERS)
    kept, learned = _ids(held_out=True), _ids(held_out=False)
    utterances = []
    (folder / "audio").mkdir(parents=True)
    for index in range(clips):
        speaker = names[index % len(names)]
        id_ = next(kept if index >= clips - len(names) else learned)
        words = [str(word) for word in rng.choice(list(WORDS), size=int(rng.integers(3, 8)))]
        audio = speak(words, SPEAKERS[speaker], rng, rate=rate)
        sf.write(folder / "audio" / f"{id_}.wav", audio, rate)
        utterances.append(
            Utterance(id_, f"audio/{id_}.wav", " ".join(words).capitalize() + ".", speaker, round(len(audio) / rate, 3))
        )
    write_manifest(folder / "manifest.jsonl", utterances)
    return folder / "manifest.jsonl"


def speak(words: list[str], pitch: float, rng: np.random.Generator, *, rate: int = RATE) -> np.ndarray:
    """Hum the vowels of some words, ``(n,)`` float32."""
    pieces = []
    for word in words:
        for formants in (VOWELS[c] for c in WORDS[word] if c in VOWELS):
            pieces.append(vowel(pitch * rng.uniform(0.95, 1.05), formants, 0.2 * rng.uniform(0.8, 1.2), rate))
        pieces.append(np.zeros(int(0.02 * rate)))
    audio = np.concatenate(pieces)
    return (audio + 1e-4 * rng.standard_normal(len(audio))).astype(np.float32)


def vowel(pitch: float, formants: tuple[float, float], seconds: float, rate: int) -> np.ndarray:
    """Harmonics of a pitch under two resonances, with soft edges."""
    time = np.arange(int(seconds * rate)) / rate
    harmonics = np.arange(1, int(4000 / pitch)) * pitch
    gains = sum(np.exp(-(((harmonics - formant) / 150) ** 2)) for formant in formants) + 0.01
    tone = np.sin(2 * np.pi * harmonics * time[:, None]) @ gains
    edge = np.minimum(1, np.minimum(time, time[::-1]) / 0.02)
    return 0.3 * edge * tone / np.abs(tone).max()


def tokenizer() -> Tokenizer:
    """Phonemes of the corpus's words; letters for all others."""
    return make_tokenizer(Lexicon(WORDS, "made for the tests"))


def clip(id_: str = "a", *, speaker: str = "ada", first: int = 0, frames: int = 40) -> Clip:
    """A clip that has no recording."""
    return Clip(id_, f"{id_}.wav", "Calm moon.", speaker, first, frames)


def _ids(*, held_out: bool):
    return (id_ for id_ in (f"toy-{n:04d}" for n in count()) if is_held_out(id_) == held_out)
