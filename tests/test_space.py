"""The disk space of stored probabilities: said and refused before it is taken."""

import shutil
from collections import namedtuple

import numpy as np
import pytest

from segpipe.data.lineage import Lineage
from segpipe.inference import space
from segpipe.inference.probs import PredictionWriter
from segpipe.inference.space import megabytes, refuse_full_disks, stored_bytes


@pytest.mark.parametrize("image_size, scored_size", [((8, 8), None), ((8, 8), (16, 16)), (None, (4, 6)), (None, None)])
def test_stores_take_what_was_said(tmp_path, image_size, scored_size):
    sizes = [(10, 12), (20, 6)]
    with PredictionWriter(tmp_path, "m", ["a", "b", "c"], scored_size) as writer:
        for index, size in enumerate(sizes):
            writer.add(index, np.full((*(image_size or size), 3), 1 / 3, np.float32), size)
        writer.finish(Lineage(frozenset(), frozenset()), {})
    stored = sum(path.stat().st_size for path in tmp_path.glob("probs.*.bin"))
    assert stored == stored_bytes(sizes, image_size, scored_size, 3)


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 5_000_000))
    out = tmp_path / "predictions" / "baseline-main-0"
    with pytest.raises(
        ValueError, match=r"baseline-main-0: the predictions need up to 7 MB, .* has 5 MB free; make room"
    ):
        refuse_full_disks({out: 6_100_000})
    refuse_full_disks({out: 5_000_000})
    assert not out.exists()


def test_only_folders_of_one_disk_share_its_room(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 5_000_000))
    needed = {tmp_path / "out": 3_000_000, tmp_path / "state": 3_000_000}
    with pytest.raises(ValueError, match=r"out: the predictions need up to 6 MB"):
        refuse_full_disks(needed)
    monkeypatch.setattr(space, "_disk", lambda folder: folder.name)
    refuse_full_disks(needed)


def test_space_is_rounded_up():
    assert [megabytes(number) for number in (1, 26_000_000, 26_000_001)] == ["1 MB", "26 MB", "27 MB"]
