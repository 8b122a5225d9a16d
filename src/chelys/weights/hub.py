"""Models from the hub (https://huggingface.co): TorToise v2, converted once, and model folders under OWNER/NAME.

The network is asked only for what is not there. What was fetched is kept by `huggingface_hub` in its own cache, which
goes on with a download that broke off; its switches (``HF_HUB_OFFLINE``, ``HF_HOME``, ``HF_ENDPOINT``) hold here too.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from chelys.errors import ModelError
from chelys.tortoise.convert import OPTIONAL, REQUIRED, Progress, convert
from chelys.tortoise.name_tables import TABLES
from chelys.weights.checks import gigabytes, require_disk
from chelys.weights.folder import CONFIG_FILE
from chelys.weights.tensor_file import sha256

log = logging.getLogger(__name__)

TORTOISE = "tortoise-v2"
#: OWNER/NAME, if wanted with the commit or branch: OWNER/NAME@REVISION. What passes is no path.
_NAME = re.compile(
    r"(?P<id>[A-Za-z0-9][\w-]*(?:\.[\w-]+)*/[A-Za-z0-9][\w-]*(?:\.[\w-]+)*)(?:@(?P<revision>[\w-]{1,80}))?"
)
_MODEL_FILES = ("*.json", "*.safetensors", "*.gz", "*.md", "voices/*.safetensors")
_NEEDED = (CONFIG_FILE, "tokenizer.json", "autoregressive.safetensors")
_PATIENCE = 10.0  # seconds for the hub to answer


@dataclass(frozen=True)
class Source:
    """A repository with the published files."""

    repository: str
    folder: str
    # The commit could not be looked up where this was written, so this is the branch. In its stead every file is held
    # against the SHA-256 that the hub names for it, all come from one commit, the name tables let pass nothing but
    # TorToise v2's tensors, and commit and hashes are noted in config.json.
    revision: str = "main"

    def file(self, network: str) -> str:
        """Path in the repository of a network's file."""
        return f"{self.folder}/{TABLES[network].file}" if self.folder else TABLES[network].file


#: In the order in which they are asked. The first has the streaming decoder besides, the second CVVP.
SOURCES = (Source("Manmay/tortoise-tts", ""), Source("jbetker/tortoise-tts-v2", ".models"))
#: The VQ-VAE is not fetched: its author withheld it, and speech does without.
FETCHED = (*REQUIRED, *(network for network in OPTIONAL if network != "dvae"))


def models_folder() -> Path:
    """Where converted models are kept: ``models`` in chelys' cache folder, or where ``CHELYS_MODELS`` points."""
    chosen = os.environ.get("CHELYS_MODELS")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("chelys")) / "models"


def is_hub_name(name: str) -> bool:
    """Whether a name could be one of the hub's; what passes is never a path out of anywhere."""
    return len(name) <= 200 and _NAME.fullmatch(name) is not None


# ---- TorToise v2 ------------------------------------------------------------------------------------------------


def tortoise_folder(progress: Progress | None = None) -> Path:
    """Folder of TorToise v2, fetched and converted on first use.

    Args:
        progress: Called as the conversion goes on; without it there is a bar on the terminal, if there is one.

    Raises:
        ModelError: If it is not there and cannot be fetched: what was tried, and what to do.
    """
    target = models_folder() / TORTOISE
    if (target / CONFIG_FILE).is_file():
        return target
    refused = []
    for source in SOURCES:
        try:
            with _own_words():
                files, commit = _fetch(source, target)
        except _Unavailable as error:
            if error.everywhere:
                refused = [str(error)]
                break
            refused.append(f"{source.repository}: {error}")
            continue
        log.warning("%s: converting to %s, once", TORTOISE, target)
        with _bar(progress) as shown:
            convert(files, target, origin=f"{source.repository}@{commit}", spare=True, progress=shown)
        return target
    raise ModelError(
        f"{TORTOISE} is not in {target.parent} and could not be fetched from"
        f" {' or '.join(source.repository for source in SOURCES)} ({'; '.join(refused)}): go online, or get its .pth"
        " files by other means, run 'chelys convert SRC DST' and give '--model DST'"
    )


class _Unavailable(Exception):
    """A source that cannot be used."""

    def __init__(self, reason: str, *, everywhere: bool = False) -> None:
        super().__init__(reason)
        self.everywhere = everywhere  # the other source would answer the same


