"""Score every candidate on judge images, choose, write the submission, and read it back."""

import argparse
from pathlib import Path

import pandas as pd

from segpipe.data.prepared import Prepared
from segpipe.ensemble.average import Ensemble, load_predictions
from segpipe.ensemble.decide import decide
from segpipe.libraries import SCORING, library_versions
from segpipe.metrics.confusion import mean_iou
from segpipe.params import stop_on
from segpipe.stage import open_stage, run_stage, write_json
from segpipe.strips import write_strips
from segpipe.submission.fit import fit_problems
from segpipe.submission.layout import layout_of
from segpipe.submission.sample import sample_of
from segpipe.submission.verify import verify_submission
from segpipe.submission.write import write_submission
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
    folds, root = params.split.train_folds, Path(params.data.root)
    prepared = Prepared(arguments.prepared, judge=True)
    test = [prepared.entries[index].file_name for index in prepared.sets["test"]]
    stop_on("the submission", fit_problems(params.submission, root, test, prepared.classes))
    layout = layout_of(params.submission, prepared.classes, sample_of(params.submission, root))
    predictions = load_predictions(arguments.predictions, params.member_names, folds)
    ensemble = Ensemble(prepared, predictions, folds)
    judged = [prepared.entries[index] for index in ensemble.judge_indices]
    decision = decide(ensemble, params)
    chosen, selection, groups = decision.chosen, decision.selection, decision.groups

    label_maps = ((prepared.entries[index].file_name, labels) for index, labels in ensemble.test_label_maps(chosen))
    verify_submission(arguments.out, layout, write_submission(arguments.out, layout, label_maps))

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
