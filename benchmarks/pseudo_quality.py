"""Are pseudo labels as precise as the quality report expects? Checked where the pool's truth is known.

A finished project (its params.yaml, data/prepared, data/taught) is read, never written. For its own section
`pseudo_label` and for others side by side: expected and actual precision, coverage, and how much of each class is
found; for its own by class; and whether the images that are called reliable are the better ones.

    PYTHONPATH=src python benchmarks/pseudo_quality.py . --sample              # the embedded sample: its truth is drawn
    PYTHONPATH=src python benchmarks/pseudo_quality.py CAMVID --truth labeled_266.json   # with the truth in a COCO file

Images of the pool that the file does not list are left out of everything.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from segpipe.data.prepared import Prepared
from segpipe.data.pseudo_labels import PseudoLabels
from segpipe.data.resize import resize_labels
from segpipe.data.sample.write import truth_of
from segpipe.data.source.coco import read_coco
from segpipe.data.source.lists import Source, list_sources
from segpipe.data.source.target import target_of
from segpipe.data.split import fold_name
from segpipe.data.store import PackedWriter
from segpipe.labels import IGNORE_INDEX
from segpipe.metrics.confusion import confusion_matrix, mean_iou
from segpipe.params import DataParams, Params, PseudoLabelParams, load_params
from segpipe.pseudo.labels import Made, make_pseudo_labels
from segpipe.pseudo.reliability import SIGNS
from segpipe.pseudo.taught import Taught
from segpipe.stage import write_json

Targets = dict[int, np.ndarray]  # by index of the image table, at the size of the labels


def main() -> None:
    """Print the three tables; with `--out` also write them as CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--fold", type=fold_name, default=0)
    parser.add_argument("--truth", type=Path, help="COCO file that lists the pool's images with annotations")
    parser.add_argument("--sample", action="store_true", help="draw the truth of the embedded sample's pool")
    parser.add_argument("--out", type=Path, help="folder for the tables")
    arguments = parser.parse_args()
    if not arguments.sample and (arguments.truth is None or not arguments.truth.is_file()):
        print(f"skipped: the pool's truth is not at {arguments.truth}; give --truth FILE or --sample")
        return
    params = load_params(arguments.project / "params.yaml")
    prepared = Prepared(arguments.project / "data/prepared", fold=arguments.fold)
    folder = arguments.project / "data/taught" / str(arguments.fold)
    targets = read_targets(prepared, params, None if arguments.sample else arguments.truth)
    print(f"{len(targets)} images of the pool with known truth, of {len(prepared.pool())}", flush=True)
    tables = {}
    with tempfile.TemporaryDirectory() as work:
        rows, own = [], None
        folder = taught_of_known(Taught(folder), targets, Path(work) / "taught")
        for name, section in settings(params.pseudo_label):
            made = make_pseudo_labels(prepared, arguments.fold, folder, section, Path(work) / name)
            counted = count(prepared, PseudoLabels(Path(work) / name), targets)
            rows.append({"setting": name} | compared(made, counted))
            own = own or (made, counted)
        made, counted = own
        tables["settings"], tables["classes"] = pd.DataFrame(rows), by_class(prepared, made, counted)
        tables["images"] = signs(prepared, Taught(folder), made, targets)
    for name, table in tables.items():
        print(f"\n{name}\n{table.to_string(index=False, float_format='{:.3f}'.format)}")
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            table.to_csv(arguments.out / f"{name}.csv", index=False)


def settings(own: PseudoLabelParams) -> Iterator[tuple[str, PseudoLabelParams]]:
    """The project's own section, then each kind of threshold at a few values, then the more reliable half."""
    yield "own", own
    for key, threshold, values in (
        ("confidence", "fixed", (0.5, 0.6, 0.7, 0.8, 0.9)),
        ("target_precision", "per_class", (0.8, 0.9, 0.95)),
        ("fraction", "top_fraction", (0.2, 0.4, 0.6, 0.8)),
    ):
        for value in values:
            yield f"{threshold} {value}", own.model_copy(update={"threshold": threshold, key: value, "keep": 1.0})
    yield "own, keep 0.5", own.model_copy(update={"keep": 0.5})


def read_targets(prepared: Prepared, params: Params, truth: Path | None) -> Targets:
    """True label maps of the pool; of the sample, drawn, where no file is given. ValueError where none is known."""
    with tempfile.TemporaryDirectory() as work:
        if truth is None:
            sample, truth = params.sample, Path(work) / "truth.json"
            write_json(truth, truth_of("unlabeled", seed=sample.seed, count=sample.unlabeled, size=sample.size))
        file, problems = read_coco(truth, Path(params.data.root), labeled=True)
    if file is None or problems:
        raise ValueError("\n".join(map(str, problems)))
    sources = {source.record.file_name: source for source in list_sources({"judge": [file]})}
    wanted = {prepared.entries[index].file_name: index for index in prepared.pool()}
    if not wanted.keys() & sources.keys():
        raise ValueError(f"{truth}: lists no image of the pool, such as {next(iter(wanted), 'none')}")
    known = {name: index for name, index in wanted.items() if name in sources}
    return {index: _target(prepared, params.data, sources[name], index) for name, index in known.items()}


