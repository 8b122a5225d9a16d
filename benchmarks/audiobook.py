"""How much memory and time a book takes: what `docs/audiobooks.md` says of it.

    python benchmarks/audiobook.py text --words 100000 -o book.md     # a book of the texts in Python's own modules
    python benchmarks/audiobook.py memory book.md                     # chapter by chapter, by an engine of no weight
    python benchmarks/audiobook.py books FOLDER                       # every EPUB in it: what FFmpeg reads back
    python benchmarks/audiobook.py forecast book.md --chapters 2      # what --plan says, and what came, by nano
    python benchmarks/audiobook.py joins book.m4b                     # clicks, pauses and loudness of a file

`books` reads each book whole by the engine of no weight, and by nano (preset `ultra_fast`) a preview and its shortest
chapters. The engine of no weight has the interface of the real one, and gives pieces of one noise as long as nano's
speech: all else, from the reader of books to the encoder, is the real thing.
"""

from __future__ import annotations

import argparse
import ast
import json
import resource
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

#: Seconds of noise for a phoneme or mark; nano speaks 0.066, about.
SECONDS_A_SYMBOL = 0.066


def cheap_takes(requests: Any) -> Any:
    """Takes of noise that swells and fades."""
    from chelys.audiobook.stages import Take

    rng = np.random.default_rng(0)
    time = np.arange(24_000 * 40) / 24_000
    noise = (rng.normal(size=len(time)) * (0.06 + 0.05 * np.sin(2 * np.pi * 4 * time))).astype(np.float32)
    for number, request in enumerate(requests):
        length = round(24_000 * SECONDS_A_SYMBOL * max(6, len(request.sentence.phonemes)))
        start = 997 * number % (len(noise) - 24_000 * 20)
        silence = np.zeros(2400, np.float32)
        audio = np.concatenate((silence, noise[start : start + length], silence))
        yield Take(audio, [1], -1.0, 0, True, f"{number:032x}", f"{number:032x}", computed=("wave",), spent_s=0.0)


