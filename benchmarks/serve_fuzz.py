"""Ten thousand requests of nonsense to ``chelys serve``: by its OpenAPI description, and of random bytes.

    pip install schemathesis && python benchmarks/serve_fuzz.py --model MODEL_FOLDER --examples 1000 --raw 4000

Starts a server of its own whose texts may have 60 characters, so that most of the time goes to requests and not to
speech. Schemathesis makes requests that fit the description and some that do not; the raw ones are whole requests with
bytes changed, cut off or put in. It fails if an answer is 500, a request hangs for a minute, the server dies, the log
has a traceback, or a file lies outside of the folder of voices.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import wave
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

BODIES = [
    b'{"input": "Hello.", "voice": "alloy", "seed": 1}',
    b'{"input": "<speak>One<break time=\\"1s\\"/>two.</speak>", "ssml": true, "response_format": "wav"}',
    b'{"input": "[voice:alloy] Hi.", "stream_format": "sse", "response_format": "pcm", "candidates": 1}',
]
PATHS = ["/v1/audio/speech", "/v1/text", "/v1/audio/voices", "/v1/models/x", "/page/page.js", "/metrics", "/"]
CLIP_PATHS = ["/v1/audio/voices", "/v1/audio/voices/check"]


def form(draw: random.Random) -> bytes:
    """Clips of a voice: half a second of noise, or bytes that are no sound."""
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(draw.randbytes(8000))
    head = '--x\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
    parts = [head.format("name", "").encode() + draw.choice([b"fuzz", b"../../evil", b"", b"a\0b"])]
    for name in draw.choice([["a.wav"], ["../../b.wav", "c"], []]):
        data = draw.choice([sound.getvalue(), sound.getvalue()[: draw.randrange(400)], draw.randbytes(300)])
        parts.append(head.format("files", f'; filename="{name}"').encode() + data)
    return b"".join(part + b"\r\n" for part in parts) + b"--x--\r\n"


def raw_request(draw: random.Random) -> bytes:
    """A request that is damaged somewhere."""
    body, path = draw.choice(BODIES), draw.choice(PATHS)
    kind = draw.choice(["application/json", "multipart/form-data; boundary=x", "text/plain", "\x00"])
    method = draw.choice(["POST", "GET", "DELETE", "PUT", "OPTIONS"])
    if draw.randrange(4) == 0:
        body, path, kind, method = form(draw), draw.choice(CLIP_PATHS), "multipart/form-data; boundary=x", "POST"
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    data = bytearray(head.encode() + body)
    for _ in range(draw.randrange(4)):
        at = draw.randrange(len(data))
        action = draw.randrange(4)
        if action == 0:
            data[at] = draw.randrange(256)
        elif action == 1:
            data[at:at] = draw.randbytes(draw.randrange(1, 40))
        elif action == 2:
            del data[at : at + draw.randrange(1, 40)]
        else:
            data[at:at] = draw.choice([b"../", b"%00", b"\r\n", b"\xff\xfe", b"9" * 400, b"[" * 500, b"\\ud800"])
    return bytes(data)


def send(url: str, data: bytes) -> str:
    """Status of the answer; '-' where the connection was closed without one."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)  # what is missing will not come
            begin = connection.recv(64)
            while connection.recv(65_536):
                pass
        except ConnectionError:
            return "-"
    found = re.match(rb"HTTP/1.1 (\d{3})", begin)
    return found[1].decode() if found else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--examples", type=int, default=1000, help="of schemathesis, for each operation")
    parser.add_argument("--raw", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        log = place / "log.txt"
        options = ["--port", "0", "--max-chars", "60", "--model", asked.model, "--preset", "ultra_fast"]
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "chelys", "serve", *options], stdout=subprocess.PIPE, stderr=errors, text=True,
                cwd=folder, env={**os.environ, "CHELYS_VOICES": str(place / "voices")},
            )  # fmt: skip
        try:
            assert process.stdout is not None
            url = process.stdout.readline().rsplit(" ", 1)[1].strip()
            before = {path for path in place.rglob("*")}
            draw = random.Random(asked.seed)
            statuses = Counter(send(url, raw_request(draw)) for _ in range(asked.raw))
            print(json.dumps({"raw": asked.raw, "statuses": statuses}), flush=True)
            command = [
                str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json",
                "--max-examples", str(asked.examples), "--seed", str(asked.seed), "--checks", "not_a_server_error",
                "--phases", "fuzzing", "--mode", "all", "--request-timeout", "60", "--continue-on-failure",
                "--no-color", "--suppress-health-check", "all",
            ]  # fmt: skip
            done = subprocess.run(command, cwd=folder, text=True, capture_output=True)
            print(done.stdout[-3000:], done.stderr[-1000:])
            metrics = subprocess.run(["curl", "-s", f"{url}/metrics"], capture_output=True, text=True).stdout
            answered = Counter[str]()
            for status, count in re.findall(r'chelys_requests_total\{.*status="(\d+)"\} (\S+)', metrics):
                answered[status] += round(float(count))
            alive = process.poll() is None
            process.send_signal(signal.SIGTERM)
            status = process.wait(timeout=120)
        finally:
            process.kill()  # it has ended, unless something above failed
        strangers = {
            str(path) for path in place.rglob("*")
            if path not in before and path.name != "log.txt" and place / "voices" not in (path, *path.parents)
            and not {".hypothesis", ".schemathesis", "schemathesis-report"} & set(path.parts)
        }  # fmt: skip
        result = {
            "answers": sum(answered.values()), "by_status": dict(answered), "alive": alive, "exit": status,
            "tracebacks": log.read_text().count("Traceback"), "files_elsewhere": sorted(strangers),
        }  # fmt: skip
        print(json.dumps(result))
        if result["tracebacks"]:
            print(log.read_text()[-5000:])
        wrong = answered["500"] or not alive or status or strangers or result["tracebacks"] or statuses["500"]
        sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
