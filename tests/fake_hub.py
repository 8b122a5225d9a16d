"""The hub, played by folders."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub

COMMIT = "c0ffee"


class Hub:
    """Repositories in folders, a cache in another one, and a count of what was asked."""

    def __init__(self, root: Path) -> None:
        self.root, self.cache = root / "hub", root / "cache"
        self.asked: list[str] = []
        self.downloads: list[str] = []
        self.fault: Exception | None = None
        self.damaged = 0  # so many of the next downloads

    def put(self, repository: str, name: str, file: Path) -> None:
        path = self.root / repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, path)

    def model_info(self, repository: str, revision: str | None = None, **settings: Any) -> Any:
        self.asked.append(repository)
        if self.fault:
            raise self.fault
        folder = self.root / repository
        if not folder.is_dir():
            raise huggingface_hub.utils.RepositoryNotFoundError(
                "404: not found\n\nSecond line.", response=SimpleNamespace(headers={}, request=None)
            )
        files = [path for path in folder.rglob("*") if path.is_file()]
        siblings = [
            SimpleNamespace(
                rfilename=path.relative_to(folder).as_posix(),
                size=path.stat().st_size,
                lfs=SimpleNamespace(sha256=hashlib.sha256(path.read_bytes()).hexdigest()),
            )
            for path in files
        ]
        return SimpleNamespace(sha=COMMIT, siblings=siblings)

    def _place(self, repository: str, name: str) -> Path:
        return self.cache / repository.replace("/", "--") / "snapshots" / COMMIT / name

    def hf_hub_download(self, repository: str, name: str, *, revision: str, force_download: bool = False) -> str:
        place = self._place(repository, name)
        if force_download or not place.is_file():
            if self.fault:
                raise self.fault
            self.downloads.append(f"{repository}/{name}")
            place.parent.mkdir(parents=True, exist_ok=True)
            data = (self.root / repository / name).read_bytes()
            place.write_bytes(data[: len(data) // 2] if self.damaged > 0 else data)
            self.damaged -= 1
        return str(place)

    def try_to_load_from_cache(self, repository: str, name: str, *, revision: str) -> str | None:
        place = self._place(repository, name)
        return str(place) if place.is_file() else None

    def snapshot_download(self, repository: str, *, local_files_only: bool = False, **settings: Any) -> str:
        place = self.cache / repository.replace("/", "--") / "snapshots" / COMMIT
        if not place.is_dir():
            if local_files_only:
                raise FileNotFoundError("not in the cache")
            self.downloads.append(repository)
            shutil.copytree(self.root / repository, place)
        return str(place)
