"""Score every candidate on judge images, choose, write the submission, and read it back."""

import argparse
from pathlib import Path

import pandas as pd

from segpipe.data.prepared import Prepared
from segpipe.ensemble.average import Ensemble, load_predictions
from segpipe.ensemble.decide import decide
from segpipe.libraries import SCORING, library_versions
from segpipe.metrics.confusion import mean_iou
from segpipe.stage import open_stage, run_stage, write_json
from segpipe.strips import write_strips
from segpipe.submission import check_submission, write_submission
from segpipe.tables import write_confusion, write_iou
from segpipe.wire import check_wired


def main() -> None:
    """All predictions in; submission, selection, the headline score and its plots out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--predictions", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--plots", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    arguments = parser.parse_args()
    params = open_stage(__file__)
    check_wired(params)
    folds, formats = params.split.train_folds, params.submission.formats
    prepared = Prepared(arguments.prepared, judge=True)
    predictions = load_predictions(arguments.predictions, params.member_names, folds)
    ensemble = Ensemble(prepared, predictions, folds)
    judged = [prepared.entries[index] for index in ensemble.judge_indices]
    decision = decide(ensemble, params)
    chosen, selection, groups = decision.chosen, decision.selection, decision.groups

    test = [prepared.entries[index] for index in prepared.sets["test"]]
    label_maps = ((prepared.entries[index].file_name, labels) for index, labels in ensemble.test_label_maps(chosen))
    write_submission(arguments.out, formats, label_maps, prepared.classes)
    expected = [(entry.file_name, params.submission.size or (entry.height, entry.width)) for entry in test]
    check_submission(arguments.out, formats, expected, prepared.classes.num_classes)

    said = ensemble.provenance() | {"libraries": library_versions(SCORING)}
    write_json(arguments.out / "selection.json", selection | said)
    columns = ["name", "miou", "low", "high"]
    arguments.plots.mkdir(parents=True, exist_ok=True)
    rows = pd.DataFrame(selection["candidates"]).reindex(columns=columns)
    rows.to_csv(arguments.plots / "candidates.csv", index=False)
    write_strips(ensemble, chosen, arguments.images)
    if not judged:  # `all` alone: a submission without a score
        write_json(arguments.metrics, {})
        return
    own = decision.confusions[chosen.name]
    write_iou(own, groups, prepared.classes, arguments.plots / "iou.csv")
    write_confusion(own.sum(axis=0), prepared.classes.names, arguments.plots / "confusion.csv")
    per_image = {
        "file_name": [entry.file_name for entry in judged],
        "group": groups,
        "miou": [mean_iou(m) for m in own],
    }
    pd.DataFrame(per_image).to_csv(arguments.plots / "per_image.csv", index=False)
    headline = next(row for row in selection["candidates"] if row["name"] == chosen.name)
    write_json(arguments.metrics, {"miou": headline["miou"]})


if __name__ == "__main__":
    run_stage(main)
