"""The report of a preparation: right figures, nothing from elsewhere, and no name or text that is taken for HTML."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

from chelys.cli.main import app
from chelys.data.prepare.report import (
    find_reference,
    histogram,
    plain,
    read_references,
    spoken_words,
    summarize,
    word_errors,
    write_report,
)
from chelys.errors import ManifestError

EVIL = "<script>alert('x')</script>&\"|`*\n# [b](http://evil.example)"


class Page(HTMLParser):
    """What a browser makes of the page: tags, where they point, the text, the cells of each row."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pointers: list[str] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(path.read_text(encoding="utf8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.pointers += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.inside:
            self.rows[-1][-1] += data


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "my <corpus>"
    (folder / "audio").mkdir(parents=True)
    rng = np.random.default_rng(0)
    sf.write(folder / "audio" / "a.flac", 0.1 * rng.normal(size=100 * 24_000), 24_000)
    return folder


@pytest.fixture
def metadata(out: Path) -> Callable[..., None]:
    """Write a metadata of so many clips of 2 s, every fourth of them dropped; the first is changed as asked."""

    def write(clips: int = 40, recordings: tuple[dict[str, Any], ...] = (), **changes: Any) -> None:
        rows = []
        for n in range(clips):
            dropped = n % 4 == 3
            rows.append(
                {
                    "id": f"clip{n:03d}", "source": f"tape/{n:03d}.mp3", "start": 1.0, "end": 3.0, "seconds": 2.0,
                    "licence": "CC0-1.0", "speaker": f"s{n % 2}", "audio": "audio/a.flac", "audio_start": 2.0 * n,
                    "audio_end": 2.0 * n + 2, "measured": {"snr_db": 20.0 + n, "overlap": None},
                    "text": f"It costs {n} dollars.", "confidence": 0.5 + n / 100, "kept": not dropped,
                    "reasons": ["snr_db below 12", "no <words>"] if dropped else [],
                }
            )  # fmt: skip
        rows[0] |= changes
        read = [{"source": row["source"], "seconds": 5.0, "status": "read"} for row in rows]
        for name, entries in (("clips", rows), ("recordings", [*read, *recordings])):
            (out / f"{name}.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))

    return write


def test_figures(out: Path, metadata: Callable[..., None]) -> None:
    metadata(recordings=({"source": "x.m4a", "status": "unreadable", "reason": "empty (0 bytes)"},))
    report = write_report(out)
    page = Page(report.page)
    figures = dict(re.findall(r"<dt>([\w ]+)</dt><dd>([\d.]+)</dd>", report.page.read_text()))
    assert figures == {
        "hours recorded": "0.06", "hours kept": "0.02", "recordings": "41", "unreadable": "1", "clips": "40",
        "clips kept": "30", "named speakers": "2", "words": "120",
    }  # fmt: skip
    assert ["snr_db below 12", "10", "0.01"] in page.rows and ["no <words>", "10", "0.01"] in page.rows
    assert ["CC0-1.0", "0.02"] in page.rows and ["s0", "0.01"] in page.rows
    assert ["x.m4a", "empty (0 bytes)"] in page.rows
    assert page.tags.count("svg") == 3, "of lengths, of confidence and of what was measured; nothing of overlap"
    card = report.card.read_text()
    assert "0.02 hours of speech in 30 clips of 2.0 s on average, 2 named speakers, 120 words" in card
    assert "| CC0\\-1.0 | 0.02 |" in card and "| snr\\_db below 12 | 0.01 |" in card
    confidence = np.mean([0.5 + n / 100 for n in range(40) if n % 4 != 3])
    assert f"with a mean confidence of {confidence:.2f}" in card


def test_clips_to_listen_to_are_in_the_page(out: Path, metadata: Callable[..., None]) -> None:
    metadata()
    page = Page(write_report(out, clips=5, seed=1).page)
    assert page.tags.count("audio") == 5
    for pointer in page.pointers:
        head, data = pointer.split(",", 1)
        assert head == "data:audio/mpeg;base64"
        wave, rate = sf.read(io.BytesIO(base64.b64decode(data)))
        assert rate == 24_000 and len(wave) == pytest.approx(2 * rate, rel=0.1) and wave.std() > 0.05


def test_the_drawing_is_of_the_seed_and_of_kept_clips_alone(out: Path, metadata: Callable[..., None]) -> None:
    metadata()

    def drawn(seed: int) -> list[str]:
        return [clip.id for clip in summarize(out, clips=8, seed=seed).sample]

    assert drawn(1) == drawn(1) != drawn(2) and len(set(drawn(1))) == 8
    assert all(int(name[4:]) % 4 != 3 for seed in range(5) for name in drawn(seed))
    before = drawn(1)
    lines = (out / "clips.jsonl").read_text().splitlines(keepends=True)
    (out / "clips.jsonl").write_text("".join(reversed(lines)))
    assert drawn(1) == before
    doubtful = summarize(out, clips=3).doubtful
    assert [clip.id for clip in doubtful] == ["clip000", "clip001", "clip002"], "the least confident first"


def test_nothing_comes_from_elsewhere_and_nothing_is_taken_for_html(out: Path, metadata: Callable[..., None]) -> None:
    names = {key: EVIL for key in ("source", "licence", "speaker", "text")}
    metadata(1, recordings=({"source": EVIL, "status": "unreadable", "reason": EVIL},), measured={EVIL: 3.0}, **names)
    (out / "refs.txt").write_text("001: nothing\n" + json.dumps({}) + "\n")
    (out / "refs.jsonl").write_text(json.dumps({"source": EVIL, "text": EVIL + " given"}) + "\n")
    report = write_report(out, references=out / "refs.jsonl")
    page = Page(report.page)
    assert not {"script", "link", "img", "iframe", "a", "b"} & set(page.tags)
    assert all(pointer.startswith("data:audio/") for pointer in page.pointers)
    source = report.page.read_text()
    assert "<script" not in source and page.text.count("alert('x')") >= 6, "it is shown, and shown only"
    assert "default-src 'none'" in source and "http" not in source.replace("http-equiv", "").replace(
        "http://evil.example", ""
    )
    card = report.card.read_text()
    for line in card.splitlines():
        assert not re.search(r"(?<!\\)<", line) and not line.startswith("# ")
    assert plain("a|b\n# c") == "a\\|b \\# c"


def test_sound_that_cannot_be_had(out: Path, metadata: Callable[..., None], tmp_path: Path) -> None:
    sf.write(tmp_path / "secret.flac", np.zeros(24_000), 24_000)
    for audio, says in (("../secret.flac", "outside"), ("audio/gone.flac", "cannot be read"), (None, "none")):
        metadata(1, audio=audio)
        page = Page(write_report(out).page)
        assert "audio" not in page.tags and any(row[0] == says for row in page.rows)


def test_an_odd_rate_is_no_obstacle(out: Path, metadata: Callable[..., None]) -> None:
    sf.write(out / "audio" / "a.flac", np.zeros(50_000), 10_000)
    metadata(1)
    assert Page(write_report(out).page).pointers[0].startswith("data:audio/wav")


def test_word_errors_against_references(out: Path, metadata: Callable[..., None]) -> None:
    metadata(8)  # clips 3 and 7 are dropped
    (out / "refs.txt").write_text(
        "; a comment\n000: It costs zero dollars.\ntape/001:It cost one dollar!\n003: It costs three dollars\n"
        "007.mp3\tQuite another thing.\nnobody: Nothing.\n"
    )
    (out / "recordings.jsonl").write_text(
        (out / "recordings.jsonl").read_text() + json.dumps({"source": "silent.mp3", "seconds": 1.0}) + "\n"
    )
    with (out / "refs.txt").open("a") as file:
        file.write("silent: Three words here\n")
    found = write_report(out, references=out / "refs.txt").summary.errors
    assert found is not None
    assert (found.kept.recordings, found.kept.words, found.kept.wrong) == (2, 8, 2)
    assert (found.transcribed.recordings, found.transcribed.words, found.transcribed.wrong) == (4, 15, 6)
    assert (found.all.recordings, found.all.words, found.all.wrong) == (5, 18, 9)
    assert [one.source for one in found.worst] == ["tape/001.mp3"]
    page = Page(out / "report.html")
    assert ["kept clips", "2", "8", "2", "0.250"] in page.rows
    assert "word error rate of 0.250" in (out / "data_card.md").read_text()


@pytest.mark.parametrize(
    ("reference", "hypothesis", "wrong"),
    [
        ("Take 42, please.", "take forty-two please", 0),
        ("one two three", "", 3),
        ("one", "one two three", 2),
        ("a b c d e", "b c x e", 2),
        ("the same again", "again the same", 2),
        ("???", "word", 1),
    ],
)
def test_word_errors(reference: str, hypothesis: str, wrong: int) -> None:
    assert word_errors(reference, hypothesis) == wrong


def test_word_errors_are_levenshteins_distance() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = (
            ["calm moon seven slow polo".split()[i] for i in rng.integers(5, size=n)] for n in rng.integers(0, 9, 2)
        )
        table = np.zeros((len(a) + 1, len(b) + 1), int)
        table[:, 0], table[0] = range(len(a) + 1), range(len(b) + 1)
        for i, one in enumerate(a):
            for j, other in enumerate(b):
                table[i + 1, j + 1] = min(table[i, j] + (one != other), table[i, j + 1] + 1, table[i + 1, j] + 1)
        assert word_errors(" ".join(a), " ".join(b)) == table[-1, -1]


def test_words_are_compared_as_they_are_spoken() -> None:
    assert spoken_words("Don't, Dr. Smith!") == ["dont", "doctor", "smith"]
    assert spoken_words("日本") != []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.txt", "a/b.wav: It: is | so.\n"),
        ("r.tsv", "b\tIt: is | so.\n"),
        ("r.csv", "b|It 2|It: is so.\n"),
        ("r.jsonl", '{"audio": "x/a/b.flac", "id": "7", "text": "It: is | so."}\nbroken\n[]\n'),
    ],
)
def test_files_of_references(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text("\ufeff" + content, encoding="utf8")
    found = find_reference("x/a/b.mp3", read_references(tmp_path / name))
    assert found is not None and spoken_words(found) == ["it", "is", "so"]
    assert find_reference("x/a/c.mp3", read_references(tmp_path / name)) is None


def test_names_with_dots(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("take.v2: Two.\ntake.v1.wav: One.\n")
    references = read_references(tmp_path / "r.txt")
    assert find_reference("take.v2.wav", references) == "Two." and find_reference("take.v1.wav", references) == "One."


def test_references_that_cannot_be_used(out: Path, metadata: Callable[..., None]) -> None:
    metadata(4)
    (out / "none.txt").write_text("; nothing\n\nno separator\n")
    with pytest.raises(ManifestError, match="holds no transcript"):
        write_report(out, references=out / "none.txt")
    (out / "others.txt").write_text("others: Other words.\n")
    with pytest.raises(ManifestError, match="none of the references names a recording"):
        write_report(out, references=out / "others.txt")
    with pytest.raises(ManifestError, match="cannot read references"):
        write_report(out, references=out / "gone.txt")
    assert not (out / "report.html").exists()


def test_no_metadata(out: Path) -> None:
    with pytest.raises(ManifestError, match="make it with 'chelys data prepare RAW"):
        write_report(out)


def test_nothing_kept_and_nothing_found(out: Path, metadata: Callable[..., None]) -> None:
    metadata(1, kept=False, reasons=["too short"], text=None, confidence=None, audio=None)
    assert "0.00 hours of speech in 0 clips" in write_report(out).card.read_text()
    for name in ("clips", "recordings"):
        (out / f"{name}.jsonl").write_text("")
    report = write_report(out)
    assert "None was." in Page(report.page).text and "not transcribed" in report.card.read_text()


def test_a_histogram_counts_everything() -> None:
    kept, dropped = np.concatenate([np.full(500, 1.0), [1e9]]), np.full(100, 3.0)
    found = histogram("snr", kept, dropped, "dB")
    heights = {name: sum(bar[3] for bar in found["bars"] if bar[0] == name) for name in ("kept", "dropped")}
    assert heights["dropped"] / heights["kept"] == pytest.approx(100 / 501, rel=0.05)
    assert found["label"] == "snr (dB)" and [text for *_, text in found["ticks"]] == ["1", "2", "3"]
    assert not histogram("empty", np.zeros(0), np.zeros(0))["bars"]
    assert [bar[3] for bar in histogram("same", np.full(3, 2.0), np.zeros(0))["bars"]] == [120.0]


def test_the_verb(out: Path, metadata: Callable[..., None]) -> None:
    metadata(4)
    (out / "refs.txt").write_text("000: It costs zero dollars\n")
    result = CliRunner().invoke(app, ["data", "report", str(out), "--references", str(out / "refs.txt")])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [str(out / "report.html"), str(out / "data_card.md")]
    assert result.stderr == "word error rate 0.000 of kept clips, 0.000 of all recordings\n"
    assert CliRunner().invoke(app, ["data", "report", str(out / "audio")]).exit_code == 2
