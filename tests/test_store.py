import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segpipe.data.store import PackedArrays, PackedWriter

CODECS = pytest.mark.parametrize("codec", ["raw", "zlib"])
ARRAYS = [
    np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
    np.full((5, 1), 255, np.uint8),
    np.zeros((0, 3), np.uint8),
    np.array([7], np.uint8),
]


def write(path, values, codec="raw"):
    with PackedWriter(path, codec) as writer:
        for value in values:
            writer.add(value)
    return PackedArrays(path)


@CODECS
def test_arrays_of_different_shapes_come_back_at_their_positions(tmp_path, codec):
    store = write(tmp_path / "deep" / "folder" / "images", ARRAYS, codec)
    assert len(store) == 4
    for position in (3, 0, 2, 1):
        assert store[position].dtype == np.uint8
        np.testing.assert_array_equal(store[position], ARRAYS[position], strict=True)


@CODECS
@settings(max_examples=20, deadline=None)
@given(values=st.lists(arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, max_side=5)), max_size=4))
def test_any_arrays_come_back_as_they_were(tmp_path_factory, codec, values):
    store = write(tmp_path_factory.mktemp("store") / "x", values, codec)
    assert [array.tolist() for array in store] == [value.tolist() for value in values]
    assert [array.shape for array in store] == [value.shape for value in values]


def test_positions_count_from_the_end_as_in_a_list(tmp_path):
    store = write(tmp_path / "x", [np.full(2, value, np.uint8) for value in (5, 6, 7)])
    assert [store[-1][0], store[-2][0], store[-3][0]] == [7, 6, 5]
    for position in (3, -4):
        with pytest.raises(IndexError):
            store[position]


def test_an_array_that_is_not_contiguous_is_stored_as_it_reads(tmp_path):
    flipped = ARRAYS[0][::-1, ::2].transpose(2, 1, 0)
    np.testing.assert_array_equal(write(tmp_path / "x", [flipped])[0], flipped)


def test_label_maps_shrink_under_zlib(tmp_path):
    labels = np.repeat(np.arange(4, dtype=np.uint8), 4096).reshape(128, 128)
    write(tmp_path / "raw", [labels])
    write(tmp_path / "zlib", [labels], "zlib")
    assert (tmp_path / "raw.bin").stat().st_size == 128 * 128
    assert (tmp_path / "zlib.bin").stat().st_size < 1000


def test_stored_arrays_cannot_be_changed_by_mistake(tmp_path):
    with pytest.raises(ValueError, match="read-only"):
        write(tmp_path / "x", ARRAYS)[0][0] = 1


@pytest.mark.parametrize("dtype", [np.int64, np.float32, bool])
def test_other_dtypes_are_refused(tmp_path, dtype):
    with pytest.raises(ValueError, match=rf"x: found an array of {np.dtype(dtype)}; packed arrays are uint8"):
        write(tmp_path / "x", [np.zeros((2, 2), dtype)])


@CODECS
def test_an_empty_store_has_length_0_and_no_first_array(tmp_path, codec):
    store = write(tmp_path / "x", [], codec)
    assert len(store) == 0 and list(store) == []


def test_a_block_that_ends_in_an_error_leaves_nothing_to_open_not_even_an_older_store(tmp_path):
    write(tmp_path / "x", ARRAYS)
    with pytest.raises(RuntimeError, match="power cut"), PackedWriter(tmp_path / "x") as writer:
        writer.add(ARRAYS[0])
        raise RuntimeError("power cut")
    with pytest.raises(FileNotFoundError, match=r"x\.json: not found; the stage that writes it did not finish"):
        PackedArrays(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content + b"\0"])
def test_a_file_cut_short_or_grown_is_noticed_when_it_is_opened(tmp_path, damage):
    write(tmp_path / "x", [ARRAYS[0]])
    path = tmp_path / "x.bin"
    path.write_bytes(damage(path.read_bytes()))
    found = path.stat().st_size
    with pytest.raises(ValueError, match=rf"x\.bin: found {found} bytes, expected 24 by its index"):
        PackedArrays(tmp_path / "x")


@CODECS
def test_a_store_that_is_already_open_can_be_sent_to_a_worker(tmp_path, codec):
    store = write(tmp_path / "x", ARRAYS, codec)
    before = len(pickle.dumps(store))
    np.testing.assert_array_equal(store[0], ARRAYS[0])  # opens the memory map
    sent = pickle.dumps(store)
    assert len(sent) == before  # the map itself does not travel
    np.testing.assert_array_equal(pickle.loads(sent)[1], ARRAYS[1])


def test_the_same_arrays_make_the_same_bytes(tmp_path):
    write(tmp_path / "x", ARRAYS, "zlib")
    write(tmp_path / "y", ARRAYS, "zlib")
    for end in (".bin", ".json"):
        assert (tmp_path / f"x{end}").read_bytes() == (tmp_path / f"y{end}").read_bytes()
