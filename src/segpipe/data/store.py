"""Packed arrays: many 8-bit arrays of any shape in a few memory-mapped files.

A folder of 100,000 small files costs DVC minutes and training a system call per image; a few files cost neither. A
store `images` is made of

    images.000.bin, images.001.bin ...   the arrays one after another, in files of about a gigabyte that can be moved
    images.index                         a row of 41 bytes for each array: where it lies, its shape, its checksum
    images.json                          written last: without it there is no store

What is damaged is noticed: sizes and index when a store is opened, each array when a process reads it first.
"""

import hashlib
import json
import mmap
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from segpipe.data.codecs import Codec, Encoded, decode, encode

FORMAT = 2
SHARD_BYTES = 2**30  # DVC moves a changed file as a whole; and many more files would be too many to hold open
MAPS = 256  # files held open at once: systems often allow a process 1,024
DIMENSIONS = 4
ROW = struct.Struct(f"<IQQIB{DIMENSIONS}I")  # file, place and size in it, CRC-32, dimensions, shape
MEND = "remove its folder and run `dvc checkout`, or `dvc repro` where DVC holds no sound copy"


def _beside(path: Path, end: str) -> Path:
    return path.with_name(f"{path.name}.{end}")


class PackedWriter:
    """Writes the store `path` array by array, readable when the block ends; an error leaves nothing of it."""

    def __init__(self, path: Path, codec: Codec = "raw", *, shard_bytes: int = SHARD_BYTES) -> None:
        self.path, self.codec, self.shard_bytes = path, codec, shard_bytes
        self._digest = hashlib.sha256(codec.encode())
        self._shards: list[int] = []  # their sizes so far
        self._count = self._index_crc = 0

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._remove()
        self._index = _beside(self.path, "index").open("wb")
        self._open_shard()
        return self

    def add(self, array: np.ndarray) -> None:
        """Append one uint8 array of up to 4 dimensions; raises ValueError for what the codec cannot hold."""
        try:
            encoded = encode(array, self.codec)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error
        self.add_encoded(encoded)

    def add_encoded(self, encoded: Encoded) -> None:
        """Append an array that was encoded elsewhere, such as in another process."""
        shape, size = encoded.shape, len(encoded.stored)
        if encoded.codec != self.codec or len(shape) > DIMENSIONS:
            expected = f"{self.codec} of up to {DIMENSIONS} dimensions"
            raise ValueError(f"{self.path}: found {encoded.codec} of shape {shape}; expected {expected}")
        if self._shards[-1] and self._shards[-1] + size > self.shard_bytes:
            self._file.close()
            self._open_shard()
        padded = (*shape, *[0] * (DIMENSIONS - len(shape)))
        row = ROW.pack(len(self._shards) - 1, self._shards[-1], size, encoded.crc, len(shape), *padded)
        self._file.write(encoded.stored)
        self._index.write(row)
        self._index_crc = zlib.crc32(row, self._index_crc)
        self._digest.update(encoded.digest + bytes(str(shape), "ascii"))
        self._shards[-1] += size
        self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()  # both may still have bytes to write, on a disk that is full
            self._index.close()
            if error is None:
                self._seal()
        except BaseException:
            self._remove()
            raise
        if error is not None:
            self._remove()

    def _seal(self) -> None:
        content = {
            "format": FORMAT,
            "codec": self.codec,
            "arrays": self._count,
            # of shapes and stored bytes, so that a reader can tell one content from another without reading it all
            "digest": self._digest.hexdigest(),
            "shards": self._shards,
            "index_crc": self._index_crc,
        }
        unfinished = _beside(self.path, "json.unfinished")
        unfinished.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
        unfinished.replace(_beside(self.path, "json"))

    def _open_shard(self) -> None:
        self._file = _shard(self.path, len(self._shards)).open("wb")
        self._shards.append(0)

    def _remove(self) -> None:
        for end in ("json", "json.unfinished", "index"):
            _beside(self.path, end).unlink(missing_ok=True)
        for shard in self.path.parent.glob(f"{self.path.name}.*.bin"):
            shard.unlink()


