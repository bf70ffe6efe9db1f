"""The submission's writers against the usual code, and their memory by the number of images.

`pixels` against `' '.join(map(str, row))` for every image and a pandas frame written with to_csv; `rle` against the
usual notebook code, a mask and its differences for every class; both from the same label maps in memory to a file, in
turns. Label maps are noise brought to blobs (like predictions), and noise of single pixels (the worst case).

    PYTHONPATH=src python benchmarks/submission.py
"""

import multiprocessing
import resource
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from turns import seconds, spread

from segpipe.labels import ClassTable
from segpipe.params import RleParams
from segpipe.submission.layout import FILES, Format, Layout
from segpipe.submission.write import write_submission

SIDE, CLASSES, IMAGES, PASSES = 256, 12, 48, 9
FEW, MANY = 100, 2000  # images, for the memory
TABLE = ClassTable(
    tuple(f"class {i}" for i in range(CLASSES)), ((), *((f"c{i}",) for i in range(1, CLASSES))), ((0, 0, 0),) * CLASSES
)
RLE = RleParams(rows="image_class", id="{file_name}_{class}", columns=("ImageId_ClassId", "EncodedPixels"), classes=())


def layout(format_: Format) -> Layout:
    """A submission in one format."""
    masks = tuple(range(1, CLASSES))
    return Layout((format_,), None, TABLE, RLE, masks, palette=False, sample=None)


def label_map(number: int, blobs: bool) -> np.ndarray:
    """(SIDE, SIDE) uint8; with `blobs` the highest of CLASSES smooth fields decides, the background's raised."""
    rng = np.random.default_rng(number)
    if not blobs:
        return rng.integers(0, CLASSES, (SIDE, SIDE), np.uint8)
    fields = rng.standard_normal((8, 8, CLASSES)).astype(np.float32)
    fields[..., 0] += 1
    return cv2.resize(fields, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).argmax(-1).astype(np.uint8)


def usual_pixels(folder: Path, maps: list[np.ndarray]) -> None:
    """As notebooks do it, at their best: one frame at the end instead of one that grows row by row."""
    texts = [" ".join(map(str, labels.flatten().tolist())) for labels in maps]
    frame = pd.DataFrame({"image_id": [f"{i}.jpg" for i in range(len(maps))], "PredictionString": texts})
    frame.to_csv(folder / FILES["pixels"], index=False)


def usual_runs(folder: Path, maps: list[np.ndarray]) -> None:
    """The encoder that goes from one Kaggle notebook to the next, once for each class."""
    ids, texts = [], []
    for number, labels in enumerate(maps):
        for index in range(1, CLASSES):
            pixels = np.concatenate([[0], (labels == index).T.flatten(), [0]])
            runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
            runs[1::2] -= runs[::2]
            ids.append(f"{number}.jpg_{index}")
            texts.append(" ".join(str(value) for value in runs))
    pd.DataFrame({RLE.columns[0]: ids, RLE.columns[1]: texts}).to_csv(folder / FILES["rle"], index=False)


def compare(format_: Format, usual: Callable[[Path, list[np.ndarray]], None], maps: list[np.ndarray]) -> str:
    """The ratio of paired passes and our milliseconds an image; the files must be the same."""
    ratios, own = [], []
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = Path(folder, "usual"), Path(folder, "ours")
        theirs.mkdir()
        form = layout(format_)
        for _ in range(PASSES):
            slow = seconds(lambda: usual(theirs, maps))
            fast = seconds(lambda: write_submission(ours, form, ((f"{i}.jpg", m) for i, m in enumerate(maps))))
            ratios.append(slow / fast)
            own.append(1000 * fast / len(maps))
        assert (theirs / FILES[format_]).read_bytes() == (ours / FILES[format_]).read_bytes()
    return f"{spread(ratios, 1)} times as fast; {statistics.median(own):.2f} ms an image"


def private_memory(images: int, formats: tuple[Format, ...]) -> None:
    """Write so many images, and print the most memory that this process ever took, in MiB."""
    maps = [label_map(number, blobs=True) for number in range(8)]

    def made() -> Iterator[tuple[str, np.ndarray]]:
        for number in range(images):
            yield f"{number}.jpg", maps[number % len(maps)]

    with tempfile.TemporaryDirectory() as folder:
        form = layout("pixels")
        write_submission(Path(folder), Layout(formats, None, TABLE, form.rle, form.masks, False, None), made())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"memory at most, {', '.join(formats)}, {images} images: {peak:.1f} MiB", flush=True)


def main() -> None:
    """Print a line for each format and kind of label map, then the memory in processes of their own."""
    for kind, blobs in (("blobs", True), ("noise", False)):
        maps = [label_map(number, blobs) for number in range(IMAGES)]
        print(f"pixels, {kind}: {compare('pixels', usual_pixels, maps)}", flush=True)
        print(f"rle, {kind}: {compare('rle', usual_runs, maps)}", flush=True)
    few_classes = [np.minimum(label_map(number, blobs=True), 9) for number in range(IMAGES)]
    print(f"pixels, blobs of 10 classes: {compare('pixels', usual_pixels, few_classes)}", flush=True)
    context = multiprocessing.get_context("spawn")
    for images in (FEW, MANY):
        process = context.Process(target=private_memory, args=(images, ("pixels", "rle")))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