def taught_of_known(taught: Taught, targets: Targets, out: Path) -> Path:
    """The teachers' answers for images whose truth is known, and for tune images, in a folder of their own."""
    pool = [index for index in taught.pool if index in targets]
    indices = [*pool, *taught.tune]
    with PackedWriter(out / "classes") as classes, PackedWriter(out / "confidence") as confidences:
        for predicted, confidence in map(taught.answer, indices):
            classes.add(predicted)
            confidences.add(confidence)
    taught.images.loc[indices].to_csv(out / "images.csv", errors="surrogatepass")
    card = {"teachers": taught.teachers, "pool": pool, "tune": list(taught.tune)}
    write_json(out / "card.json", card | {"lineage": taught.lineage.to_json()})
    return out


def _target(prepared: Prepared, data: DataParams, source: Source, index: int) -> np.ndarray:
    fill = 0 if data.background == "class" else IGNORE_INDEX
    native = target_of(source, Path(data.root), prepared.classes, overlap=data.overlap, fill=fill)
    return resize_labels(native, prepared.images.shape(index)[:2])


def count(prepared: Prepared, pseudo: PseudoLabels, targets: Targets) -> dict[str, np.ndarray]:
    """(C,) pixels of each class over the pool: kept, right (both where the truth is known), and true ones."""
    size = prepared.classes.num_classes
    found = {"kept": np.zeros(256, np.int64), "right": np.zeros(256, np.int64), "true": np.zeros(256, np.int64)}
    for target in targets.values():
        found["true"] += np.bincount(target.ravel(), minlength=256)
    for position, index in enumerate(pseudo.indices):
        label, target = pseudo.labels[position], targets[index]
        label = label[target != IGNORE_INDEX]
        found["kept"] += np.bincount(label, minlength=256)
        found["right"] += np.bincount(label[label == target[target != IGNORE_INDEX]], minlength=256)
    return {name: counts[:size] for name, counts in found.items()}


def compared(made: Made, counted: dict[str, np.ndarray]) -> dict[str, float]:
    """One row: what was expected, what is, and what the labels hold."""
    kept, right, true = (counted[name] for name in ("kept", "right", "true"))
    expected, actual = made.summary["expected_precision"], right.sum() / max(kept.sum(), 1)
    recalls = right[true > 0] / true[true > 0]
    shares = kept / max(kept.sum(), 1), true / true.sum()
    return {
        "kept": made.share_kept,
        "expected": expected,
        "actual": actual,
        "difference": expected - actual,
        "class_precision": float(np.mean(right[kept > 0] / kept[kept > 0])) if kept.any() else np.nan,
        "class_recall": float(np.mean(recalls)),
        "classes": int((recalls > 0.01).sum()),
        "shift": np.abs(shares[0] - shares[1]).sum() / 2,
    }


def by_class(prepared: Prepared, made: Made, counted: dict[str, np.ndarray]) -> pd.DataFrame:
    """Expected and actual precision of each class by the project's own section."""
    table = made.quality[["class", "pixels_kept", "expected_precision", "tune_precision", "tune_precision_low"]].copy()
    kept, right, true = (counted[name] for name in ("kept", "right", "true"))
    table["actual_precision"] = np.divide(right, kept, out=np.full(len(kept), np.nan), where=kept > 0)
    table["difference"] = table["expected_precision"] - table["actual_precision"]
    table["recall"] = np.divide(right, true, out=np.full(len(true), np.nan), where=true > 0)
    return table.assign(tune_scenes=made.quality["tune_scenes"])


def signs(prepared: Prepared, taught: Taught, made: Made, targets: Targets) -> pd.DataFrame:
    """Spearman's rank correlation of each sign with what is true of an image, and what the better half by it holds."""
    rows = []
    num_classes = prepared.classes.num_classes
    truth = {}
    for index, target in targets.items():
        preds = taught.answer(index)[0]
        matrix = confusion_matrix(preds, target, num_classes)
        truth[prepared.entries[index].file_name] = (np.trace(matrix) / max(matrix.sum(), 1), mean_iou(matrix))
    accuracy, miou = np.array([truth[name] for name in made.images["image"]]).T
    for sign in (*SIGNS, "reliability"):
        values = made.images[sign].to_numpy()
        if np.isnan(values).any() or len(set(values)) < 2:
            continue
        better = values >= np.median(values)
        rows.append(
            {
                "sign": sign,
                "rank_correlation_accuracy": spearmanr(values, accuracy).statistic,
                "rank_correlation_miou": spearmanr(values, miou).statistic,
                "accuracy_better_half": accuracy[better].mean(),
                "accuracy_other_half": accuracy[~better].mean(),
            }
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
