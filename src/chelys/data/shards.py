"""Batches straight from shards: shuffled, bucketed by length, shared out among processes, resumable anywhere.

Which samples make which batch is one sequence without end, a function of the seed and the shards alone: epoch after
epoch every sample once. Batch ``k`` of it goes to rank ``k mod ranks`` and there to the workers in turn. So no sample
is lost or read twice, whatever the numbers of ranks and workers, every rank has as many batches as the others, and the
place in the sequence (an epoch, and a batch in it) is all that a checkpoint needs; it may be gone on from with other
numbers of ranks and workers.

An epoch takes the shards in a new order, a few at a time; their samples are mixed and sorted into buckets, and read
where they lie in the tar. So memory and open files stay the same however many shards there are.
"""

from __future__ import annotations

import hashlib
import io
import logging
import tarfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from chelys.audio.io import decode
from chelys.data.shard_index import ShardIndex, read_json, split_name
from chelys.errors import ConfigError, ManifestError

log = logging.getLogger(__name__)

_OPEN_FILES = 32
#: What a sample may hold, by suffix.
CONTENTS = frozenset({"flac", "codes.npy"})


@dataclass(frozen=True)
class ShardConfig:
    """What makes a batch.

    Attributes:
        seconds: Of speech in a batch, padding included.
        longest: Seconds of the longest sample used.
        window: Shards that are mixed at a time.
        held_out: One sample in so many is kept for evaluation, by its name alone; 0 keeps none.
    """

    seconds: float = 90.0
    longest: float = 20.0
    window: int = 8
    held_out: int = 100

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.longest <= 0:
            raise ConfigError(f"seconds is {self.seconds:g} and longest {self.longest:g}; both must be more than 0")
        if self.window < 1 or self.held_out < 0:
            raise ConfigError(f"window is {self.window}, held_out {self.held_out}; at least 1 and 0 are needed")


@dataclass(frozen=True)
class Place:
    """A place in the sequence of batches; a position beyond the epoch's end means as far into the next one.

    Attributes:
        epoch: From 0.
        position: Batches of the epoch before it.
    """

    epoch: int = 0
    position: int = 0


class Sample(NamedTuple):
    """A clip of a shard.

    Attributes:
        id: Its name.
        about: All that its JSON file says: ``text``, ``speaker``, ``seconds``, ``similar`` ...
        audio: Mono in [-1, 1], float32, ``(n,)``; None where the shard holds none, or it is not wanted.
        rate: Of the audio, Hz.
        codes: ``(m,)``; None where the shard holds none, or they are not wanted.
    """

    id: str
    about: dict[str, Any]
    audio: np.ndarray | None
    rate: int
    codes: np.ndarray | None


class ShardBatch(NamedTuple):
    """A batch.

    Attributes:
        epoch: That it belongs to.
        position: Its number in the epoch.
        samples: Of like lengths; fewer, or even none, where some could not be read.
        left_out: Samples that could not be read, one line each.
        following: Where the step after this one begins, the same for all ranks of a step.
    """

    epoch: int
    position: int
    samples: list[Any]
    left_out: list[str]
    following: Place


