"""Files appear whole or not at all; locks hold between processes; reads have a limit."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from chelys import files
from chelys.errors import OutputError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_name_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.atomic_file(path, "w") as file:
        file.write("new ä\n")
        file.flush()
        assert path.read_text() == "old"
        assert len(names(tmp_path)) == 2
    assert path.read_bytes() == "new ä\n".encode()
    assert names(tmp_path) == ["a.txt"]
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    (tmp_path / "plain").unlink()
    assert names(tmp_path) == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), files.atomic_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]
    with pytest.raises(FileNotFoundError), files.atomic_path(path):
        pass  # nothing was written
    assert names(tmp_path) == ["a.bin"]


def test_temporary_files_match_no_pattern_of_finished_ones(tmp_path: Path) -> None:
    with files.atomic_path(tmp_path / "x.safetensors") as partial:
        partial.write_bytes(b"")
        assert not list(tmp_path.glob("*.safetensors"))
    with files.atomic_path(tmp_path / "y.wav", suffix=".wav") as partial:
        partial.write_bytes(b"")
        assert partial.suffix == ".wav"
    assert names(tmp_path) == ["x.safetensors", "y.wav"]


def test_many_writers_of_one_file_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "shared.txt"
    texts = [str(i) * 50_000 for i in range(8)]
    threads = [threading.Thread(target=files.write_text, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert names(tmp_path) == ["shared.txt"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "real" / "file.txt")
    files.write_text(link, "through")
    assert link.is_symlink() and (tmp_path / "real" / "file.txt").read_text() == "through"


def test_an_identical_file_can_be_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"b": [1, "ü"]})
    os.utime(path, (1, 1))
    files.write_bytes(path, path.read_bytes(), keep_identical=True)
    assert path.stat().st_mtime == 1
    files.write_bytes(path, b"other", keep_identical=True)
    assert path.read_bytes() == b"other" and names(tmp_path) == ["a.json"]


def test_json_lines(tmp_path: Path) -> None:
    values = [{"a": "ü"}, {"name": os.fsdecode(b"\xff")}]
    files.write_json_lines(tmp_path / "a.jsonl", iter(values))
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf8").splitlines()] == values


def test_what_a_killed_process_left_can_be_removed(tmp_path: Path) -> None:
    code = "import sys, os; from chelys import files\nwith files.atomic_file(sys.argv[1]):\n os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=False)
    assert len(names(tmp_path)) == 1 and not (tmp_path / "a").exists()
    (tmp_path / "other.part").touch()
    files.remove_partial_files(tmp_path)
    assert names(tmp_path) == ["other.part"]


def test_output_errors_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "no" / "a"
    with pytest.raises(OutputError, match=r"^cannot write .*: No such file or directory; make the folder first$"):
        with files.output_errors(path, "make the folder first"):
            files.write_bytes(path, b"")


def test_a_lock_keeps_other_processes_out_and_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys; from chelys import files\n"
        "with files.file_lock(sys.argv[1], 'busy'):\n print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout and holder.stdout.readline().strip() == b"held"
    with (
        pytest.raises(OutputError, match="^another run writes here$"),
        files.file_lock(path, "another run writes here"),
    ):
        pass
    holder.kill()
    holder.communicate()
    with files.file_lock(path, "busy"):
        pass
    with files.file_lock(path, "busy"):
        pass


def test_reads_have_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("abc")
    assert files.read_bytes(path, 3) == b"abc" and files.read_text(path, 3) == "abc"
    with pytest.raises(OSError, match="larger than 2 bytes"):
        files.read_bytes(path, 2)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            files.read_bytes(path, 1000)
    for name in ("none", "a\0b", "n" * 5000):
        with pytest.raises(OSError):
            files.open_regular(tmp_path / name)
