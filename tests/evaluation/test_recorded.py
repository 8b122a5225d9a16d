"""Sets of recordings: fixed ids, laid out of a corpus that the user has, spoken in the voices of their references."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

from chelys.cli.main import app
from chelys.data.recipes.corpora import make_manifest
from chelys.errors import ConfigError, ManifestError
from chelys.evaluation.recorded import RECORDED, clip_ids, lay_out, set_hash
from chelys.evaluation.sets import Text
from chelys.evaluation.speaking import listed_texts, read_clips, speak_texts
from chelys.inference.options import SpeechOptions
from chelys.inference.synthesizer import Synthesizer


def sound(path: Path, seconds: float = 0.05) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(len(path.name)).normal(size=round(16_000 * seconds))
    sf.write(path, samples.astype(np.float32), 16_000)


@pytest.fixture
def librispeech(tmp_path: Path) -> Path:
    """The clips of the set in LibriSpeech's layout."""
    lines: dict[Path, list[str]] = {}
    for id_ in {one for pair in clip_ids("unseen") for one in pair}:
        speaker, chapter, _ = id_.split("-")
        folder = tmp_path / "LibriSpeech" / "test-clean" / speaker / chapter
        sound(folder / f"{id_}.flac", 1.0 if speaker == "260" else 0.05)
        lines.setdefault(folder / f"{speaker}-{chapter}.trans.txt", []).append(f"{id_} ONE AND I'M TWO")
    for path, some in lines.items():
        path.write_text("".join(f"{line}\n" for line in sorted(some)))
    return tmp_path / "LibriSpeech"


def test_sets_stay_as_they_are() -> None:
    assert {name: (len(clip_ids(name)), set_hash(name)) for name in RECORDED} == {
        "unseen": (60, "7f9d7878d9122cdd"), "recordings": (100, "92263f003d0d5af0"),
    }  # fmt: skip
    speakers = Counter(clip.partition("-")[0] for _, clip in clip_ids("unseen"))
    assert len(speakers) == 20 and set(speakers.values()) == {3}
    assert all(ref != clip and ref.split("-")[0] == clip.split("-")[0] for ref, clip in clip_ids("unseen"))
    assert len({clip for _, clip in clip_ids("recordings")}) == 100
    with pytest.raises(ConfigError, match="choose from unseen, recordings"):
        clip_ids("seen")


def test_a_set_is_laid_out_and_spoken_in_the_voices_of_its_references(
    librispeech: Path, tts: Synthesizer, tmp_path: Path
) -> None:
    made = CliRunner().invoke(app, ["data", "set", "unseen", str(librispeech), str(tmp_path / "set")])
    assert made.exit_code == 0 and made.output.strip() == str(tmp_path / "set" / "list.jsonl")
    about = json.loads((tmp_path / "set" / "set.json").read_text())
    assert (about["set"], about["version"], about["licence"]) == ("unseen", 1, "CC-BY-4.0")
    clips = read_clips(tmp_path / "set")
    assert len(clips) == 60 and all(clip.audio.is_file() and clip.reference for clip in clips)
    texts = [text for text in listed_texts(tmp_path / "set" / "list.jsonl") if "260-" in str(text.reference)]
    assert len(texts) == 3 and {text.text for text in texts} == {"One and I'm two"}
    options = SpeechOptions(candidates=1, steps=1, max_new_tokens=8)
    spoken = speak_texts(tts, [*texts, Text("Hello there.")], ["low"], tmp_path / "out", options=options)
    assert texts[0].reference is not None
    assert [clip.voice for clip in spoken] == [texts[0].reference.stem] * 3 + ["low"]
    assert spoken[0].reference is not None and spoken[0].reference.is_file()
    assert lay_out("unseen", librispeech, tmp_path / "set")  # once more into its own folder


def test_a_corpus_that_lacks_clips_is_said_in_a_line(librispeech: Path, tmp_path: Path) -> None:
    reference, clip = clip_ids("unseen")[0]
    for path in librispeech.rglob(f"{clip}.flac"):
        path.unlink()
    with pytest.raises(ConfigError, match=f"lacks 1 of the 80 clips of 'unseen', the first {clip}: give the folder of"):
        lay_out("unseen", librispeech, tmp_path / "set")
    with pytest.raises(ConfigError, match=r"no metadata.csv in .*: give the folder of LJSpeech 1.1"):
        lay_out("recordings", librispeech, tmp_path / "set")
    with pytest.raises(ConfigError, match="no folder"):
        lay_out("unseen", tmp_path / "gone", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_librispeech_has_a_recipe(librispeech: Path, tmp_path: Path) -> None:
    next(librispeech.rglob("*.trans.txt")).open("a").write("1-1-1 \n")
    made = make_manifest("librispeech", librispeech, tmp_path / "out")
    assert (made.clips, made.speakers, made.left_out) == (80, 20, {"no transcript": 1})
    line = json.loads(made.manifest.read_text().splitlines()[0])
    assert (line["text"], line["split"], line["licence"]) == ("One and I'm two", "test-clean", "CC-BY-4.0")
    with pytest.raises(ManifestError, match="trans.txt"):
        make_manifest("librispeech", tmp_path / "out", tmp_path / "none")
