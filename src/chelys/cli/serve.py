"""``chelys serve``: speech over HTTP."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from chelys.errors import MissingExtra
from chelys.machine import set_threads

HELP = (
    "Serve speech over HTTP, in the form of OpenAI's /v1/audio/speech, with a page to try voices at /. "
    "Each setting is also read from CHELYS_SERVER_NAME in the environment, and from the file of --config."
)
EXAMPLE = "Example: chelys serve --port 8880, then open http://127.0.0.1:8880"


def serve(
    host: Annotated[str | None, typer.Option("--host", help="Address to listen at. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Default: 8880; 0 takes a free one.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML file of settings.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Name or folder of the model. Default: nano.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:N, mps or auto.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16, float16 or auto.")] = None,
    preset: Annotated[str | None, typer.Option("-p", "--preset", help="Of requests that name none.")] = None,
    voice: Annotated[str | None, typer.Option("-v", "--voice", help="Of requests that name none.")] = None,
    api_key: Annotated[str | None, typer.Option("--api-key", help="Clients must send it as a bearer token.")] = None,
    allowed_hosts: Annotated[
        str | None, typer.Option("--allowed-hosts", help="Names that the server goes by, a,b; '*' is any.")
    ] = None,
    cors_origins: Annotated[
        str | None, typer.Option("--cors-origins", help="Other sites whose pages may use it. Default: none.")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Of one network pass. Default: 1.")] = None,
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", help="Memory that it may take, about: 4GB, 500MB. Default: no limit.")
    ] = None,
    renderers: Annotated[
        int | None, typer.Option("--renderers", help="Sentences rendered at a time. Default: the cores but one.")
    ] = None,
    processes: Annotated[
        bool | None,
        typer.Option(
            "--processes/--no-processes", help="Renderers with a copy of the model each. Default: of small ones."
        ),
    ] = None,
    max_rows: Annotated[int | None, typer.Option("--max-rows", help="Candidates sampled together.")] = None,
    max_requests: Annotated[
        int | None, typer.Option("--max-requests", help="Texts spoken or waiting; more are refused with 429.")
    ] = None,
    max_chars: Annotated[int | None, typer.Option("--max-chars", help="Longest text.")] = None,
    timeout_s: Annotated[float | None, typer.Option("--timeout", help="Seconds that a request may take.")] = None,
    grace_s: Annotated[
        float | None, typer.Option("--grace", help="Seconds to finish what was begun, when told to stop.")
    ] = None,
    first_audio_ms: Annotated[
        str | None, typer.Option("--first-audio", help="First sentences come in pieces, the first in so long: 300ms.")
    ] = None,
    first_codes: Annotated[int | None, typer.Option("--first-codes", help="The same in codes of 43 ms.")] = None,
    wyoming: Annotated[
        str | None, typer.Option("--wyoming", help="Also speak Wyoming, for Home Assistant: tcp://127.0.0.1:10200.")
    ] = None,
    log_texts: Annotated[
        bool | None, typer.Option("--log-texts/--no-log-texts", help="Let the log show what is said.")
    ] = None,
) -> None:
    """Read the settings, then serve."""
    given = {name: value for name, value in locals().items() if name != "config"}
    try:
        from chelys.server.settings import load_settings

        settings = load_settings(config, **given)
        set_threads(settings.threads)
        from chelys.server.run import serve as run
    except ImportError as error:
        raise MissingExtra("server", error) from error
    logger = logging.getLogger("chelys")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if settings.log_texts else logging.WARNING)
    run(settings, lambda line: print(f"chelys: {line}", flush=True))
