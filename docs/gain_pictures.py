"""Draw what a pool gives: mIoU over updates, and a few judge images as each arm sees them.

Of the claims `pool_headroom` and `pseudo_gain_of_three` of a folder of claims, from the models that
`stages/claim_run.py --keep KEPT` has left of their runs (docs/pseudo-labels.md has the commands):

    PYTHONPATH=src python docs/gain_pictures.py claims --models KEPT     # docs/pseudo-gain-claims.svg, .jpg and .csv
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.claims.load import load_plan
from segpipe.claims.plan import Plan, RunSpec
from segpipe.claims.run import FOLD
from segpipe.data.prepared import Prepared
from segpipe.drawing import encode_jpeg, fit_image, label_overlay, shown_size
from segpipe.metrics.confusion import pooled_miou
from segpipe.models.checkpoint import STAGES_OF_TRAINING, load_segmenter
from segpipe.report.charts import Line, line_chart
from segpipe.strips import strip
from segpipe.training.evaluate import Tune, evaluate

ARMS = {"few_labels": "few labels", "student_of_three": "and pseudo labels", "all_labels": "all labels"}
NUM_EXAMPLES, SIDE = 5, 176  # images; pixels of the longer side of a picture
COLORS = ("#0067a8", "#c04f00", "#00805c")


def main() -> None:
    """Score every kept model on judge images; write table, chart and examples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("claims", type=Path)
    parser.add_argument("--models", type=Path, required=True, help="what stages/claim_run.py was given as --keep")
    arguments = parser.parse_args()
    plan = load_plan(arguments.claims)
    out = Path("docs") / f"pseudo-gain-{plan.folder.path.name}"
    rows, pictures = [], {}
    for arm, run in runs_of(plan):
        prepared = Prepared(Path(plan.folder.prepared(run.dataset)), judge=True)
        judge = Tune(prepared, prepared.folds[FOLD].judge, plan.run_params(run).submission.size)
        for updates, folder, weights in moments(plan, run, arguments.models / run.key):
            last = weights == STAGES_OF_TRAINING[-1]
            segmenter, _ = load_segmenter(folder, weights=weights)
            confusions, examples = evaluate(segmenter, judge, show=NUM_EXAMPLES, label=f"{run.key} {weights}")
            rows.append({"arm": arm, "seed": run.seed, "updates": updates, "miou": round(pooled_miou(confusions), 6)})
            if last and run.seed == 0:  # of a student the second round's, which comes later
                pictures[arm] = (examples, prepared.classes)
    table = pd.DataFrame(rows)
    table.to_csv(out.with_suffix(".csv"), index=False)
    out.with_suffix(".svg").write_text(chart(table), encoding="utf-8")
    out.with_suffix(".jpg").write_bytes(encode_jpeg(sheet(pictures)))


def runs_of(plan: Plan) -> Iterator[tuple[str, RunSpec]]:
    """The arms' runs, all seeds."""
    claim = plan.claims["pseudo_gain_of_three"]
    for arm in ARMS:
        yield from ((arm, plan.run_of(claim, arm, seed)) for seed in claim.seeds)


def moments(plan: Plan, run: RunSpec, kept: Path) -> Iterator[tuple[int, Path, str]]:
    """(updates, model folder, weights) at each third of each round; updates as the run's result counts them."""
    train = Prepared(Path(plan.folder.prepared(run.dataset)), fold=FOLD).folds[FOLD].train
    params = plan.run_params(run)
    per_epoch = len(train) // params.train.batch_size
    rounds = {"baseline": params.train.epochs}
    if plan.is_retrained(run):
        rounds["retrain"] = params.retrain.epochs
    done = 0
    for name, epochs in rounds.items():
        for third, weights in enumerate(STAGES_OF_TRAINING, start=1):
            yield done + round(epochs * third / 3) * per_epoch, kept / name, weights
        done += epochs * per_epoch


def chart(table: pd.DataFrame) -> str:
    """A picture of its own: the mean over seeds of each arm, its last value marked."""
    lines = []
    for arm, name in ARMS.items():
        means = table[table["arm"] == arm].groupby("updates")["miou"].mean()
        lines.append(Line(name, list(means.index), list(means), marked=means.index[-1]))
    svg = re.search(r"<svg.*</svg>", str(line_chart("mIoU on judge images", lines, "gain", "updates")), re.DOTALL)[0]
    legend = "".join(
        f'<text x="{62 + 110 * number}" y="9" style="fill:{color}">{name}</text>'
        for number, (name, color) in enumerate(zip(ARMS.values(), COLORS, strict=True))
    )
    colors = "".join(f"--c{number}:{color};" for number, color in enumerate(COLORS))
    style = (
        f"<style>svg{{{colors}background:#fff;font:11px sans-serif}}.line{{fill:none;stroke-width:2}}"
        ".grid{stroke:#ddd}.base{stroke:#555}</style>"
    )
    opened = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" width="570" height="354" ', 1)
    return opened.replace(">", f">{style}{legend}", 1)


def sheet(pictures: dict[str, tuple[list, object]]) -> np.ndarray:
    """(H, W, 3) uint8: one row an image: photograph, truth, what each arm's network of seed 0 says."""
    strips = []
    for shown in zip(*(examples for examples, _ in pictures.values()), strict=True):
        first, classes = shown[0], next(iter(pictures.values()))[1]
        image = fit_image(first.image, shown_size(first.image.shape[:2], SIDE))
        row = {"image": image, "truth": label_overlay(image, first.target, classes)}
        for arm, example in zip(pictures, shown, strict=True):
            row[ARMS[arm]] = label_overlay(image, example.preds, classes)
        strips.append(strip(row))
    return np.vstack(strips)


if __name__ == "__main__":
    main()
