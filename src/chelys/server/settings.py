"""How the server is set: by the command line, else ``CHELYS_SERVER_*`` in the environment, else a YAML file."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from chelys.configs import read_yaml
from chelys.errors import ConfigError
from chelys.machine import memory_size

PREFIX = "CHELYS_SERVER_"

#: In the environment, and on the command line, names are separated by commas.
Names = Annotated[list[str], NoDecode]


class ServerSettings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", hide_input_in_errors=True)

    host: str = "127.0.0.1"  # address to listen at
    port: int = Field(8880, ge=0, le=65535)  # 0 takes a free one
    model: str = "nano"
    device: str = "auto"
    dtype: str = "float32"
    preset: str = "fast"  # of requests that name none
    voice: str | None = None  # of requests that name none; None is the model's default voice
    aliases: dict[str, str] = {}  # further names of voices, or other voices for OpenAI's names
    api_key: SecretStr | None = None  # what clients send as ``Authorization: Bearer KEY``; None asks for none
    allowed_hosts: Names = []  # names that the server goes by beside addresses and localhost; ``*`` is any
    cors_origins: Names = []  # other sites whose pages may use the server, as ``https://example.org``
    threads: int = Field(1, ge=1)  # threads of one network pass
    max_memory: int | None = None  # bytes that speaking may take, about; None is no limit
    #: sentences that are rendered at a time, beside the thread that samples; None: one for each further core
    renderers: int | None = Field(None, ge=1, le=64)
    #: whether each renderer is a process with the model once more; None: that of a small model is, on several cores
    processes: bool | None = None
    max_rows: int = Field(96, ge=1)  # candidates that are sampled together
    max_requests: int = Field(32, ge=1)  # texts that are spoken or wait; more are answered with 429
    max_chars: int = Field(20_000, ge=1)  # characters of a text
    timeout_s: float = Field(600, gt=0)  # longest that a request may take
    grace_s: float = Field(60, ge=0)  # how long a server that is told to stop may finish what it has begun
    max_upload_bytes: int = Field(25_000_000, ge=1)  # the clips of a voice together
    max_clips: int = Field(12, ge=1)
    max_clip_seconds: float = Field(120, gt=0)  # one clip
    #: speak the first sentence early, in pieces, the first of them in about so many milliseconds, measured at the start
    first_audio_ms: int | None = Field(None, ge=1)
    first_codes: int | None = Field(None, ge=10, le=160)  # the same in codes, which is alike on every machine
    log_texts: bool = False  # whether the log may show what is said
    wyoming: str | None = None  # where to speak Wyoming too: ``tcp://HOST:PORT``

    @field_validator("first_audio_ms", mode="before")
    @classmethod
    def _milliseconds(cls, value: Any) -> Any:
        """``300ms`` and ``0.3s`` are understood, too."""
        match = re.fullmatch(r"([0-9.]{1,12}) ?(ms|s)", value) if isinstance(value, str) else None
        return round(float(match[1]) * (1000 if match[2] == "s" else 1)) if match else value

    @field_validator("max_memory", mode="before")
    @classmethod
    def _bytes(cls, value: Any) -> Any:
        """``4GB`` and ``500MB`` are understood, too."""
        return memory_size(value) if isinstance(value, str) else value

    @field_validator("allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _separate(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def load_settings(file: Path | None = None, **given: Any) -> ServerSettings:
    """The settings: what is given and not None, else the environment, else the file, else the defaults.

    Raises ConfigError if one is unknown or out of range, or the file cannot be read.
    """
    values = read_yaml(file) if file is not None else {}

    class Sources(ServerSettings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
            return init_settings, env_settings, InitSettingsSource(settings_cls, values)

    try:
        return Sources(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(f"setting {name or '?'}: {first['msg'].lower()}") from None
