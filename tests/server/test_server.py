"""A real server, and clients that use it as they should and as they should not."""

from __future__ import annotations

import base64
import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import soundfile as sf
import toy
from heard import check_alike, decode
from starlette.testclient import TestClient

from chelys.errors import ConfigError, UserError, VoiceError
from chelys.inference.streaming import FIRST_CODES, early_pieces
from chelys.inference.synthesizer import Synthesizer
from chelys.server.app import Server, make_app
from chelys.server.encoding import FORMATS, Format
from chelys.server.requests import SpeechRequest
from chelys.server.settings import load_settings
from chelys.server.synthesis import codes_within, plan
from chelys.server.voices import Voices

openai = pytest.importorskip("openai")

TEXT = "Hello there. One, two, three! There, hello."
LONG = " ".join(["Hello there, one two three, three two one."] * 60)


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def said(tts: Synthesizer) -> np.ndarray:
    """What the model says by itself."""
    return tts.speak(TEXT, voice="low", seed=7).audio


def ask(**fields: object) -> dict[str, object]:
    return {"model": "tts-1", "voice": "low", "input": TEXT, "seed": 7, "response_format": "pcm", **fields}


def raw(server, data: bytes) -> socket.socket:
    place = urlsplit(server.url)
    connection = socket.create_connection((place.hostname, place.port), timeout=20)
    connection.sendall(data)
    return connection


def request(body: bytes, length: int | None = None, path: str = "/v1/audio/speech", host: str = "localhost") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


# ---- OpenAI's client ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_says_what_the_model_says(client, said: np.ndarray, format: Format) -> None:
    answer = client.audio.speech.create(
        model="tts-1", voice="low", input=TEXT, response_format=format, extra_body={"seed": 7}
    )
    check_alike(decode(answer.content, format), said, format, least=0.8)  # noise; speech is in test_nano.py
    assert answer.response.headers["x-chelys-seed"] == "7"


def test_one_sentence_is_a_file_that_knows_its_length(client, tts: Synthesizer) -> None:
    data = client.audio.speech.create(
        model="tts-1-hd", voice="high", input="Hello.", response_format="wav", extra_body={"seed": 3}
    ).content
    audio, rate = sf.read(io.BytesIO(data), dtype="float32")
    expected = tts.speak("Hello.", voice="high", seed=3, preset="standard").audio
    assert rate == 24_000 and len(data) == 44 + 2 * len(audio)
    np.testing.assert_allclose(audio, expected, atol=2**-15)


def test_it_streams(client, said: np.ndarray) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="low", input=TEXT, response_format="pcm", extra_body={"seed": 7}
    ) as answer:
        parts = list(answer.iter_bytes())
    check_alike(decode(b"".join(parts), "pcm"), said, "pcm")
    assert len(parts) > 1


def test_server_sent_events(server, said: np.ndarray) -> None:
    answer = server.client.post("/v1/audio/speech", json=ask(stream_format="sse"))
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(block.removeprefix("data: ")) for block in answer.text.split("\n\n") if block]
    assert {event["type"] for event in events[:-1]} == {"speech.audio.delta"} and len(events) == 4
    assert events[-1]["type"] == "speech.audio.done" and events[-1]["usage"]["output_tokens"] > 0
    check_alike(decode(b"".join(base64.b64decode(e["audio"]) for e in events[:-1]), "pcm"), said, "pcm")


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"voice": "nobody"}, 400, "unknown voice 'nobody'"),
        ({"voice": "../../etc/passwd"}, 400, "unknown voice"),
        ({"voice": "/etc/passwd"}, 400, "unknown voice"),
        ({"voice": "low+/etc/passwd:0.5"}, 400, "unknown voice"),
        ({"voice": "low:nan+high"}, 400, "a mix needs"),
        ({"input": "Hello. [voice:/etc/passwd] Hello."}, 400, "voice"),
        ({"input": "<speak><p>Hello", "ssml": True}, 400, "SSML"),
        ({"input": ""}, 400, "text"),
        ({"input": "***"}, 400, "spoken"),
        ({"input": "x" * 30_000}, 400, "30000 characters"),
        ({"response_format": "ogg"}, 400, "response_format"),
        ({"lexicon": {"hello": "*"}}, 400, "lexicon"),
        ({"lexicon": {"hello": 5}}, 400, "lexicon"),
        ({"speed": 9}, 400, "speed"),
        ({"speed": 3}, 400, "speed"),
        ({"model": "tts-9"}, 404, "tts-9"),
        ({"preset": "slowest"}, 400, "unknown preset"),
        ({"temperature": -1.0}, 400, "temperature"),
        ({"candidates": 1000}, 400, "candidates"),
        ({"seed": -1}, 400, "seed"),
    ],
)
def test_errors_have_openais_form(server, fields: dict, status: int, told: str) -> None:
    answer = server.client.post("/v1/audio/speech", json=ask(**fields))
    assert answer.status_code == status
    error = answer.json()["error"]
    assert told in error["message"] and error["type"] == "invalid_request_error" and {"param", "code"} <= set(error)


