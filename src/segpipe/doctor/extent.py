"""How much data params.yaml speaks of, from the best source at hand, and what the pipeline's outputs will weigh."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segpipe.data.fold_table import num_folds, read_fold_rows
from segpipe.data.prepare.folds import Labeled, hold_out
from segpipe.data.prepare.pack import image_codec
from segpipe.data.prepared import Prepared
from segpipe.data.sample.scenes import KINDS
from segpipe.data.source.class_values import read_class_values
from segpipe.data.source.images import image_size
from segpipe.data.source.label_maps import list_pairs
from segpipe.data.source.lists import LABELED_SOURCES, SOURCES
from segpipe.data.split import group_names, scored_folds
from segpipe.params import DataParams, Params, SplitParams
from segpipe.stage import read_json

PREPARED = Path("data/prepared")
SAMPLE_ROOT = "data/raw/sample"
IMAGES_OPENED = 100  # of a list, to see how large they are


@dataclass(frozen=True)
class Extent:
    """Counts of images and their sizes in pixels. `source` says in words where they come from."""

    source: str
    labeled: int
    test: int
    unlabeled: int  # beside the test images
    judge: int  # labelled images that are predicted, in each fold
    native_size: tuple[int, int]  # height, width: the mean, where images differ
    num_classes: int

    @property
    def images(self) -> int:
        """All of them."""
        return self.labeled + self.test + self.unlabeled


def read_extent(params: Params, prepared: Path = PREPARED) -> Extent | None:
    """From the prepared data where they fit params.yaml, else its lists, else, for the sample, its parameters.

    None when there is nothing to count, or the lists are not what `prepare` will accept.
    """
    if prepared_fits(params, prepared):
        return _from_prepared(prepared)
    if all(file.exists() for file in _train_files(params.data)):
        try:
            return _from_lists(params)
        except (ValueError, KeyError, TypeError, OSError):
            return None  # `prepare` says what is wrong, at length
    return _from_sample(params) if params.data.root == SAMPLE_ROOT else None


def training_images(params: Params, fold: int, prepared: Path = PREPARED) -> tuple[int, str]:
    """How many labelled images a model of `fold` trains on, and in words where that comes from.

    From the same sources as `read_extent`; where `prepare` has not run, images that it would leave out count, and folds
    whose sizes cannot be equal may be a little larger or smaller. Raises ValueError where none can be counted.
    """
    if prepared_fits(params, prepared):
        return len(Prepared(prepared, fold=fold).folds[fold].train), str(prepared)
    data, split = params.data, params.split
    files = _train_files(data)
    said = ", ".join(str(file) for file in files)
    if all(file.exists() for file in files):
        try:
            names = [name for file in files for name, _ in _images(file, data, labeled=True)]
            if split.folds is None and split.file is None:
                return len(names), said
            return len(names) - _held_out(names, fold, params), said
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise ValueError(f"{said}: images cannot be counted; `dvc repro prepare` says what is wrong") from error
    if data.root == SAMPLE_ROOT and data.val:
        return params.sample.train, "section sample of params.yaml"
    raise ValueError(
        f"{said}: not found, and no prepared data fit params.yaml; see data.root, then `dvc repro prepare`"
    )


def _held_out(names: list[str], fold: int, params: Params) -> int:
    """How many of the training images a fold holds out, as a file says or drawn without a look at the classes."""
    data, split = params.data, params.split
    if split.file is not None:
        rows, _ = read_fold_rows(Path(data.root) / split.file)
        return sum(row.fold == fold for _, row in rows)
    images = Labeled.uncounted(names, ["train"] * len(names), group_names(names, split.group_by))
    return hold_out(images, split, own_judge=bool(data.judge)).count(fold)


def prepared_fits(params: Params, prepared: Path) -> bool:
    """Whether finished prepared data are there, at the size and with the folds that params.yaml asks for."""
    if not all((prepared / name).is_file() for name in ("table.json", "classes.json", "folds.csv")):
        return False
    table = read_json(prepared / "table.json")
    sized = (table["image_size"], table.get("resize")) == (_as_list(params.data.image_size), params.data.resize)
    rows, _ = read_fold_rows(prepared / "folds.csv")
    folds = num_folds(row for _, row in rows)
    expected = folds if params.split.file else params.split.folds or 1
    return sized and folds == expected


def network_size(params: Params, extent: Extent) -> tuple[int, int]:
    """(height, width) in pixels of the images that the networks see."""
    return params.data.image_size or extent.native_size


def prepared_bytes(params: Params, extent: Extent) -> int:
    """Size of data/prepared: 3 bytes a pixel of every image, or 1 at most as JPEG; targets are small beside them."""
    height, width = network_size(params, extent)
    codec = image_codec(params.data, [extent.native_size] * extent.images)
    return height * width * extent.images * (3 if codec == "raw" else 1)


def prediction_bytes(params: Params, extent: Extent) -> int:
    """Size of data/predictions: for each model of both rounds one byte for every class and pixel of judge and test."""
    sizes = network_size(params, extent), params.submission.size or extent.native_size
    pixels = min(height * width for height, width in sizes)
    folds = params.split.train_folds
    images = len(folds) * extent.test + len(scored_folds(folds)) * extent.judge
    return 2 * len(params.member_names) * images * pixels * extent.num_classes


def _from_prepared(path: Path) -> Extent:
    prepared = Prepared(path, fold=0)
    sets, judged = prepared.sets, prepared.folds[0].judge
    sizes = [(entry.height, entry.width) for entry in prepared.entries]
    return Extent(
        source=str(path),
        labeled=len({*sets["labeled"], *sets["judge"]}),
        test=len(sets["test"]),
        unlabeled=len({*sets["unlabeled"]} - {*sets["test"]}),
        judge=len(judged),
        native_size=_mean_size(sizes),
        num_classes=prepared.classes.num_classes,
    )


def _from_lists(params: Params) -> Extent:
    """Counts only; `prepare` is what checks these files."""
    data, root = params.data, Path(params.data.root)
    images = {
        source: [
            image
            for name in getattr(data, source) or ()
            for image in _images(root / name, data, labeled=source in LABELED_SOURCES)
        ]
        for source in SOURCES
    }
    test, pool = ({name for name, _ in images[source]} for source in ("test", "unlabeled"))
    labeled = [image for source in LABELED_SOURCES for image in images[source]]
    if not (sizes := [size for _, size in labeled if size]):
        raise ValueError("no labelled image has a size")
    held_out = len(images["val"]) if data.val else len(images["train"]) // _num_folds(params.split)
    judge = len(images["judge"]) if data.judge else round(held_out * params.split.judge_fraction)
    return Extent(
        source=f"the COCO files in {root}" if data.format == "coco" else f"the label maps in {root}",
        labeled=len(labeled),
        test=len(test),
        unlabeled=len(pool - test),
        judge=judge,
        native_size=_mean_size(sizes),
        num_classes=_num_classes(data, _categories(data)),
    )


def _from_sample(params: Params) -> Extent:
    sample, data = params.sample, params.data
    held_out = sample.val if data.val else sample.train // _num_folds(params.split)
    return Extent(
        source="section sample of params.yaml",
        labeled=sample.train + (sample.val if data.val else 0),
        test=sample.test,
        unlabeled=sample.unlabeled,
        judge=round(held_out * params.split.judge_fraction),
        native_size=(sample.size, sample.size),
        num_classes=_num_classes(data, {kind.name for kind in KINDS}),
    )


def _num_folds(split: SplitParams) -> int:
    """Of a file, which is not read here, those that are trained."""
    return split.folds or max(len(scored_folds(split.train_folds)), 1)


def _train_files(data: DataParams) -> list[Path]:
    return [Path(data.root) / name for name in data.train]


def _num_classes(data: DataParams, categories: set[str]) -> int:
    """As many as data.classes lists, or as `categories` are that data.drop and data.ignore do not name."""
    classes = categories - {*data.drop, *data.ignore} if data.classes is None else data.classes
    return len(classes) + (data.background == "class")


def _categories(data: DataParams) -> set[str]:
    """The names of the training lists' categories."""
    if data.format == "png":
        return {category.name for category in read_class_values(Path(data.root))[0]}
    listed = [json.loads(file.read_text(encoding="utf-8")).get("categories", []) for file in _train_files(data)]
    return {category["name"] for categories in listed for category in categories}


def _images(file: Path, data: DataParams, *, labeled: bool) -> list[tuple[str, tuple[int, int] | None]]:
    """Names of the images in a list and (height, width); for label maps only of some, since it takes opening them."""
    if data.format == "coco":
        images = json.loads(file.read_text(encoding="utf-8"))["images"] if file.is_file() else []
        sides = ("height", "width")
        return [(i["file_name"], tuple(map(i.get, sides)) if i.keys() >= {*sides} else None) for i in images]
    root = Path(data.root)
    names = [pair.image for pair in list_pairs(file, root, labeled=labeled) if pair.image] if file.exists() else []
    step = max(len(names) // IMAGES_OPENED, 1)
    return [(name, None if place % step else image_size(root / name, name)) for place, name in enumerate(names)]


def _mean_size(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    height, width = np.rint(np.mean(sizes or [(1, 1)], axis=0)).astype(int).tolist()
    return height, width


def _as_list(size: tuple[int, int] | None) -> list[int] | None:
    return list(size) if size else None
