"""Books to files by an engine of no weight: chapters, titles, tags, covers, subtitles, and what is refused."""

from __future__ import annotations

import errno
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from books import epub, nav, png, xhtml  # noqa: E402
from stand_in import takes  # noqa: E402

from chelys.audio.tags import read_tags  # noqa: E402
from chelys.audiobook import book_file, reading, track  # noqa: E402
from chelys.audiobook.book_file import FORMATS  # noqa: E402
from chelys.audiobook.narrate import Made  # noqa: E402
from chelys.audiobook.plan import FINISHING, forecast  # noqa: E402
from chelys.audiobook.reading import ReadSettings  # noqa: E402
from chelys.audiobook.script import Pauses  # noqa: E402
from chelys.audiobook.speakers import Speakers  # noqa: E402
from chelys.audiobook.subtitles import written_words  # noqa: E402
from chelys.errors import OutputError, TextError, UserError, VoiceError  # noqa: E402
from chelys.files import file_lock  # noqa: E402
from chelys.inference.synthesizer import Synthesizer  # noqa: E402

PAGES = {
    "one.xhtml": xhtml("<h1>One</h1><p>Hello there. One, two.</p><p>Three.</p><hr/><p>[pause:2] A hello.</p>"),
    "two.xhtml": xhtml("<h1>Two: the é</h1><p>One. Two? Three!</p>"),
    "three.xhtml": xhtml("<p>Привет.</p><p>Hello.</p>"),
}
TOC = nav(("One", "one.xhtml"), ("Two: the é", "two.xhtml"), ("The third", "three.xhtml"))
FACTS = "<dc:title>A Book</dc:title><dc:creator>Ann</dc:creator><dc:date>1851</dc:date>"
COVER = "<item id='c' href='c.png' properties='cover-image' media-type='image/png'/>"


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.epub"
    path.write_bytes(epub(PAGES, toc=TOC, facts=FACTS, manifest=COVER, more={"OPS/c.png": png()}))
    return path


@pytest.fixture
def read(tts: Synthesizer, book: Path, tmp_path: Path) -> Callable[..., Made]:
    def call(output: str, *, force: bool = False, by: Any = takes, **changes: Any) -> Made:
        settings = ReadSettings(str(book), str(tmp_path / output), **changes)
        found = settings.book()
        return reading.read(settings, found, settings.script(found, tts), by, force=force)

    return call