def _shard(path: Path, number: int) -> Path:
    return _beside(path, f"{number:03}.bin")


class PackedArrays:
    """Random access to what PackedWriter wrote: `arrays[i]` is a uint8 array (read-only where stored raw).

    Files are mapped when they are first read, so the object takes no memory to speak of and can be sent to worker
    processes, forked or spawned. Raises FileNotFoundError without a finished store, ValueError for a file of another
    size than the writer's, for a damaged index, and for a damaged array when it is read first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        seal = _beside(path, "json")
        if not seal.is_file():
            raise FileNotFoundError(f"{seal}: not found; the stage that writes it did not finish: run `dvc repro`")
        content = json.loads(seal.read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise ValueError(f"{seal}: was written by another version of segpipe; run `dvc repro` to write it anew")
        self.codec: Codec = content["codec"]
        self.digest: str = content["digest"]
        self._count, self._shards = content["arrays"], content["shards"]
        for number, size in enumerate(self._shards):
            _expect_size(_shard(path, number), size)
        index_file = _beside(path, "index")
        _expect_size(index_file, self._count * ROW.size)
        self._index: np.ndarray | None = None
        self._maps: dict[int, np.ndarray] = {}
        self._sound = bytearray(self._count)
        if zlib.crc32(self._rows()) != content["index_crc"]:
            raise ValueError(f"{index_file}: its checksum is not the writer's; the file is damaged: {MEND}")

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def shape(self, index: int) -> tuple[int, ...]:
        """Of `arrays[index]`, which is not read for it."""
        return self._row(range(len(self))[index])[-1]

    def __getitem__(self, index: int) -> np.ndarray:
        index = range(len(self))[index]  # refuses what is out of range; -1 is the last
        shard, start, size, crc, shape = self._row(index)
        stored = self._shard(shard)[start : start + size]
        if not self._sound[index]:
            if (found := zlib.crc32(stored)) != crc:
                wrong = f"array {index} has the checksum {found:08x}, the writer's was {crc:08x}"
                raise ValueError(f"{_shard(self.path, shard)}: {wrong}; the file is damaged: {MEND}")
            self._sound[index] = 1
        return decode(stored, self.codec, shape)

    def _row(self, index: int) -> tuple[int, int, int, int, tuple[int, ...]]:
        shard, start, size, crc, dimensions, *shape = ROW.unpack_from(self._rows(), index * ROW.size)
        return shard, start, size, crc, tuple(shape[:dimensions])

    def _rows(self) -> np.ndarray:
        if self._index is None:
            self._index = _mapped(_beside(self.path, "index"), self._count * ROW.size)
        return self._index

    def _shard(self, number: int) -> np.ndarray:
        if number not in self._maps:
            if len(self._maps) == MAPS:
                del self._maps[next(iter(self._maps))]
            self._maps[number] = _mapped(_shard(self.path, number), self._shards[number])
        return self._maps[number]

    def __getstate__(self) -> dict:
        """Without what belongs to this process alone: maps, and which arrays it has found sound."""
        return self.__dict__ | {"_index": None, "_maps": {}, "_sound": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _sound=bytearray(state["_count"]))


def _expect_size(path: Path, size: int) -> None:
    found = path.stat().st_size if path.is_file() else None
    if found != size:
        there = "not found" if found is None else f"found {found} bytes, expected {size} by its index"
        raise ValueError(f"{path}: {there}; the store is damaged: {MEND}")


def _mapped(path: Path, size: int) -> np.ndarray:
    """The file's bytes, read-only; its size is looked at again, since a map of a file cut short kills the process."""
    _expect_size(path, size)
    if not size:
        return np.empty(0, np.uint8)
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