def test_openais_client_knows_the_errors(client) -> None:
    with pytest.raises(openai.BadRequestError, match="unknown voice"):
        client.audio.speech.create(model="tts-1", voice="nobody", input="Hello.")
    with pytest.raises(openai.NotFoundError):
        client.audio.speech.create(model="nothing", voice="low", input="Hello.")


def test_openais_voices_and_ours(server, tts: Synthesizer) -> None:
    def speak(voice: object) -> bytes:
        answer = server.client.post("/v1/audio/speech", json=ask(voice=voice, input="Hello.", instructions="Whisper."))
        assert answer.status_code == 200, answer.text
        return answer.content

    listed = server.client.get("/v1/audio/voices").json()["data"]
    names = {voice["id"] for voice in listed}
    assert {"low", "high", "alloy", "ash", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer"} <= names
    assert [voice["id"] for voice in listed if voice["default"]] == ["low"]
    assert speak("alloy") == speak({"id": "low"}) == speak("low")
    assert speak("low:0.7+high:0.3") != speak("low:0.3+high:0.7")
    assert speak("random:4") == speak("random:4") != speak("random:5")


def test_models(server, client) -> None:
    assert {model.id for model in client.models.list()} >= {"toy", "tts-1", "tts-1-hd"}
    assert client.models.retrieve("tts-1").id == "tts-1"
    assert server.client.get("/v1/models/other").status_code == 404


def test_what_will_be_said(server) -> None:
    read = server.client.post("/v1/text", json={"input": "Hello there. One ☃ two."}).json()
    assert [sentence["spoken"] for sentence in read["sentences"]] == ["hello there.", "one two."]
    ssml = {"input": '<speak>One<break time="700ms"/>two.</speak>', "format": "ssml"}
    assert [one["pause"] for one in server.client.post("/v1/text", json=ssml).json()["sentences"]] == [0.7, 0.0]
    words = {"input": "Hello there.", "lexicon": {"there": "/həlˈO/"}}
    assert server.client.post("/v1/text", json=words).json()["sentences"][0]["phonemes"] == "həlˈO həlˈO."
    assert read["sentences"][0]["phonemes"] == "həlˈO ðˈɛɹ." and "☃" in read["warnings"][0]


def test_the_page_names_no_other_host(server) -> None:
    for path in ("/", "/docs", "/page/page.js", "/page/sound.js", "/page/style.css", "/page/docs.js"):
        answer = server.client.get(path)
        assert answer.status_code == 200 and "http://" not in answer.text and "https://" not in answer.text, path
    policy = server.client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


# ---- voices ---------------------------------------------------------------------------------------------------------


def clip(seconds: float = 1.5, pitch: float = 180.0) -> bytes:
    file = io.BytesIO()
    sf.write(file, toy.tone(pitch, seconds), 24_000, format="WAV")
    return file.getvalue()


def test_a_voice_of_clips_is_made_used_and_removed(server) -> None:
    made = server.client.post(
        "/v1/audio/voices", data={"name": "mine"}, files=[("files", ("../a.wav", clip())), ("files", ("b", clip(2.0)))]
    )
    assert made.status_code == 200, made.text
    assert made.json()["seconds"] == 3.5 and any("s of speech" in line for line in made.json()["check"])
    checked = server.client.post("/v1/audio/voices/check", files=[("files", ("a.wav", clip(1.5)))]).json()
    assert not checked["good"] or checked["findings"]
    assert [one["name"] for one in checked["clips"]] == ["a.wav"] and checked["check"]
    assert [path.name for path in server.voices.iterdir()] == ["mine.safetensors"]
    assert server.client.post("/v1/audio/speech", json=ask(voice="mine", input="Hello.")).status_code == 200
    assert server.client.delete("/v1/audio/voices/mine").json()["deleted"]
    assert list(server.voices.iterdir()) == []
    assert server.client.delete("/v1/audio/voices/mine").status_code == 400
    assert server.client.post("/v1/audio/speech", json=ask(voice="mine", input="Hello.")).status_code == 400


@pytest.mark.parametrize(
    ("name", "files", "status"),
    [
        ("../evil", [clip()], 400),
        ("low", [clip()], 400),
        ("a/b", [clip()], 400),
        ("fine", [], 400),
        ("fine", [b"not audio"], 400),
        ("fine", [clip(0.1)], 400),
        ("fine", [clip()] * 20, 400),
        ("fine", [b"x" * 26_000_000], 413),
    ],
)
def test_clips_that_are_refused(server, name: str, files: list[bytes], status: int) -> None:
    parts = [("files", (f"{i}.wav", data)) for i, data in enumerate(files)]
    answer = server.client.post("/v1/audio/voices", data={"name": name}, files=parts or {"other": b""})
    assert answer.status_code == status and answer.json()["error"]["message"]
    assert not server.voices.exists() or not list(server.voices.iterdir())


# ---- company, and clients that leave --------------------------------------------------------------------------------


def test_the_same_bytes_alone_and_in_company(server) -> None:
    """Six texts one after the other, then all at once; two of them early."""
    asked = [
        ask(input=f"{TEXT} {'Hello. ' * n}", seed=n, preset=("fast", "ultra_fast")[n % 2], early=n > 3)
        for n in range(6)
    ]

    def speak(fields: dict[str, object]) -> bytes:
        answer = httpx.post(f"{server.url}/v1/audio/speech", json=fields, timeout=60)
        assert answer.status_code == 200
        return answer.content

    alone = [speak(fields) for fields in asked]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(speak, asked))
    assert alone == together