def marks(path: Path) -> list[tuple[str, float, float]]:
    with av.open(str(path)) as file:
        return [(one["metadata"]["title"], float(one["start"] * one["time_base"]), float(one["end"] * one["time_base"]))
                for one in file.chapters()]  # fmt: skip


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        planes = [frame.to_ndarray() for frame in file.decode(audio=0)]
        rate = file.streams.audio[0].rate
    whole = np.concatenate(planes, axis=1)[0][:: rate // 24_000]
    return whole / 32768 if whole.dtype == np.int16 else whole


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_has_what_it_can_hold(format: str, read: Callable[..., Made], tmp_path: Path) -> None:
    made = read(f"out.{format}")
    path = tmp_path / f"out.{format}"
    assert made.files == [path, tmp_path / "out.sentences.jsonl"] and not list(tmp_path.glob(".*"))
    tags = read_tags(path)
    assert (tags["title"], tags["artist"], tags["genre"], tags["date"]) == ("A Book", "Ann", "Audiobook", "1851")
    assert json.loads(tags["comment"])["settings"]["source"].endswith("book.epub")
    audio = decoded(path)
    assert len(audio) / 24_000 == pytest.approx(made.seconds, abs=0.12)
    highest_db = -2.0 if format == "opus" else -3.0  # Opus strays the farthest from these tones
    assert np.abs(audio).max() < 10 ** (highest_db / 20)
    with av.open(str(path)) as file:
        assert len(file.streams.video) == (1 if FORMATS[format].cover else 0)
    if FORMATS[format].chapters:
        found = marks(path)
        assert [title for title, _, _ in found] == ["One", "Two: the é", "The third"]
        assert found[-1][2] == pytest.approx(made.seconds, abs=0.1)
        assert [start for _, start, _ in found[1:]] == pytest.approx([end for _, _, end in found[:-1]], abs=0.01)


def test_chapters_begin_where_their_first_sentence_does(read: Callable[..., Made], tmp_path: Path) -> None:
    read("out.m4b")
    record = [json.loads(line) for line in (tmp_path / "out.sentences.jsonl").read_text().splitlines()]
    begins = {one["chapter"]: one["start_s"] for one in reversed(record)}
    for title, start, _ in marks(tmp_path / "out.m4b"):
        assert begins[title] - start == pytest.approx(Pauses().begin, abs=0.005)
    assert [one["place"] for one in record[:4]] == ["1:1", "1:2", "1:3", "1:4"]
    gaps = [b["start_s"] - a["end_s"] for a, b in zip(record, record[1:], strict=False)]
    pauses = Pauses()
    assert gaps[0] == pytest.approx(pauses.heading, abs=0.01)  # after "One"
    assert gaps[1] == pytest.approx(0.28, abs=0.01) and gaps[2] == pytest.approx(pauses.paragraph, abs=0.01)
    assert gaps[3] == pytest.approx(2.0, abs=0.01)  # asked for, longer than that of a scene
    assert gaps[4] == pytest.approx(pauses.chapter, abs=0.01)


def test_a_file_for_each_chapter(read: Callable[..., Made], tmp_path: Path) -> None:
    made = read("out", each_chapter=True, format="mp3", subtitles=("srt",), chapters="1-2")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["01 One.mp3", "01 One.srt", "02 Two the é.mp3", "02 Two the é.srt", "sentences.jsonl"]
    assert {path.name for path in made.files} == set(names)
    tags = read_tags(tmp_path / "out" / "02 Two the é.mp3")
    assert (tags["title"], tags["album"], tags["track"]) == ("Two: the é", "A Book", "2/3")


def test_the_same_book_is_the_same_file(read: Callable[..., Made], tmp_path: Path) -> None:
    read("book.m4b")
    first = (tmp_path / "book.m4b").read_bytes()
    with pytest.raises(OutputError, match="--force"):
        read("book.m4b")
    read("book.m4b", force=True)
    assert (tmp_path / "book.m4b").read_bytes() == first


def test_a_preview_ends_early(read: Callable[..., Made], tmp_path: Path) -> None:
    made = read("out.m4b", preview_s=4.0)
    assert 4.0 < made.seconds < 9.0 and [title for title, _, _ in marks(tmp_path / "out.m4b")] == ["One"]


def test_subtitles_have_the_times_of_the_sound(read: Callable[..., Made], tmp_path: Path) -> None:
    read("out.flac", subtitles=("srt", "vtt", "lrc"))
    srt, vtt, lrc = ((tmp_path / f"out.{kind}").read_text() for kind in ("srt", "vtt", "lrc"))
    record = [json.loads(line) for line in (tmp_path / "out.sentences.jsonl").read_text().splitlines()]
    assert srt.startswith("1\n00:00:00,500 --> ") and srt.count(" --> ") == len(record)
    assert vtt.startswith("WEBVTT\n\n") and vtt.count("-->") == len(record) and "<00:00:00.500>One\n" in vtt
    assert lrc.startswith("[ti:A Book]\n[ar:Ann]\n[00:00.50]<00:00.50>One\n")
    for one in record:
        times = [time for _, begin, end in one["words"] for time in (begin, end)]
        assert times == sorted(times) and one["start_s"] <= times[0] and times[-1] <= one["end_s"] + 1e-6


def test_words_as_written_get_the_times_of_words_as_spoken() -> None:
    spoken = [("it", 0.0, 0.5), ("is", 0.5, 1.0), ("twenty", 1.0, 2.0), ("three", 2.0, 3.0)]
    same = [*spoken[:2], ("number", 1.0, 3.0)]
    assert written_words("It is 23", same, 0, 3) == [("It", 0, 0.5), ("is", 0.5, 1), ("23", 1, 3)]
    found = written_words("It is 23", spoken, 0.0, 3.0)
    assert [word for word, _, _ in found] == ["It", "is", "23"] and found[0][1] == 0 and found[-1][2] == 3.0
    assert written_words("a b", [], 1.0, 3.0) == [("a", 1.0, 2.0), ("b", 2.0, 3.0)]


def test_a_run_that_breaks_leaves_nothing_half_written(read: Callable[..., Made], tmp_path: Path) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())

    def broken(requests: Any) -> Iterator[Any]:
        yield from islice(takes(requests), 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read("out.m4b", by=broken)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_two_readers_of_one_file_do_not_meet(read: Callable[..., Made], tmp_path: Path) -> None:
    with file_lock(tmp_path / ".out.m4b.lock", ""):
        with pytest.raises(OutputError, match="another process"):
            read("out.m4b")
    read("out.m4b")


class Full(io.BytesIO):
    """A file on a disk that has little room."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_full_disk_is_said_in_a_line(
    read: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(track, "tempfile", SimpleNamespace(TemporaryFile=lambda *_, **__: Full()))
        with pytest.raises(OutputError, match="cannot write"):
            read("out.wav")
    if Path("/dev/full").exists():
        monkeypatch.setattr(book_file, "atomic_path", lambda *_, **__: nullcontext(Path("/dev/full")))
        with pytest.raises(OutputError, match="cannot write .*out.wav: No space left"):
            read("out.wav")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["book.epub"]


def test_what_no_model_speaks_is_counted(
    read: Callable[..., Made], tts: Synthesizer, book: Path, tmp_path: Path
) -> None:
    settings = ReadSettings(str(book), str(tmp_path / "out.m4b"))
    script = settings.script(settings.book(), tts)
    assert sum(1 for _ in script.all_lines()) == 10 and script.skipped == 1
    book.write_bytes(epub({"a.xhtml": PAGES["three.xhtml"].replace("Hello", "Пока")}))
    with pytest.raises(TextError, match="can be spoken"):
        read("out.m4b")
    assert not (tmp_path / "out.m4b").exists()


def test_a_forecast_is_near_what_comes(read: Callable[..., Made], tts: Synthesizer, book: Path, tmp_path: Path) -> None:
    body = "<h1>One</h1>" + "<p>Hello there. One, two.</p>" * 12
    book.write_bytes(epub({f"{i}.xhtml": xhtml(body) for i in range(6)}))
    settings = ReadSettings(str(book), str(tmp_path / "out.wav"))
    found = forecast(settings.script(settings.book(), tts), takes, 0)
    made = read("out.wav")
    assert found.size.sentences == made.sentences and found.sampled < 60
    assert found.seconds == pytest.approx(made.seconds, rel=0.05)
    assert found.work_s == pytest.approx(0.01 * made.sentences + FINISHING * made.seconds, rel=0.15)


def test_a_voice_that_is_not_known_is_told_before_anything_is_spoken(
    read: Callable[..., Made], book: Path, tmp_path: Path
) -> None:
    (tmp_path / "cast.tsv").write_text("Alice\t/etc/passwd\n")
    with pytest.raises(VoiceError, match="/etc/passwd"):
        read("out.m4b", speakers=str(tmp_path / "cast.tsv"))
    book.write_bytes(epub({"a.xhtml": xhtml("<p>Hello. [voice:nobody] Hello.</p>")}))
    with pytest.raises(VoiceError, match="nobody"):
        read("out.m4b", by=None)


@pytest.mark.parametrize(
    "wrong",
    [{"include": ("pictures",)}, {"subtitles": ("ass",)}, {"kbps": 1}, {"preview_s": 0.0}, {"pauses": "scene=x"},
     {"pauses": "end=99"}, {"format": "avi"}],
)  # fmt: skip
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        ReadSettings("a.epub", "a.m4b", **wrong)


def test_settings_travel_as_json() -> None:
    settings = ReadSettings("a", "a.m4b", subtitles=("srt",), include=("note",), options={"steps": 3}, pauses="scene=2")
    assert ReadSettings.from_json(json.loads(json.dumps(settings.as_json()))) == settings
    with pytest.raises(UserError, match="another version"):
        ReadSettings.from_json({**settings.as_json(), "new": 1})
    assert replace(settings, seed=1) != settings


# ---- who speaks -----------------------------------------------------------------------------------------------------

TABLE = "# who\nAlice\tivy\nRabbit, White Rabbit\telm\n*\thazel\n"


@pytest.fixture
def speakers(tmp_path: Path) -> Speakers:
    (tmp_path / "speakers.tsv").write_text(TABLE)
    return Speakers.load(tmp_path / "speakers.tsv")


def test_quotations_go_to_those_who_say_them(speakers: Speakers) -> None:
    lines = {
        "“Oh,” said Alice, “dear.”": "[voice:ivy]“Oh,”[voice:] said Alice, [voice:ivy]“dear.”[voice:]",
        'The Rabbit cried loudly: "Late!"': 'The Rabbit cried loudly: [voice:elm]"Late!"[voice:]',
        "“No,” the White Rabbit replied.": "[voice:elm]“No,”[voice:] the White Rabbit replied.",
        "‘It’s late,’ Alice said.": "[voice:ivy]‘It’s late,’[voice:] Alice said.",
        "“Who?” someone asked.": "[voice:hazel]“Who?”[voice:] someone asked.",
        "Alice said nothing.": "Alice said nothing.",
    }
    for text, directed in lines.items():
        speakers.forget()
        assert speakers.directed(text) == directed


def test_a_dialogue_goes_to_and_fro(speakers: Speakers) -> None:
    texts = ("“A,” said Alice.", "“B,” said the Rabbit.", "“C.”", "“D.”", "Rain.", "“E.”")
    found = [speakers.directed(text) for text in texts]
    voices = [text.partition("[voice:")[2].partition("]")[0] for text in found]
    assert voices == ["ivy", "elm", "ivy", "elm", "", "hazel"]


def test_a_speech_of_several_paragraphs_goes_on(speakers: Speakers) -> None:
    assert speakers.directed("“One, said Alice.").startswith("[voice:hazel]")
    assert speakers.directed("Alice said: “One.") == "Alice said: [voice:ivy]“One.[voice:]"
    assert speakers.directed("“Two.”", "rowan") == "[voice:ivy]“Two.”[voice:rowan]"


@pytest.mark.parametrize("text", ["Alice ivy\n", "\tivy\n", "Alice\ta b\n", "Alice\t[x]\n"])
def test_a_damaged_table_names_its_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("# x\n" + text)
    with pytest.raises(UserError, match="line 2"):
        Speakers.load(tmp_path / "t.tsv")
    with pytest.raises(UserError, match="no table"):
        Speakers.load(tmp_path / "none.tsv")
