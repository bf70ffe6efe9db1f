"""Near copies and folds: what is found, how even folds are, and how the cost grows with the number of images.

PYTHONPATH=src python benchmarks/folds.py [FOLDER OF PHOTOGRAPHS]

Without a folder, of the embedded sample alone. Times are processor time, in milliseconds for an image.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from segpipe.data.prepare.duplicates import SIDE, fingerprint, near_duplicates
from segpipe.data.prepare.folds import Labeled, draw_folds
from segpipe.data.sample.write import write_sample
from segpipe.data.source.coco import read_coco
from segpipe.data.source.images import decode_image
from segpipe.data.source.rasterize import rasterize
from segpipe.labels import build_class_table
from segpipe.params import SplitParams

COUNTS = (1_000, 5_000, 20_000)
RNG = np.random.default_rng(0)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """The image after JPEG."""
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def scaled(image: np.ndarray, factor: float) -> np.ndarray:
    """The image at another size."""
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=method)


def brighter(image: np.ndarray, factor: float, added: float = 0) -> np.ndarray:
    """The image lighter or darker, cut off at white and black."""
    return np.clip(image * float(factor) + added, 0, 255).round().astype(np.uint8)


def pasted(image: np.ndarray, area: float) -> np.ndarray:
    """The image with another part of itself put in a place of this share of its area: another scene."""
    changed, (height, width) = image.copy(), (round(side * area**0.5) for side in image.shape[:2])
    ys, xs = (RNG.integers(0, limit, 2) for limit in (image.shape[0] - height, image.shape[1] - width))
    changed[ys[0] : ys[0] + height, xs[0] : xs[0] + width] = image[ys[1] : ys[1] + height, xs[1] : xs[1] + width]
    return changed


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG of quality 30": lambda image: jpeg(image, 30),
    "JPEG of quality 95": lambda image: jpeg(image, 95),
    "half as large, area": lambda image: scaled(image, 0.5),
    "half as large, every second pixel": lambda image: image[::2, ::2],
    "twice as large": lambda image: scaled(image, 2),
    "brightness - 10 %": lambda image: brighter(image, 0.9),
    "brightness + 10 %": lambda image: brighter(image, 1.1),
    "25 grey levels darker": lambda image: brighter(image, 1, -25),
    "cropped by 1 pixel, top and left": lambda image: image[1:, 1:],
    "cropped by 2 pixels on all sides": lambda image: image[2:-2, 2:-2],
    "mirrored": lambda image: image[:, ::-1],
    "cropped by 2, + 10 %, half, quality 50": lambda image: jpeg(scaled(brighter(image[2:, 2:], 1.1), 0.5), 50),
    "another place of it, a 256th, pasted in": lambda image: pasted(image, 1 / 256),
    "another place of it, a 64th, pasted in": lambda image: pasted(image, 1 / 64),
    "another place of it, a 16th, pasted in": lambda image: pasted(image, 1 / 16),
}


def recall(title: str, images: list[np.ndarray]) -> list[bytes]:
    """Print which share of changed images is paired with its original; return the originals' fingerprints."""
    originals = [fingerprint(image) for image in images]
    pairs = near_duplicates(originals)
    print(f"{title}: {len(images)} images; pairs among them {len(pairs)} of {len(images) * (len(images) - 1) // 2}")
    for name, change in CHANGES.items():
        copies = [fingerprint(np.ascontiguousarray(change(image))) for image in images]
        found = set(near_duplicates([*originals, *copies]))
        print(f"  {name}: {sum((i, i + len(images)) in found for i in range(len(images))) / len(images):.3f}")
    return originals


def crops(images: list[np.ndarray], count: int) -> list[bytes]:
    """Fingerprints of places in the images, as many as asked for and all different."""
    prints = []
    for _ in range(count):
        image = images[RNG.integers(len(images))]
        height, width = (int(side * RNG.uniform(0.3, 0.7)) for side in image.shape[:2])
        top, left = RNG.integers(image.shape[0] - height), RNG.integers(image.shape[1] - width)
        prints.append(fingerprint(image[top : top + height, left : left + width]))
    return prints


def adversarial(base: bytes, count: int) -> dict[str, list[bytes]]:
    """Sets that could make a search compare all with all."""
    cells = np.frombuffer(base, np.uint8).reshape(SIDE, SIDE).astype(int)

    def moved() -> bytes:
        seen = cells.copy()
        top, left = RNG.integers(0, SIDE - 4, 2)
        seen[top : top + 4, left : left + 4] = RNG.integers(256)
        return seen.astype(np.uint8).tobytes()

    noisy = np.clip(cells + RNG.normal(0, 2, (count, SIDE, SIDE)), 0, 255).astype(np.uint8)
    return {
        "one picture": [base] * count,
        "one picture with noise": [one.tobytes() for one in noisy],
        "one color each": [bytes([i % 256]) * SIDE**2 for i in range(count)],
        "one background, an object elsewhere in each": [moved() for _ in range(count)],
        "noise alone": [RNG.integers(0, 256, SIDE**2, np.uint8).tobytes() for _ in range(count)],
    }