def test_a_client_that_leaves_frees_its_rows(server) -> None:
    before = server.metric("chelys_cancelled_total")
    connection = raw(server, request(json.dumps(ask(input=LONG)).encode()))
    _wait(lambda: server.metric("chelys_decoder_rows") > 0)
    connection.close()
    _wait(lambda: server.metric("chelys_cancelled_total") == before + 1)
    steps = server.metric("chelys_decoder_steps_total")
    _wait(lambda: server.metric("chelys_decoder_rows") == 0, seconds=2)
    assert server.metric("chelys_decoder_steps_total") <= steps + 1
    assert server.metric("chelys_requests_in_work") == 0


def test_a_client_that_leaves_an_early_sentence(server) -> None:
    before, said = server.metric("chelys_cancelled_total"), server.metric("chelys_audio_seconds_total")
    connection = raw(server, request(json.dumps(ask(input=LONG, early=True)).encode()))
    _wait(lambda: server.metric("chelys_audio_seconds_total") > said)
    connection.close()
    _wait(lambda: server.metric("chelys_cancelled_total") == before + 1)
    assert server.metric("chelys_requests_in_work") == 0


def test_a_client_that_leaves_in_mid_audio(server) -> None:
    connection = raw(server, request(json.dumps(ask(input=LONG)).encode()))
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    connection.close()
    _wait(lambda: server.metric("chelys_requests_in_work") == 0)
    _wait(lambda: server.metric("chelys_decoder_rows") == 0, seconds=2)


def test_half_requests_and_slow_senders_hold_nobody_up(server) -> None:
    body = json.dumps(ask(input="Hello.")).encode()
    half = raw(server, request(body)[:-5])
    slow = raw(server, b"POST /v1/audio/speech HTTP/1.1\r\nHo")
    form = request(b"--x\r\n", length=1000, path="/v1/audio/voices/check")
    raw(server, form.replace(b"application/json", b"multipart/form-data; boundary=x")).close()
    assert server.client.post("/v1/audio/speech", json=ask(input="Hello.")).status_code == 200
    half.sendall(request(body)[-5:])
    assert half.recv(100).startswith(b"HTTP/1.1 200")
    for connection in (half, slow):
        connection.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00\xff\x01 nonsense\r\n\r\n", b"400"),
        (request(b"{not json"), b"400"),
        (request(b'{"input": "\\ud800", "voice": "low"}'), b"400"),
        (request(b"[" * 100_000), b"400"),
        (request(b"{}", length=10**12), b"413"),
        (request(b"{}", length=-5), b"400"),
        (request(b"{}", host="evil.example"), b"400"),
        (request(b"{}", host="evil.example:8880"), b"400"),
        (request(b"{}").replace(b"\r\n\r\n", b"\r\nOrigin: https://evil.example\r\n\r\n"), b"403"),
        (request(b"{}", path="/v1/nothing"), b"404"),
        (request(b"", path="/page/../../settings.py").replace(b"POST", b"GET"), b"404"),
        (request(b"", path="/page/%2e%2e/settings.py").replace(b"POST", b"GET"), b"404"),
    ],
)
def test_nonsense_is_refused(server, data: bytes, status: bytes) -> None:
    connection = raw(server, data)
    answer = connection.recv(1000)
    connection.close()
    assert answer.startswith(b"HTTP/1.1 " + status), answer


