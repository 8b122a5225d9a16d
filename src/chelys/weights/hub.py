"""Model folders from the hub (https://huggingface.co) under OWNER/NAME.

The network is asked only for what is not there. What was fetched is kept by `huggingface_hub` in its own cache, which
resumes a download that broke off; its switches (``HF_HUB_OFFLINE``, ``HF_HOME``, ``HF_ENDPOINT``) hold here too.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from chelys.errors import ModelError, first_line
from chelys.weights.folder import CONFIG_FILE

log = logging.getLogger(__name__)

#: OWNER/NAME, if wanted with the commit or branch: OWNER/NAME@REVISION. What passes is no path.
_NAME = re.compile(
    r"(?P<id>[A-Za-z0-9][\w-]*(?:\.[\w-]+)*/[A-Za-z0-9][\w-]*(?:\.[\w-]+)*)(?:@(?P<revision>[\w-]{1,80}))?"
)
_MODEL_FILES = ("*.json", "*.safetensors", "*.gz", "*.md", "voices/*.safetensors")
_NEEDED = (CONFIG_FILE, "tokenizer.json", "autoregressive.safetensors")
_TIMEOUT = 10.0  # seconds for the hub to answer


class Unavailable(Exception):
    """A repository that cannot be used."""

    def __init__(self, reason: str, *, everywhere: bool = False) -> None:
        super().__init__(reason)
        self.everywhere = everywhere  # any other repository would answer the same


@dataclass
class Listing:
    """What a repository has at a commit: path to size and, where the hub knows it, SHA-256."""

    commit: str
    files: dict[str, tuple[int, str]]


def models_folder() -> Path:
    """Where converted models are kept: ``models`` in chelys' cache folder, or where ``CHELYS_MODELS`` points."""
    chosen = os.environ.get("CHELYS_MODELS")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("chelys")) / "models"


def is_hub_name(name: str) -> bool:
    """Whether a name could be one of the hub's; what passes is never a path out of anywhere."""
    return len(name) <= 200 and _NAME.fullmatch(name) is not None


def fetch_model(name: str) -> Path:
    """A model folder of the hub, OWNER/NAME or OWNER/NAME@REVISION.

    Raises:
        ModelError: If the hub has no such model, or it cannot be fetched.
    """
    match = _NAME.fullmatch(name)
    assert match, name
    repository, revision = match["id"], match["revision"]
    from huggingface_hub import snapshot_download

    def download(revision: str | None, *, offline: bool = False) -> Path:
        patterns = list(_MODEL_FILES)
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns, local_files_only=offline))

    try:
        with quiet():
            listing = ask(repository, revision)
            missing = [file for file in _NEEDED if file not in listing.files]
            if missing:
                raise Unavailable(f"it is no chelys model, for it has no {missing[0]}")
            return of_commit(listing.commit, download, revision)
    except Unavailable as error:
        if error.everywhere:
            try:
                return download(revision, offline=True)
            except Exception:  # it was never fetched
                log.debug("%s is not in the cache of the hub", repository)
        reason = str(error)
    except Exception as error:
        reason = first_line(error)
    raise ModelError(f"no model folder at {name}, and none of that name could be fetched from the hub: {reason}")


def ask(repository: str, revision: str | None) -> Listing:
    """What a repository has; Unavailable if that cannot be found out."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import HfHubHTTPError, OfflineModeIsEnabled

    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=_TIMEOUT)
    except OfflineModeIsEnabled:
        raise Unavailable("HF_HUB_OFFLINE is set", everywhere=True) from None
    except HfHubHTTPError as error:  # an answer, if not the one hoped for
        raise Unavailable(f"the hub answers {first_line(error)}") from error
    except Exception as error:  # what the HTTP library of the day raises
        raise Unavailable("the hub cannot be reached", everywhere=True) from error
    there = info.siblings or ()
    return Listing(info.sha or "", {f.rfilename: (f.size or 0, f.lfs.sha256 if f.lfs else "") for f in there})


def of_commit(commit: str, download: Callable[[str | None], Path], revision: str | None) -> Path:
    """Download a revision by its name, so that the cache finds it offline; by its commit if the name moved on since."""
    path = download(revision)
    return path if not commit or commit in path.parts else download(commit)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the hub library's messages about retries: one line is logged here instead."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
