"""What clients send, and errors in OpenAI's form."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model
from starlette.responses import JSONResponse

from chelys.inference.options import SpeechOptions
from chelys.server.encoding import Format

#: What other programs call a model, and the preset that it stands for; None is the server's own.
MODEL_PRESETS: dict[str, str | None] = {
    "tts-1": None, "tts-1-hd": "standard", "gpt-4o-mini-tts": None,
}  # fmt: skip


TextFormat = Literal["auto", "text", "markdown", "html", "ssml"]
Locale = Literal["en-US", "en-GB"]
#: Word -> respelling such as ``KAY-lin``, or phonemes between slashes.
Words = Annotated[dict[str, str], Field(max_length=10_000)]


class VoiceId(BaseModel):
    """OpenAI's way to name a voice of the user's own."""

    id: Annotated[str, Field(max_length=1000)]


class TextRequest(BaseModel):
    """Body of ``POST /v1/text``."""

    input: str = Field(description="The text.")
    format: TextFormat = Field("auto", description="What the input is; auto finds out.")
    ssml: bool = Field(False, description="The input is SSML: the same as format ssml.")
    locale: Locale = "en-US"
    lexicon: Words | None = Field(None, description="How words sound: a respelling 'KAY-lin', or '/phonemes/'.")


def _options() -> type[BaseModel]:
    """Options of the model that a request may set."""
    known = [option for option in fields(SpeechOptions) if option.name not in ("batch", "redact", "candidates")]
    members: dict[str, Any] = {option.name: (type(option.default) | None, None) for option in known}
    return create_model("OptionFields", **members)


class SpeechRequest(_options(), TextRequest):  # type: ignore[misc]
    """Body of ``POST /v1/audio/speech``. Fields that are not known are ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model: Annotated[str, Field(max_length=200)] = Field("tts-1", description="tts-1, tts-1-hd, or the model's name.")
    voice: str | VoiceId | None = Field(
        None, description="A name, a mix 'a:0.7+b:0.3', random:SEED, one of OpenAI's names, or {id}."
    )
    response_format: Format = "mp3"
    speed: float = Field(1.0, ge=0.25, le=4.0, description="Pace: 0.5 to 2 can be spoken.")
    instructions: str | None = Field(None, description="Taken and not followed: this model has no such input.")
    stream_format: Literal["audio", "sse"] = "audio"
    seed: int | None = Field(None, ge=0, lt=2**32, description="Same seed, same samples; without one it is drawn.")
    early: bool | None = Field(
        None, description="Speak the first sentence in pieces while it is sampled; its samples are others then."
    )
    preset: Annotated[str, Field(max_length=50)] | None = None
    candidates: int | None = Field(None, ge=1, le=64, description="Candidates that are sampled for each sentence.")

    @property
    def voice_name(self) -> str | None:
        """What names the voice."""
        name = self.voice.id if isinstance(self.voice, VoiceId) else self.voice
        return name[:1000] if name else None

    @property
    def changes(self) -> dict[str, Any]:
        """Options of the preset that are to be changed."""
        known = {option.name for option in fields(SpeechOptions)}
        return {name: value for name, value in self if name in known and value is not None}


def error(
    status: int, message: str, *, param: str | None = None, code: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:  # fmt: skip
    """An error as OpenAI's clients read it."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status, headers=headers)