def _wait(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# ---- settings -------------------------------------------------------------------------------------------------------


@pytest.fixture
def local(tts: Synthesizer) -> Iterator[Callable[..., TestClient]]:
    """Servers in this process, with settings."""
    with ExitStack() as stack:

        def run(**settings: object) -> TestClient:
            made = make_app(Server(tts, load_settings(**settings)))
            return stack.enter_context(TestClient(made, base_url="http://localhost"))

        yield run


def test_a_key_is_asked_for(local) -> None:
    client = local(api_key="s3cret")
    assert client.get("/health").status_code == client.get("/").status_code == 200
    for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic s3cret"}):
        answer = client.get("/v1/models", headers=header)
        assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
    assert client.get("/v1/models", headers={"authorization": "Bearer s3cret"}).status_code == 200


def test_other_sites_may_use_it_only_where_they_are_named(local) -> None:
    for settings, status in (({}, 403), ({"cors_origins": "https://a.example,https://b.example"}, 200)):
        answer = local(**settings).get("/v1/models", headers={"origin": "https://b.example"})
        assert answer.status_code == status
        assert answer.headers.get("access-control-allow-origin") == ("https://b.example" if status == 200 else None)
    assert local().get("/v1/models", headers={"origin": "http://localhost"}).status_code == 200


def test_it_goes_by_the_names_it_is_given(local) -> None:
    for host, status in (
        ("other.example", 400),
        ("192.168.1.5:8880", 200),
        ("[::1]:8880", 200),
        ("named.example", 200),
    ):
        client = local(allowed_hosts="named.example")
        assert client.get("/v1/models", headers={"host": host}).status_code == status


def test_a_request_has_a_deadline(local) -> None:
    answer = local(timeout_s=0.02).post("/v1/audio/speech", json=ask())
    assert answer.status_code == 504 and answer.json()["error"]["code"] == "timeout"


def test_settings_come_from_command_line_environment_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    file = tmp_path / "server.yaml"
    file.write_text(
        "max_chars: 30\npreset: ultra_fast\nport: 5\naliases: {bass: low}\ncors_origins: [https://a.example]\n"
    )
    monkeypatch.setenv("CHELYS_SERVER_PRESET", "standard")
    monkeypatch.setenv("CHELYS_SERVER_ALLOWED_HOSTS", "a.example, b.example")
    monkeypatch.setenv("CHELYS_SERVER_PORT", "6")
    settings = load_settings(file, port=7, host=None)
    assert (settings.port, settings.preset, settings.max_chars) == (7, "standard", 30)
    assert (settings.allowed_hosts, settings.cors_origins) == (["a.example", "b.example"], ["https://a.example"])
    assert settings.aliases == {"bass": "low"} and settings.host == "127.0.0.1"


def test_the_first_sentence_comes_early_where_it_is_asked_for(local, tts: Synthesizer) -> None:
    text = "Hello there one two three, one two three there hello, one two. Three two one, there hello."
    options = {"voice": "low", "seed": 11, "options": tts.options(candidates=1, repetition_penalty=1.0)}  # 27 codes
    pieces = list(early_pieces(tts, tts.plan(text, **options)[0], 10))
    later = list(tts.stream(text, **options, start=1))
    expected = np.concatenate([chunk.audio for chunk in (*pieces, *later)])
    assert [piece.complete for piece in pieces] == [False, True]
    plain, early = local(), local(first_codes=10)

    def speak(client: TestClient, **fields: object) -> bytes:
        asked = ask(input=text, voice="low", seed=11, candidates=1, repetition_penalty=1.0, **fields)
        return client.post("/v1/audio/speech", json=asked).content

    check_alike(decode(speak(early), "pcm"), expected, "pcm")
    assert speak(early) == speak(early, early=True) != speak(plain, early=True) != speak(plain)
    assert speak(early, early=False) == speak(plain)
    assert speak(plain, preset="streaming") == speak(plain, early=True)
    check_alike(decode(speak(plain), "pcm"), tts.speak(text, **options).audio, "pcm")


@pytest.mark.parametrize(("first_codes", "length"), [(10, b"\xff\xff\xff\xff"), (20, None)])
def test_an_early_sentence_in_one_piece_knows_its_length(local, first_codes: int, length: bytes | None) -> None:
    text = "Hello there one two three, one two three there hello, one two."
    fields = ask(input=text, seed=11, candidates=1, repetition_penalty=1.0, response_format="wav")  # 27 codes
    wav = local(first_codes=first_codes).post("/v1/audio/speech", json=fields).content
    assert wav[4:8] == (length or (len(wav) - 8).to_bytes(4, "little"))


def test_what_cannot_come_early_is_told(tts: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(tts.family), "speaks_early", False)
    made = Server(tts, load_settings(first_codes=FIRST_CODES))
    asked = {"input": "Hello.", "voice": "low"}
    with pytest.raises(UserError, match="early has no use"):
        plan(SpeechRequest(**asked, early=True), tts, made.voices, made.settings)
    assert plan(SpeechRequest(**asked), tts, made.voices, made.settings)[3] == 0  # the server's wish is no condition


def test_the_first_piece_is_as_long_as_its_time_allows(tts: Synthesizer) -> None:
    assert codes_within(tts, "fast", 1000.0) == FIRST_CODES
    assert codes_within(tts, "fast", 0.0) == 10
    for given in ("300ms", "0.3s", 300):
        assert load_settings(first_audio_ms=given).first_audio_ms == 300
    assert load_settings(max_memory="1.5GB").max_memory == 1_500_000_000


def test_mistakes_in_the_settings_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="setting port: "):
        load_settings(port=99999)
    file = tmp_path / "bad.yaml"
    file.write_text("colour: red\n")
    with pytest.raises(ConfigError, match="setting colour: "):
        load_settings(file)