def timed(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def search_costs(images: list[np.ndarray]) -> None:
    """Print what fingerprints and the search cost for an image."""
    large = cv2.resize(images[0], (512, 512))
    print(f"fingerprint, 512 x 512 pixels: {timed(lambda: [fingerprint(large) for _ in range(500)]) * 2:.2f} ms")
    prints = crops(images, COUNTS[-1])
    for count in COUNTS:
        seconds = timed(lambda count=count: near_duplicates(prints[:count]))
        print(f"near_duplicates, {count} different places: {1000 * seconds / count:.3f} ms")
    for name, crowd in adversarial(prints[0], COUNTS[-1]).items():
        pairs: list = []
        seconds = timed(lambda crowd=crowd, pairs=pairs: pairs.extend(near_duplicates(crowd)))
        print(f"near_duplicates, {COUNTS[-1]} images, {name}: {1000 * seconds / COUNTS[-1]:.3f} ms, {len(pairs)} pairs")


def fold_costs() -> None:
    """Print what drawing five folds costs for an image."""
    for count in COUNTS:
        pixels = RNG.lognormal(5, 1, (count, 12)) * (RNG.random((count, 12)) < np.geomspace(1, 0.03, 12))
        names = [str(i) for i in range(count)]
        images = Labeled(names, ["train"] * count, names, names, pixels.astype(np.int64))
        print(f"draw_folds, {count} images: {1000 * timed(lambda images=images: draw(images, 0)) / count:.3f} ms")


def draw(images: Labeled, seed: int) -> np.ndarray:
    """(N,) the fold of each image, of five."""
    split = SplitParams.model_validate(
        {"folds": 5, "file": None, "train_folds": [0], "judge_fraction": 0.5, "group_by": None}
        | {"near_duplicates": True, "seed": seed}
    )
    return np.array([row.fold for row in draw_folds(images, split, own_judge=False)])


def evenness(file: Path, background: str) -> None:
    """Print how far folds are from equal shares of a file's classes, drawn with and without a look at them."""
    coco, _ = read_coco(file, file.parent, labeled=True, may_be_empty=False)
    assert coco is not None
    classes = build_class_table(coco.categories, background=background, order=None)
    counts = []
    for image in coco.images:
        annotations = coco.annotations_by_image.get(image.id, ())
        fill, size = 0 if background == "class" else 255, (image.height, image.width)
        target = rasterize(annotations, classes.class_index, *size, overlap="largest_class", fill=fill)
        counts.append(np.bincount(target.ravel(), minlength=256)[: classes.num_classes])
    pixels = np.array(counts)
    pixels = pixels[:, pixels.sum(axis=0) > 0]
    names = [image.file_name for image in coco.images]
    counted = Labeled(names, ["train"] * len(names), names, names, pixels)
    rarest = int(pixels.sum(axis=0).argmin())
    print(f"{file}: {len(names)} images; rarest class {pixels[:, rarest].sum() / pixels.sum():.2%} of the pixels")
    for title, images in (("drawn", Labeled.uncounted(names, counted.lists, names)), ("even", counted)):
        worst = np.array([deviations(pixels, draw(images, seed)) for seed in range(20)])
        of_rarest, of_all = worst[:, rarest], worst.max(axis=1)
        print(f"  {title}: largest deviation of a fold's pixels from their share, mean (worst) of 20 seeds:")
        print(f"    rarest class {of_rarest.mean():.3f} ({of_rarest.max():.3f})")
        print(f"    worst class {of_all.mean():.3f} ({of_all.max():.3f})")


def deviations(pixels: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """(num_classes,) largest relative deviation of a fold's pixels from a fifth of the class."""
    shares = np.array([pixels[fold == number].sum(axis=0) for number in range(5)]) / pixels.sum(axis=0)
    return np.abs(5 * shares - 1).max(axis=0)


def main() -> None:
    """Print all of it."""
    cv2.setNumThreads(1)
    photographs = sorted(Path(sys.argv[1]).rglob("*.jpg")) if len(sys.argv) > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "sample"
        write_sample(root, root / "judge", seed=2021, train=160, val=96, test=96, unlabeled=240, judge=1, size=256)
        drawn = [decode_image(path) for path in sorted(root.rglob("batch_0[1-4]*/*.jpg"))]
        recall("sample", drawn)
        evenness(root / "train_all.json", "class")
    seen = [decode_image(path) for path in photographs]
    if seen:
        recall(sys.argv[1], seen)
        for file in sorted(Path(sys.argv[1]).glob("train*.json")):
            evenness(file, "ignore")
    search_costs(drawn + seen)
    fold_costs()


if __name__ == "__main__":
    main()
