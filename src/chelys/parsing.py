"""JSON and YAML of foreign origin, read within limits: size, depth, whole numbers of 64 bits, no key twice, UTF-8.

A fault is a ``ParseError``, whose message is one line and does not name the file. All of chelys reads JSON and YAML
through these functions.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

from chelys.errors import first_line
from chelys.files import open_regular, read_bytes

#: Bytes of a JSON document, and of a YAML one: PyYAML parses some 100 kB in a second.
MAX_JSON, MAX_YAML = 1 << 26, 1 << 18
#: Bytes of one line of a file that has a JSON value on each.
MAX_LINE = 1 << 20
MAX_DEPTH = 64
_TOO_LARGE = "has a whole number of more than 64 bits"


class ParseError(ValueError):
    """A text that is no JSON or YAML, or goes beyond the limits; the message is one line."""


def parse_json(data: bytes | str, *, nan: bool = False) -> Any:
    """The value of a JSON text; with ``nan`` NaN and Infinity pass, which logs have. Raises ParseError."""
    try:
        value = json.loads(_text(data), object_pairs_hook=_no_key_twice, parse_constant=float if nan else _no_number)
    except json.JSONDecodeError as error:
        raise ParseError(f"not JSON ({error.msg}: line {error.lineno} column {error.colno})") from error
    except RecursionError:
        raise ParseError(f"nested deeper than {MAX_DEPTH}") from None
    except ParseError:
        raise
    except ValueError:  # more digits than Python converts
        raise ParseError(_TOO_LARGE) from None
    _check(value)
    return value


def read_json(path: str | Path, limit: int = MAX_JSON) -> Any:
    """The value of a JSON file. Raises ParseError, or OSError if it cannot be read or is larger than the limit."""
    return parse_json(read_bytes(path, limit))


def read_lines(path: str | Path, limit: int = MAX_LINE) -> Iterator[tuple[int, bytes]]:
    """Lines of a file, blank ones left out, with their numbers from 1.

    Raises OSError if it cannot be read, ParseError if a line is longer than the limit.
    """
    with open_regular(path) as file:
        number = 0
        while line := file.readline(limit + 1):
            number += 1
            if len(line) > limit:
                raise ParseError(f"line {number} is longer than {limit} bytes")
            if line.strip():
                yield number, line


def read_json_lines(path: str | Path, *, nan: bool = False) -> Iterator[Any]:
    """The values of a file that has one on each line.

    Raises OSError if it cannot be read; ParseError, which names the line.
    """
    for number, line in read_lines(path):
        try:
            yield parse_json(line, nan=nan)
        except ParseError as error:
            raise ParseError(f"line {number}: {error}") from error


def parse_yaml(data: bytes | str) -> Any:
    """The value of a YAML text, with dates as texts, and without aliases, which multiply. Raises ParseError."""
    import yaml

    text = _text(data)
    try:
        value = yaml.load(text, _yaml_loader())  # noqa: S506 (a SafeLoader that takes less)
    except yaml.MarkedYAMLError as error:
        line = f": line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ParseError(f"not YAML ({error.problem}{line})") from error
    except yaml.YAMLError as error:
        raise ParseError(f"not YAML ({first_line(error)})") from error
    except RecursionError:
        raise ParseError(f"nested deeper than {MAX_DEPTH}") from None
    except ParseError:
        raise
    except (ValueError, OverflowError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise ParseError(f"not YAML ({first_line(error)})") from None  # what PyYAML lets pass of strange scalars
    _check(value)
    return value


def read_yaml(path: str | Path) -> Any:
    """The value of a YAML file. Raises ParseError, or OSError if it cannot be read or is too large."""
    return parse_yaml(read_bytes(path, MAX_YAML))


def _text(data: bytes | str) -> str:
    if isinstance(data, str):
        return data.removeprefix("\ufeff")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParseError(f"not UTF-8 ({error.reason} at byte {error.start})") from None


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ParseError(f"has the key {twice[:60]!r} twice")
    return found


def _no_number(name: str) -> Any:
    raise ParseError(f"not JSON ({name} is no number)")


def _check(value: Any) -> None:
    """Refuse what is nested too deep, and numbers that no array holds."""
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise ParseError(f"nested deeper than {MAX_DEPTH}")
        inner: list[Any] = []
        for part in level:
            if isinstance(part, dict):
                inner += part.values()
            elif isinstance(part, list):
                inner += part
            elif isinstance(part, int) and not -(1 << 63) <= part < 1 << 64:
                raise ParseError(_TOO_LARGE)
        level, depth = inner, depth + 1


_loader: Any = None


def _yaml_loader() -> Any:
    """PyYAML's SafeLoader within the limits; made late, because importing PyYAML takes time."""
    global _loader
    if _loader is not None:
        return _loader
    import yaml

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ParseError("has an alias (*): write out what it stands for")
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise ParseError(f"nested deeper than {MAX_DEPTH}")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            found = super().construct_mapping(node, deep=deep)
            if len(found) < len(node.value):
                raise ParseError(f"has a key twice in line {node.start_mark.line + 1}")
            return found

    # A date is no configuration's value; as a text it may be a name.
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _loader = Loader
    return Loader