# ---- a server of one's own, to be filled up and stopped -----------------------------------------------------------


def test_full_and_stopped(start_server, said: np.ndarray) -> None:
    """More than there is room for is refused; what was begun is finished; texts stay private."""
    server = start_server("--max-requests", "2", CHELYS_SERVER_ALIASES='{"bass": "low"}')
    server.client.post("/v1/audio/speech", json=ask(input="Hello there secretly.", voice="secretly"))
    waiting = [raw(server, request(json.dumps(ask(input=LONG)).encode())) for _ in range(2)]
    _wait(lambda: server.metric("chelys_requests_in_work") == 2)
    answer = server.client.post("/v1/audio/speech", json=ask())
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert server.client.get("/ready").status_code == 429 and server.client.get("/health").status_code == 200
    for connection in waiting:
        connection.close()
    _wait(lambda: server.metric("chelys_requests_in_work") == 0)
    with ThreadPoolExecutor(2) as pool:
        answers = [
            pool.submit(httpx.post, f"{server.url}/v1/audio/speech", json=ask(voice="bass"), timeout=60) for _ in "12"
        ]
        _wait(lambda: server.metric("chelys_requests_in_work") == 2)
        assert server.stop() == 0
        for answer in answers:
            check_alike(decode(answer.result().content, "pcm"), said, "pcm")
    assert "secretly" not in server.log.read_text()


@pytest.mark.slow
def test_beyond_its_grace_it_leaves_all_the_same(start_server) -> None:
    server = start_server("--grace", "1", "--max-chars", "100000")
    connection = raw(server, request(json.dumps(ask(input=LONG * 10)).encode()))
    _wait(lambda: server.metric("chelys_requests_in_work") == 1)
    begun = time.monotonic()
    assert server.stop() == 0 and time.monotonic() - begun < 30
    connection.close()


def test_an_unknown_voice_of_the_library_is_never_looked_for_on_the_disk(tts: Synthesizer, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(clip())
    for name in (str(path), f"{path}:0.5+low", f"low+{path}", "random:3:" + str(path), f"random:x{path}"):
        with pytest.raises(VoiceError):
            Voices(tts, {}, None).resolve(name, 0)