class Plan:
    """The sequence of batches."""

    def __init__(self, index: ShardIndex, config: ShardConfig, seed: int) -> None:
        self.index, self.config, self.seed = index, config, seed
        if not any(len(self._usable(number)) for number in range(len(index.shards))):
            raise ManifestError(
                f"no clip of {index.folder} to train on: all are held out, or longer than {config.longest:g} s"
            )

    def batches(self, place: Place) -> Iterator[tuple[int, int, np.ndarray]]:
        """Epoch, number in the epoch, and the samples of each batch from a place on, without end."""
        epoch, skip = place.epoch, place.position
        while True:
            position = 0
            for batches in self._windows(epoch):
                for batch in batches:
                    if skip:
                        skip -= 1
                    else:
                        yield epoch, position, batch
                    position += 1
            epoch += 1

    def fingerprint(self) -> str:
        """Of the sequence: places in another one mean nothing here."""
        shards = [(shard.name, shard.samples) for shard in self.index.shards]
        return hashlib.blake2b(repr((self.seed, self.config, shards)).encode(), digest_size=8).hexdigest()

    def held_out(self) -> np.ndarray:
        """Samples that are kept for evaluation and short enough."""
        entries = self.index.entries
        if not self.config.held_out:
            return np.zeros(0, np.int64)
        return np.flatnonzero((entries["id"] % self.config.held_out == 0) & (entries["seconds"] <= self.config.longest))

    def _windows(self, epoch: int) -> Iterator[list[np.ndarray]]:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.index.shards))
        for first in range(0, len(order), self.config.window):
            rng = np.random.default_rng([self.seed, epoch, first])
            yield self._deal(np.concatenate([self._usable(s) for s in order[first : first + self.config.window]]), rng)

    def _usable(self, number: int) -> np.ndarray:
        """Samples of a shard to train on."""
        shard = self.index.shards[number]
        entries = self.index.entries[shard.first : shard.first + shard.samples]
        usable = entries["seconds"] <= self.config.longest
        if self.config.held_out:
            usable &= entries["id"] % self.config.held_out != 0
        return shard.first + np.flatnonzero(usable)

    def _deal(self, samples: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        seconds = self.index.entries["seconds"][samples].astype(np.float64)
        jittered = seconds * rng.uniform(0.93, 1.07, len(samples))  # the same clips shall not meet in every epoch
        order = np.argsort(jittered, kind="stable")
        samples = samples[order]
        longest = np.maximum.accumulate(seconds[order])  # hardly more than that of any batch up to there
        batches, first = [], 0
        while first < len(samples):
            last = self._end(longest, first)
            batches.append(samples[first:last])
            first = last
        return [batches[i] for i in rng.permutation(len(batches))]

    def _end(self, longest: np.ndarray, first: int) -> int:
        """End of the batch that begins at ``first``: as many as the budget holds, at least one."""
        low, high = first + 1, min(len(longest), first + 1 + int(self.config.seconds / longest[first]))
        while low < high:
            middle = (low + high + 1) // 2
            if longest[middle - 1] * (middle - first) <= self.config.seconds:
                low = middle
            else:
                high = middle - 1
        return low


class Reader:
    """Reads samples where they lie; for one process and one thread.

    Args:
        index: Of the shards.
        wanted: Of CONTENTS; the rest is not decoded.
    """

    def __init__(self, index: ShardIndex, wanted: frozenset[str] = CONTENTS) -> None:
        self.index, self.wanted = index, wanted
        self._files: OrderedDict[str, BinaryIO] = OrderedDict()

    def read(self, sample: int) -> Sample:
        """Read one.

        Raises:
            ManifestError: If its bytes are not what they were, or cannot be decoded.
        """
        shard = self.index.shard_of(sample)
        entry = self.index.entries[sample]
        where = f"{self.index.folder / shard.name}, byte {entry['offset']}"
        try:
            file = self._file(shard.name)
            file.seek(int(entry["offset"]))
            files = _unpack(file.read(int(entry["size"])))
            about = read_json(files.get("json", b""))
            if about is None:
                raise ManifestError(f"{where}: no sample lies there any more; the shard has changed")
            flac, npy = (files.get(name) if name in self.wanted else None for name in ("flac", "codes.npy"))
            audio, rate = (None, 0) if flac is None else decode(flac)
            codes = None if npy is None else np.load(io.BytesIO(npy), allow_pickle=False)
        except (OSError, ValueError, EOFError, tarfile.TarError) as error:
            if isinstance(error, ManifestError):
                raise
            raise ManifestError(f"{where}: {' '.join(str(error).split())}") from error
        return Sample(str(about.get("id")), about, audio, rate, codes)

    def close(self) -> None:
        """Close the files."""
        while self._files:
            self._files.popitem()[1].close()

    def _file(self, name: str) -> BinaryIO:
        if name in self._files:
            self._files.move_to_end(name)
        else:
            self._files[name] = (self.index.folder / name).open("rb", buffering=0)
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)[1].close()
        return self._files[name]


