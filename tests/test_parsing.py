"""JSON and YAML of foreign origin: limits are kept, and every refusal is a ParseError of one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chelys import parsing
from chelys.configs import read_config_file
from chelys.errors import ConfigError
from chelys.parsing import ParseError, parse_json, parse_yaml


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"[" * 100_000, "nested deeper than 64"),
        ("[" * 70 + "]" * 70, "nested deeper than 64"),
        ('{"a": ' * 65 + "1" + "}" * 65, "nested deeper than 64"),
        ("1" * 5000, "more than 64 bits"),
        ("[-9223372036854775809]", "more than 64 bits"),
        ('{"a": {"b": 1, "b": 2}}', "has the key 'b' twice"),
        ('{"a": NaN}', "NaN is no number"),
        ("[Infinity]", "Infinity is no number"),
        (b'{"a": "\xe9"}', "not UTF-8"),
        ('{"a": 1', "not JSON (Expecting"),
        ("", "not JSON"),
        ("\0", "not JSON"),
    ],
)
def test_json_beyond_the_limits_is_refused(text: bytes | str, fault: str) -> None:
    with pytest.raises(ParseError) as refusal:
        parse_json(text)
    assert fault in str(refusal.value) and "\n" not in str(refusal.value)


def test_json_within_the_limits_is_read() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": [1, 2.5, null, "\xc3\xa9"], "b": 18446744073709551615}') == {
        "a": [1, 2.5, None, "é"], "b": 2**64 - 1
    }  # fmt: skip
    assert parse_json("[" * 64 + "]" * 64)
    assert parse_json("[NaN]", nan=True)[0] != parse_json("[NaN]", nan=True)[0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[" * 900, "nested deeper than 64"),
        ("- " * 300, "nested deeper than 64"),
        ("a: " + "1" * 5000, "not YAML"),
        ("a: " + "1" * 30, "more than 64 bits"),
        ("a: 1\na: 2", "a key twice in line 1"),
        ("a: &x [1, 2]\nb: [*x, *x]", "has an alias"),
        ("? [a]\n: 1", "not YAML"),
        ("a: [1", "not YAML (expected ',' or ']'"),
        ("a: !!python/object/apply:os.system [ls]", "not YAML (could not determine a constructor"),
        ("a: !!timestamp x", "not YAML"),
        ("a: !!int x", "not YAML"),
        ("a: !!bool maybe", "not YAML"),
        (b"a: \xe9t\xe9", "not UTF-8"),
        ("\0", "not YAML"),
    ],
)
def test_yaml_beyond_the_limits_is_refused(text: bytes | str, fault: str) -> None:
    with pytest.raises(ParseError) as refusal:
        parse_yaml(text)
    assert fault in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_date_is_a_text() -> None:
    assert parse_yaml("run: 2024-99-99\nday: 2024-01-02") == {"run": "2024-99-99", "day": "2024-01-02"}


def test_files_have_a_largest_size(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b" " * 100 + b"1")
    assert parsing.read_json(path, limit=101) == 1
    with pytest.raises(OSError, match="larger than 100 bytes"):
        parsing.read_json(path, limit=100)
    path.write_bytes(b"a: 1\n" + b"#" * parsing.MAX_YAML)
    with pytest.raises(OSError, match="larger than"):
        parsing.read_yaml(path)


def test_lines_have_a_largest_length(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"1\n\n[2]\n" + b"x" * 50)
    assert [line for _, line in parsing.read_lines(path)] == [b"1\n", b"[2]\n", b"x" * 50]
    with pytest.raises(ParseError, match="line 4 is longer than 49 bytes"):
        list(parsing.read_lines(path, limit=49))
    with pytest.raises(ParseError, match="line 4: not JSON"):
        list(parsing.read_json_lines(path))


@pytest.mark.parametrize(
    "override", ["run=" + "1" * 5000, "a=" + "[" * 900, "a=*x", "a=!!timestamp x", "loop.seed=" + "9" * 25, "=1", "a"]
)
def test_a_strange_override_is_refused_in_one_line(tmp_path: Path, override: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a: 1\n")
    with pytest.raises(ConfigError) as refusal:
        read_config_file(path, [override])
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 500


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_a_configuration_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero"), tmp_path):
        with pytest.raises(ConfigError, match="not a regular file"):
            read_config_file(path)
