"""Packed arrays: many 8-bit arrays of any shape in one memory-mapped file with an index beside it.

A folder of 100,000 small files costs DVC minutes and training a system call per image; one file costs neither.
"""

import hashlib
import json
import zlib
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np

Codec = Literal["raw", "zlib"]


class PackedWriter:
    """Writes `<path>.bin` array by array and `<path>.json` (the index) when the block ends; an error leaves neither."""

    def __init__(self, path: Path, codec: Codec = "raw") -> None:
        self.path, self.codec = path, codec
        self.offsets, self.shapes = [0], []
        self._digest = hashlib.sha256()

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._index_file().unlink(missing_ok=True)
        self._file = self.path.with_suffix(".bin").open("wb")
        return self

    def add(self, array: np.ndarray) -> None:
        """Append one uint8 array of any shape; raises ValueError for another dtype."""
        if array.dtype != np.uint8:
            raise ValueError(f"{self.path}: found an array of {array.dtype}; packed arrays are uint8")
        raw = np.ascontiguousarray(array).tobytes()
        # level 1: label maps shrink some 50 times at 0.2 ms for 512x512
        stored = zlib.compress(raw, 1) if self.codec == "zlib" else raw
        self._file.write(stored)
        self._digest.update(stored)
        self.offsets.append(self.offsets[-1] + len(stored))
        self.shapes.append(list(array.shape))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if error is not None:
            self.path.with_suffix(".bin").unlink()
        else:
            # so that a reader can tell one content from another without reading it all
            digest = self._digest.hexdigest()
            index = {"codec": self.codec, "digest": digest, "offsets": self.offsets, "shapes": self.shapes}
            self._index_file().write_text(json.dumps(index, separators=(",", ":")) + "\n", encoding="utf-8")

    def _index_file(self) -> Path:
        return self.path.with_suffix(".json")


class PackedArrays:
    """Random access to what PackedWriter wrote: `arrays[i]` is a uint8 array (read-only where stored raw).

    The memory map opens on first use, so that the object can be sent to worker processes.
    Raises FileNotFoundError without an index, ValueError when the file is shorter or longer than the index says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        index_file = path.with_suffix(".json")
        if not index_file.is_file():
            raise FileNotFoundError(
                f"{index_file}: not found; the stage that writes it did not finish: run `dvc repro`"
            )
        index = json.loads(index_file.read_text(encoding="utf-8"))
        self.codec, self.offsets, self.shapes = index["codec"], index["offsets"], index["shapes"]
        self.digest: str = index["digest"]  # of all stored bytes, as the writer found it
        found = path.with_suffix(".bin").stat().st_size
        if found != self.offsets[-1]:
            raise ValueError(
                f"{path.with_suffix('.bin')}: found {found} bytes, expected {self.offsets[-1]} by its index; "
                "the file is damaged: remove its folder and run `dvc checkout` or `dvc repro`"
            )
        self._memory: np.memmap | None = None

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> np.ndarray:
        index = range(len(self))[index]  # refuses what is out of range; -1 is the last
        if self._memory is None:
            self._memory = np.memmap(self.path.with_suffix(".bin"), np.uint8, "r")
        stored = self._memory[self.offsets[index] : self.offsets[index + 1]]
        if self.codec == "zlib":
            stored = np.frombuffer(zlib.decompress(stored), np.uint8)
        return stored.reshape(self.shapes[index])

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_memory": None}
