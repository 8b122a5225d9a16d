"""Damage: to bytes as disks, networks and strangers do it, and to values of JSON and YAML."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

_LARGE = (0, 1, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
#: Values that stand where others are expected.
STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 1000, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**30, 0.0, -0.5, 0.5, 1e-300, 1e308,
    1e400, -1e400, "", " ", "x", "a" * 5000, "../x", "/dev/zero", "/dev/null", "\0", "\ud800", "\u202e", "\x1b]0;x\x07",
    "1", "nan", "inf", "é" * 100, [], {}, [1], {"a": 1}, [[[[]]]], ["x"] * 1000,
)  # fmt: skip


def bytes_of(data: bytes, rng: random.Random) -> bytes:
    """Damaged bytes; most of the damage is near the front, where heads are."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8, 40))):
        if not made:
            break
        front = min(len(made), rng.choice((64, 512, len(made))))
        place, kind = rng.randrange(front), rng.randrange(10)
        if kind == 0:
            made[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            made[place] = rng.choice((0, 255, 127, 128, 10, 34, 91, 123))
        elif kind == 2:
            del made[rng.randrange(len(made)) :]
        elif kind == 3:
            del made[place : place + rng.randrange(1, 64)]
        elif kind == 4:
            made[place:place] = rng.randbytes(rng.randrange(1, 64))
        elif kind == 5:
            format = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
            number = rng.choice(_LARGE) % (1 << 8 * struct.calcsize(format))
            made[place : place + struct.calcsize(format)] = struct.pack(format, number)
        elif kind == 6:
            other = rng.randrange(len(made))
            size = rng.randrange(1, 200)
            made[place:place] = made[other : other + size]
        elif kind == 7:
            size = rng.randrange(1, 4000)
            made[place : place + size] = bytes(min(size, len(made) - place))
        elif kind == 8:
            digits = str(rng.choice(_LARGE)).encode()
            made[place : place + len(digits)] = digits
        else:
            made += rng.randbytes(rng.randrange(1, 2000))
    return bytes(made)


def value_of(value: Any, rng: random.Random) -> Any:
    """A (nested) value in which one part is another, gone, twice, or under another name."""
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        keys = range(len(part)) if isinstance(part, list) else part.keys() if isinstance(part, dict) else ()
        for key in keys:
            places.append((part, key))
            walk(part[key])

    value = json.loads(json.dumps(value))
    walk(value)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not places:
            return rng.choice(STRANGE)
        part, key = rng.choice(places)
        if isinstance(part, dict) and key not in part or isinstance(part, list) and key >= len(part):
            continue
        kind = rng.randrange(10)
        if kind == 0:
            del part[key]
        elif kind == 1 and isinstance(part, dict):
            part[rng.choice(("x", "", key + "_", key.upper(), "__class__"))] = part.pop(key)
        elif kind == 2 and isinstance(part, list):
            part.append(part[key])
        elif kind == 3 and isinstance(part[key], (int, float)) and not isinstance(part[key], bool):
            part[key] = part[key] * rng.choice((-1, 0.5, 2, 1000, 1e6, 1e-9)) if part[key] < 1e100 else 1
        else:
            part[key] = rng.choice(STRANGE)
    return value


def json_of(data: bytes, rng: random.Random) -> bytes:
    """A damaged JSON text, or lines of it: now in its values, now in its bytes."""
    if rng.random() < 0.3:
        return bytes_of(data, rng)
    lines = data.splitlines() if data.count(b"\n{") else [data]
    number = rng.randrange(len(lines))
    try:
        lines[number] = json.dumps(value_of(json.loads(lines[number]), rng)).encode()
    except ValueError:
        return bytes_of(data, rng)
    return b"\n".join(lines) + b"\n"


JSON_KINDS = frozenset({"config", "tokenizer", "manifest", "index", "statistics", "json"})


def damaged(kind: str, seeds: list[bytes], rng: random.Random) -> bytes:
    """A damaged file for a reader."""
    data = rng.choice(seeds)
    if kind == "tar":
        return _tar_of(data, rng)
    if kind in ("safetensors", "voice") and rng.random() < 0.5:
        return _head_of(data, rng)
    return (json_of if kind in JSON_KINDS else bytes_of)(data, rng)


def _head_of(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file with another head."""
    length = int.from_bytes(data[:8], "little")
    head = json_of(data[8 : 8 + length], rng)
    claimed = len(head) if rng.random() < 0.95 else rng.choice(_LARGE)
    return claimed.to_bytes(8, "little") + head + data[8 + length :]


def _tar_of(data: bytes, rng: random.Random) -> bytes:
    """A damaged tar whose headers have the right sums, so that what they say is read."""
    made = bytearray(bytes_of(data, rng))
    if rng.random() < 0.8:
        for start in range(0, len(made) - 511, 512):
            if made[start + 257 : start + 262] == b"ustar" or rng.random() < 0.02:
                made[start + 148 : start + 156] = b" " * 8
                made[start + 148 : start + 156] = b"%06o\0 " % (sum(made[start : start + 512]) % (1 << 18))
    return bytes(made)