def make_text(words: int, output: Path, chapters: int = 25) -> None:
    """Prose of the documentation in the standard library's modules, as Markdown with chapters."""
    paragraphs: list[str] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        try:
            tree = ast.parse(path.read_text(encoding="utf8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                for block in text.split("\n\n"):
                    said = " ".join(block.split())
                    if len(said) > 120 and not set(said) & set("`<>{}[]|=_*#@\\/~^$%+"):
                        paragraphs.append(said)
    found: list[list[str]] = [[]]
    count = 0
    each = words / chapters
    while count < words:  # once more from the beginning, if there is too little
        for paragraph in paragraphs:
            found[-1].append(paragraph)
            count += len(paragraph.split())
            if count >= words:
                break
            if count >= each * len(found):
                found.append([])
    lines = ["# A long book"]
    for number, chapter in enumerate(found, 1):
        lines += [f"## Chapter {number}", *chapter]
    output.write_text("\n\n".join(lines) + "\n", encoding="utf8")
    print(f"{output}: {count} words, {len(found)} chapters")


def resident() -> float:
    """MB of memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


def settings_of(book: Path, output: Path, **more: Any) -> Any:
    from chelys.audiobook.reading import ReadSettings

    return ReadSettings(str(book), str(output), **more)


def memory(book: Path) -> None:
    import chelys
    from chelys.audiobook import reading

    tts = chelys.load("nano", device="cpu")
    seen: dict[int, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(book, Path(folder) / "book.m4b", subtitles=("srt",))
        found = settings.book()
        script = settings.script(found, tts)
        started = time.perf_counter()

        def on_line(line: Any, take: Any, seconds: float) -> None:
            seen[line.chapter] = (resident(), seconds)

        made = reading.read(settings, found, script, cheap_takes, on_line=on_line)
        spent = time.perf_counter() - started
        size = (Path(folder) / "book.m4b").stat().st_size
    for number, (held, seconds) in seen.items():
        print(f"chapter {number:3d} ends at {seconds / 3600:6.2f} h  {held:7.1f} MB")
    held = [one for one, _ in seen.values()]
    growth = max(held) / held[0]
    print(f"at the end: {resident():.1f} MB; most at a chapter's end {growth:.3f} of the first")
    hours = made.seconds / 3600
    print(f"{hours:.2f} h of sound, {made.sentences} sentences, {size / 2**20:.0f} MB, {spent:.0f} s of work")
    print(f"most memory at any time: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.1f} MB")
    print(json.dumps({"levels": [vars(one) for one in made.levels]}))


def read_back(book: Path, folder: Path, tts: Any, takes: Any, **more: Any) -> dict[str, Any]:
    """Read a book into an m4b, decode that, and compare."""
    import av

    from chelys.audiobook import reading

    output = folder / "book.m4b"
    settings = settings_of(book, output, **more)
    found = settings.book()
    script = settings.script(found, tts)
    made = reading.read(settings, found, script, takes, force=True)
    record = [json.loads(line) for line in (folder / "book.sentences.jsonl").read_text().splitlines()]
    with av.open(str(output)) as file:
        marks = [(one["metadata"]["title"], float(one["start"] * one["time_base"])) for one in file.chapters()]
        tags, head = dict(file.metadata), file.duration / 1e6
        decoded = sum(frame.samples for frame in file.decode(audio=0)) / file.streams.audio[0].rate
    begins = {int(one["place"].split(":")[0]): one["start_s"] for one in reversed(record)}
    expected = [(found.chapters[number - 1].title, begins[number]) for number in sorted(begins)]
    leads = [start - mark for (_, start), (_, mark) in zip(expected, marks, strict=True)]
    return {
        "title": tags["title"] == found.title and tags.get("artist", "") == found.author,
        "chapters": [title for title, _ in marks] == [title for title, _ in expected],
        "lead_off_s": round(max(abs(one - script.pauses.begin) for one in leads), 3), "marks": len(marks),
        "seconds": round(made.seconds, 2),
        "seconds_off": round(max(abs(head - made.seconds), abs(decoded - made.seconds)), 3),
        "sentences": len(record), "skipped": script.skipped, "warnings": len(found.warnings),
        "words": sum(len(one.text.split()) for _, chapter in script.chapters for one in chapter.paragraphs),
    }  # fmt: skip


def books(folder: Path, most: int) -> None:
    import chelys
    from chelys.audiobook.stages import SentenceRenderer
    from chelys.audiobook.store import StageStore

    tts = chelys.load("nano", device="cpu")
    with tempfile.TemporaryDirectory() as temporary, StageStore(Path(temporary) / "store") as store:
        spoken = SentenceRenderer(tts, store).takes
        for book in sorted(folder.rglob("*.epub")):
            found = settings_of(book, Path(temporary) / "book.m4b").book()
            print(f"{book.name}: {found.title!r}, {len(found.chapters)} chapters")
            for warning in found.warnings:
                print(f"  warning: {warning}")
            quick = {"preset": "ultra_fast"}
            runs = {"whole, noise": (cheap_takes, {}), "30 s, nano": (spoken, quick | {"preview_s": 30})}
            sizes = sorted((one.characters, number) for number, one in enumerate(found.chapters, 1))
            chosen, total = [], 0
            for size, number in sizes:
                if size >= 150 and total + size <= most:
                    chosen.append(number)
                    total += size
            if chosen:
                numbers = ",".join(str(one) for one in sorted(chosen))
                runs[f"chapters {numbers}, nano"] = (spoken, quick | {"chapters": numbers})
            for name, (takes, more) in runs.items():
                back = read_back(book, Path(temporary), tts, takes, **more)
                print(f"  {name}: {json.dumps(back)}", flush=True)


def forecasts(book: Path, chapters: str | None, preset: str) -> None:
    import chelys
    from chelys.audiobook import reading
    from chelys.audiobook.plan import forecast
    from chelys.audiobook.stages import SentenceRenderer
    from chelys.audiobook.store import StageStore

    tts = chelys.load("nano", device="cpu")
    with tempfile.TemporaryDirectory() as folder, StageStore(Path(folder) / "store") as store:
        settings = settings_of(book, Path(folder) / "book.m4b", chapters=chapters, preset=preset)
        found = settings.book()
        script = settings.script(found, tts)
        started = time.perf_counter()
        plan = forecast(script, SentenceRenderer(tts, None).takes, 0)
        print(f"plan: {plan} in {time.perf_counter() - started:.1f} s")
        started = time.perf_counter()
        made = reading.read(settings, found, script, SentenceRenderer(tts, store).takes)
        spent = time.perf_counter() - started
    words = sum(len(one.text.split()) for _, chapter in script.chapters for one in chapter.paragraphs)
    print(f"came: {made.seconds:.1f} s of sound, {spent:.1f} s of work, {made.sentences} sentences, {words} words")
    print(f"forecast over what came: sound {plan.seconds / made.seconds:.3f}, work {plan.work_s / spent:.3f}")
    print(f"real-time factor {spent / made.seconds:.3f}, {3600 * words / spent:.0f} words an hour of work")


def joins(path: Path) -> None:
    import av
    import pyloudnorm

    record = [json.loads(line) for line in path.with_name(f"{path.stem}.sentences.jsonl").read_text().splitlines()]
    with av.open(str(path)) as file:
        rate = file.streams.audio[0].rate
        whole = np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1)[0]
    audio = whole / 32768 if whole.dtype == np.int16 else whole
    jumps = np.abs(np.diff(audio))
    near = np.zeros(len(jumps), bool)
    meter = pyloudnorm.Meter(rate)
    levels = []
    for one in record:
        start, end = (round(one[name] * rate) for name in ("start_s", "end_s"))
        for edge in (start, end):
            near[max(0, edge - rate // 50) : edge + rate // 50] = True
        if end - start > rate // 2:
            levels.append(float(meter.integrated_loudness(audio[start:end])))
    at, elsewhere = jumps[near].max(), jumps[~near].max()
    print(f"{len(record)} sentences; largest jump within 20 ms of a join {at:.4f}, elsewhere {elsewhere:.4f}")
    print(f"loudness of {len(levels)} sentences of more than 0.5 s: {min(levels):.2f} to {max(levels):.2f} LUFS")
    print(f"whole: {meter.integrated_loudness(audio):.2f} LUFS, peak {20 * np.log10(np.abs(audio).max()):.2f} dB")
    window = rate // 200
    power = np.convolve(np.square(audio, dtype=np.float64), np.ones(window) / window, "same")  # over 5 ms
    worst = 0.0
    for one, following in zip(record, record[1:], strict=False):
        begin, end = round(one["start_s"] * rate), round(one["end_s"] * rate)
        start, stop = round(following["start_s"] * rate), round(following["end_s"] * rate)
        middle = (end + start) // 2
        before = power[begin:middle] > power[begin:end].max() * 10**-4.5
        after = power[middle:stop] > power[start:stop].max() * 10**-4.5
        gap = middle + np.flatnonzero(after)[0] - begin - np.flatnonzero(before)[-1]
        worst = max(worst, abs(gap / rate - (following["start_s"] - one["end_s"])))
    print(f"pauses, where 5 ms stay 45 dB below the sentence's loudest: {1000 * worst:.1f} ms off at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    text = verbs.add_parser("text")
    text.add_argument("--words", type=int, default=100_000)
    text.add_argument("-o", "--output", type=Path, default=Path("book.md"))
    for verb in ("memory", "books", "forecast", "joins"):
        verbs.add_parser(verb).add_argument("book", type=Path)
    verbs.choices["books"].add_argument("--spoken", type=int, default=600, help="characters of a book for nano")
    verbs.choices["forecast"].add_argument("--chapters", help="such as 3-7")
    verbs.choices["forecast"].add_argument("--preset", default="fast")
    parser.add_argument(
        "--cpu", action="store_true", help="count seconds of one core, where others use the machine too"
    )
    parser.add_argument("--pace", type=float, default=1.0, help="of the engine of no weight: 3 is a third of the sound")
    given = parser.parse_args()
    global SECONDS_A_SYMBOL
    SECONDS_A_SYMBOL /= given.pace
    if given.cpu:
        time.perf_counter = time.process_time
    if given.verb == "text":
        make_text(given.words, given.output)
    elif given.verb == "memory":
        memory(given.book)
    elif given.verb == "books":
        books(given.book, given.spoken)
    elif given.verb == "forecast":
        forecasts(given.book, given.chapters, given.preset)
    else:
        joins(given.book)


if __name__ == "__main__":
    main()