def _unpack(data: bytes) -> dict[str, bytes]:
    """Suffix -> content of the files of one sample."""
    files = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for member in tar:
            if member.isreg() and not member.issparse():
                files[split_name(member.name)[1]] = data[member.offset_data : member.offset_data + member.size]
    return files


#: What a worker makes of a sample before it is handed over.
Prepare = Callable[[Sample], Any]


class ShardBatches(IterableDataset):
    """A rank's share of the batches, from a place on, without end; in a worker the worker's share of it."""

    def __init__(
        self,
        plan: Plan,
        *,
        rank: int = 0,
        ranks: int = 1,
        place: Place | None = None,
        prepare: Prepare | None = None,
        wanted: frozenset[str] = CONTENTS,
    ) -> None:
        if not 0 <= rank < ranks:
            raise ConfigError(f"rank is {rank} of {ranks}; it must be 0 to {ranks - 1}")
        self.plan, self.rank, self.ranks = plan, rank, ranks
        self.place, self.prepare, self.wanted = place or Place(), prepare, wanted

    def __iter__(self) -> Iterator[ShardBatch]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        reader = Reader(self.plan.index, self.wanted)
        try:
            for k, (epoch, position, chosen) in enumerate(self.plan.batches(self.place)):
                if k % self.ranks == self.rank and k // self.ranks % workers == number:
                    samples, left_out = self._read(reader, chosen)
                    following = Place(epoch, position - self.rank + self.ranks)
                    yield ShardBatch(epoch, position, samples, left_out, following)
        finally:
            reader.close()

    def _read(self, reader: Reader, chosen: np.ndarray) -> tuple[list[Any], list[str]]:
        samples, left_out = [], []
        for number in sorted(chosen.tolist()):  # as they lie on the disk
            try:
                sample = reader.read(number)
                samples.append(self.prepare(sample) if self.prepare else sample)
            except ManifestError as error:
                log.warning("%s", error)
                left_out.append(str(error))
        return samples, left_out


class ShardLoader:
    """Batches of a rank, read ahead by workers, with the place in the sequence for checkpoints.

    The place moves on when a batch is handed over, not when it is read ahead. That of any rank will do for all.

    Args:
        plan: The sequence of batches.
        rank: Of this process.
        ranks: How many processes train together.
        workers: Processes that read ahead; 0 reads in this one.
        prepare: What workers make of each sample; must be picklable where processes are not forked.
        wanted: Of CONTENTS; the rest is not decoded.
        ahead: Batches that each worker reads ahead.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        rank: int = 0,
        ranks: int = 1,
        workers: int = 0,
        prepare: Prepare | None = None,
        wanted: frozenset[str] = CONTENTS,
        ahead: int = 4,
    ) -> None:
        self.plan, self.rank, self.ranks, self.workers = plan, rank, ranks, workers
        self.prepare, self.wanted, self.ahead = prepare, wanted, ahead
        self.place = Place()

    def __iter__(self) -> Iterator[ShardBatch]:
        batches = ShardBatches(
            self.plan, rank=self.rank, ranks=self.ranks, place=self.place, prepare=self.prepare, wanted=self.wanted
        )
        ahead = self.ahead if self.workers else None
        loader: DataLoader[ShardBatch] = DataLoader(
            batches, batch_size=None, num_workers=self.workers, collate_fn=_as_it_is, prefetch_factor=ahead
        )
        for batch in loader:
            self.place = batch.following
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The place, for a checkpoint."""
        return {**asdict(self.place), "plan": self.plan.fingerprint()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's place; holds for iterations that begin afterwards.

        Raises:
            ConfigError: If the place is in another sequence of batches.
        """
        if state["plan"] != self.plan.fingerprint():
            raise ConfigError(
                f"the run was in the middle of other shards than {self.plan.index.folder} holds now, or had another "
                "seed or other batches: give it those again, or start anew"
            )
        self.place = Place(state["epoch"], state["position"])


def _as_it_is(batch: Any) -> Any:
    return batch