def _fetch(source: Source, target: Path) -> tuple[dict[str, Path], str]:
    """The files of a source, and of the others what it lacks; and its commit."""
    try:
        listing = _ask(source.repository, source.revision)
    except _Unavailable:  # which does not matter if all that speech needs was fetched before
        cached = {network: path for network in FETCHED if (path := _cached(source, network))}
        if not all(network in cached for network in REQUIRED):
            raise
        return cached, cached[REQUIRED[0]].parents[1 if source.folder else 0].name
    missing = [TABLES[network].file for network in REQUIRED if source.file(network) not in listing.files]
    if missing:
        raise _Unavailable(f"it has no {missing[0]}")
    found = [(source, network, listing) for network in FETCHED if source.file(network) in listing.files]
    lacking = {network for network in FETCHED if source.file(network) not in listing.files}
    for other in SOURCES:
        if other != source and lacking:
            with suppress(_Unavailable):
                others = _ask(other.repository, other.revision)
                found += [
                    (other, network, others) for network in sorted(lacking) if other.file(network) in others.files
                ]
    wanted = [(place, network, there) for place, network, there in found if not _cached(place, network)]
    size = sum(there.files[place.file(network)][0] for place, network, there in wanted)
    if wanted:
        from huggingface_hub.constants import HF_HUB_CACHE

        require_disk(Path(HF_HUB_CACHE), size, f"fetching {TORTOISE} takes")
        log.warning("%s: fetching %s from %s, once", TORTOISE, gigabytes(size), source.repository)
    files = {network: _file(place, network, there) for place, network, there in found}
    return files, listing.commit


@dataclass
class _Listing:
    """What a repository has at a commit: path to size and, where the hub knows it, SHA-256."""

    commit: str
    files: dict[str, tuple[int, str]]


def _ask(repository: str, revision: str | None) -> _Listing:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import HfHubHTTPError, OfflineModeIsEnabled

    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=_PATIENCE)
    except OfflineModeIsEnabled:
        raise _Unavailable("HF_HUB_OFFLINE is set", everywhere=True) from None
    except HfHubHTTPError as error:  # an answer, if not the one hoped for
        raise _Unavailable(f"the hub answers {_first_line(error)}") from error
    except Exception as error:  # what the HTTP library of the day raises
        raise _Unavailable("the hub cannot be reached", everywhere=True) from error
    files = {
        file.rfilename: (file.size or 0, file.lfs.sha256 if file.lfs is not None else "")
        for file in info.siblings or ()
    }
    return _Listing(info.sha or "", files)


def _cached(source: Source, network: str) -> Path | None:
    """A file that was fetched before, whole."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(source.repository, source.file(network), revision=source.revision)
    return Path(path) if isinstance(path, str) else None


def _file(source: Source, network: str, listing: _Listing) -> Path:
    """Fetch a file, or take it from the cache, and hold it against size and hash."""
    from huggingface_hub import hf_hub_download

    name = source.file(network)
    size, digest = listing.files[name]
    for attempt in range(2):
        try:
            path = Path(hf_hub_download(source.repository, name, revision=source.revision, force_download=attempt > 0))
        except Exception as error:  # as above; a disk that is full, too
            if getattr(error, "errno", None) == 28:
                raise
            raise _Unavailable(
                f"fetching {name} broke off ({_first_line(error)}), and goes on when tried again"
            ) from error
        if path.stat().st_size == size and (not digest or sha256(path) == digest):
            return path
        log.warning("%s is not what the hub has: fetching it again", path)
    raise _Unavailable(f"{name} comes damaged")


# ---- model folders ----------------------------------------------------------------------------------------------


def fetch_model(name: str) -> Path:
    """A model folder of the hub.

    Args:
        name: OWNER/NAME or OWNER/NAME@REVISION.

    Raises:
        ModelError: If it is no name of the hub, the hub has no such model, or it cannot be fetched.
    """
    match = _NAME.fullmatch(name)
    assert match, name
    repository, revision = match["id"], match["revision"]
    from huggingface_hub import snapshot_download

    settings: dict[str, Any] = {"revision": revision, "allow_patterns": list(_MODEL_FILES)}
    try:
        with _own_words():
            listing = _ask(repository, revision)
            missing = [file for file in _NEEDED if file not in listing.files]
            if missing:
                raise _Unavailable(f"it is no chelys model, for it has no {missing[0]}")
            return Path(snapshot_download(repository, **settings))
    except _Unavailable as error:
        if error.everywhere:
            try:
                return Path(snapshot_download(repository, local_files_only=True, **settings))
            except Exception:  # it was never fetched
                log.debug("%s is not in the cache of the hub", repository)
        reason = str(error)
    except Exception as error:
        reason = _first_line(error)
    raise ModelError(f"no model folder at {name}, and none of that name could be fetched from the hub: {reason}")


# ---- words ------------------------------------------------------------------------------------------------------


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


@contextmanager
def _own_words() -> Iterator[None]:
    """Keep the hub's library from telling of its retries what is told here in one line."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _bar(progress: Progress | None) -> Iterator[Progress]:
    """A bar like those of the downloads, on a terminal, unless the caller has one."""
    if progress is not None:
        yield progress
        return
    from huggingface_hub.utils import tqdm

    with tqdm(total=None, unit="MB", disable=None) as bar:

        def update(stage: str, done: int, total: int) -> None:
            bar.total = total
            bar.set_description(stage, refresh=False)
            bar.update(done - bar.n)

        yield update
