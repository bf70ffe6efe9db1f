"""How much data params.yaml speaks of, from the best source at hand, and what the pipeline's outputs will weigh."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segpipe.data.fold_table import read_fold_rows
from segpipe.data.prepare.folds import Labeled, hold_out
from segpipe.data.prepared import Prepared
from segpipe.data.sample.scenes import KINDS
from segpipe.data.split import group_names, scored_folds
from segpipe.params import DataParams, Params, SplitParams
from segpipe.stage import read_json

PREPARED = Path("data/prepared")
SAMPLE_ROOT = "data/raw/sample"


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
    """From the prepared data where they fit params.yaml, else the COCO files, else, for the sample, its parameters.

    None when there is nothing to count, or the COCO files are not what `prepare` will accept.
    """
    if prepared_fits(params, prepared):
        return _from_prepared(prepared)
    if (Path(params.data.root) / params.data.train).is_file():
        try:
            return _from_coco(params)
        except (ValueError, KeyError, TypeError):
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
    file = Path(data.root) / data.train
    if file.is_file():
        try:
            names = [image["file_name"] for image in _images(file)]
            if split.folds is None and split.file is None:
                return len(names), str(file)
            return len(names) - _held_out(names, fold, params), str(file)
        except (KeyError, OSError, TypeError, ValueError) as error:
            raise ValueError(f"{file}: its images cannot be counted; `dvc repro prepare` says what is wrong") from error
    if data.root == SAMPLE_ROOT and data.val is not None:
        return params.sample.train, "section sample of params.yaml"
    raise ValueError(
        f"{file}: not found, and no prepared data fit params.yaml; see data.root, then `dvc repro prepare`"
    )


def _held_out(names: list[str], fold: int, params: Params) -> int:
    """How many of the training images a fold holds out, as a file says or drawn without a look at the classes."""
    data, split = params.data, params.split
    if split.file is not None:
        rows, _ = read_fold_rows(Path(data.root) / split.file)
        return sum(row.fold == fold for _, row in rows)
    images = Labeled.uncounted(names, ["train"] * len(names), group_names(names, split.group_by))
    return hold_out(images, split, own_judge=data.judge is not None).count(fold)


def prepared_fits(params: Params, prepared: Path) -> bool:
    """Whether finished prepared data are there, at the size and with the folds that params.yaml asks for."""
    if not all((prepared / name).is_file() for name in ("table.json", "classes.json", "folds.csv")):
        return False
    size = read_json(prepared / "table.json")["image_size"]
    rows, _ = read_fold_rows(prepared / "folds.csv")
    folds = len({row.fold for _, row in rows} - {None})
    expected = folds if params.split.file else params.split.folds or 1
    return size == _as_list(params.data.image_size) and folds == expected


def network_size(params: Params, extent: Extent) -> tuple[int, int]:
    """(height, width) in pixels of the images that the networks see."""
    return params.data.image_size or extent.native_size


def prepared_bytes(params: Params, extent: Extent) -> int:
    """Size of data/prepared: 3 bytes a pixel of every image, 1 of every target; compressed targets are left out."""
    height, width = network_size(params, extent)
    return height * width * (3 * extent.images + extent.labeled)


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


def _from_coco(params: Params) -> Extent:
    """Counts only; `prepare` is what checks these files."""
    data, root = params.data, Path(params.data.root)
    files = {name: _images(root / path) for name, path in _named_files(data) if path}
    categories = json.loads((root / data.train).read_text(encoding="utf-8")).get("categories", [])
    test = {image["file_name"] for image in files.get("test", [])}
    pool = {image["file_name"] for name, images in files.items() if name.startswith("pool") for image in images}
    labeled = [image for name in ("train", "val", "judge") for image in files.get(name, [])]
    held_out = len(files["val"]) if data.val else len(files["train"]) // _num_folds(params.split)
    judge = len(files["judge"]) if data.judge else round(held_out * params.split.judge_fraction)
    return Extent(
        source=f"the COCO files in {root}",
        labeled=len(labeled),
        test=len(test),
        unlabeled=len(pool - test),
        judge=judge,
        native_size=_mean_size([(image["height"], image["width"]) for image in labeled]),
        num_classes=len(categories) + (data.background == "class"),
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
        num_classes=len(KINDS) + (data.background == "class"),
    )


def _num_folds(split: SplitParams) -> int:
    """Of a file, which is not read here, those that are trained."""
    return split.folds or max(len(scored_folds(split.train_folds)), 1)


def _named_files(data: DataParams) -> list[tuple[str, str | None]]:
    named = [("train", data.train), ("val", data.val), ("judge", data.judge), ("test", data.test)]
    return named + [(f"pool {number}", path) for number, path in enumerate(data.unlabeled or ())]


def _images(file: Path) -> list[dict]:
    return json.loads(file.read_text(encoding="utf-8"))["images"] if file.is_file() else []


def _mean_size(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    height, width = np.rint(np.mean(sizes or [(1, 1)], axis=0)).astype(int).tolist()
    return height, width


def _as_list(size: tuple[int, int] | None) -> list[int] | None:
    return list(size) if size else None
