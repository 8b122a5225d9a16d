"""TorToise v2 from the hub, fetched and converted on first use."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chelys.errors import ModelError, first_line
from chelys.tortoise.convert import OPTIONAL, REQUIRED, Progress, convert
from chelys.tortoise.state_dicts import TABLES
from chelys.weights.checks import gigabytes, require_disk
from chelys.weights.folder import CONFIG_FILE
from chelys.weights.hub import Listing, Unavailable, ask, models_folder, of_commit, quiet
from chelys.weights.tensor_file import sha256

log = logging.getLogger(__name__)

TORTOISE = "tortoise-v2"


@dataclass(frozen=True)
class Source:
    """A repository with the published files."""

    repository: str
    folder: str
    # The branch, for the commit could not be looked up where this was written. Every file comes from the commit that
    # the hub lists and is held against the SHA-256 that it names, the name tables let pass nothing but TorToise v2's
    # tensors, and commit and hashes are noted in config.json.
    revision: str = "main"

    def file(self, network: str) -> str:
        """Path in the repository of a network's file."""
        return f"{self.folder}/{TABLES[network].file}" if self.folder else TABLES[network].file


#: In the order in which they are asked. The first has the streaming decoder besides, the second CVVP.
SOURCES = (Source("Manmay/tortoise-tts", ""), Source("jbetker/tortoise-tts-v2", ".models"))
#: The VQ-VAE is not fetched: its author withheld it, and speech does without.
FETCHED = (*REQUIRED, *(network for network in OPTIONAL if network != "dvae"))


def tortoise_folder(progress: Progress | None = None) -> Path:
    """Folder of TorToise v2, fetched and converted on first use; without ``progress`` a bar shows on the terminal.

    Raises:
        ModelError: If it is not there and cannot be fetched: what was tried, and what to do.
    """
    target = models_folder() / TORTOISE
    if (target / CONFIG_FILE).is_file():
        return target
    refused = []
    for source in SOURCES:
        try:
            with quiet():
                files, commit = _fetch(source, target)
        except Unavailable as error:
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


def _fetch(source: Source, target: Path) -> tuple[dict[str, Path], str]:
    """The files of a source, and of the others what it lacks; and its commit."""
    try:
        listing = ask(source.repository, source.revision)
    except Unavailable:  # which does not matter if all that speech needs was fetched before
        cached = {network: path for network in FETCHED if (path := _cached(source, network))}
        if not all(network in cached for network in REQUIRED):
            raise
        return cached, cached[REQUIRED[0]].parents[1 if source.folder else 0].name
    missing = [TABLES[network].file for network in REQUIRED if source.file(network) not in listing.files]
    if missing:
        raise Unavailable(f"it has no {missing[0]}")
    found = [(source, network, listing) for network in FETCHED if source.file(network) in listing.files]
    lacking = {network for network in FETCHED if source.file(network) not in listing.files}
    for other in SOURCES:
        if other != source and lacking:
            with suppress(Unavailable):
                others = ask(other.repository, other.revision)
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


def _cached(source: Source, network: str) -> Path | None:
    """A file that was fetched before, whole."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(source.repository, source.file(network), revision=source.revision)
    return Path(path) if isinstance(path, str) else None


def _file(source: Source, network: str, listing: Listing) -> Path:
    """Fetch a file, or take it from the cache, and hold it against size and hash."""
    from huggingface_hub import hf_hub_download

    name = source.file(network)
    size, digest = listing.files[name]

    def download(revision: str | None, *, force: bool) -> Path:
        return Path(hf_hub_download(source.repository, name, revision=revision, force_download=force))

    for attempt in range(2):
        try:
            path = of_commit(listing.commit, partial(download, force=attempt > 0), source.revision)
        except Exception as error:  # as above; a disk that is full, too
            if getattr(error, "errno", None) == 28:
                raise
            raise Unavailable(
                f"fetching {name} broke off ({first_line(error)}), and goes on when tried again"
            ) from error
        if path.stat().st_size == size and (not digest or sha256(path) == digest):
            return path
        log.warning("%s is not what the hub has: fetching it again", path)
    raise Unavailable(f"{name} comes damaged")


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
