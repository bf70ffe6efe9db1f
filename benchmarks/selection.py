"""What each rule of `ensemble.rule` costs in regret, simulated on the labelled judge images of the sample.

The models of a finished run (`data/models`) predict the 300 images of `data/raw/sample_judge` and all of `val`, once.
Then, as often as asked, a few of the 300 are drawn for judging; each rule chooses on them, and the remaining images say
what the choice is worth: regret is the highest mIoU of any candidate there minus that of the chosen one.

PYTHONPATH=src python benchmarks/selection.py --data data --work /tmp/selection
"""

import argparse
import shutil
from collections import Counter
from pathlib import Path

import numpy as np

from segpipe.data.prepare.prepare import prepare
from segpipe.data.prepared import Prepared
from segpipe.ensemble.average import Ensemble, load_predictions
from segpipe.ensemble.candidates import ROUNDS, Candidate
from segpipe.ensemble.decide import decide
from segpipe.ensemble.selection import choose, score_rows
from segpipe.inference.predict import predict_probs, set_threads
from segpipe.inference.probs import PredictionWriter
from segpipe.metrics.confusion import pooled_miou
from segpipe.models.checkpoint import load_segmenter
from segpipe.params import Params, load_params

FOLD = 0


def predicted(params: Params, data: Path, work: Path) -> Ensemble:
    """The sample with its 300 judge images, and every model's predictions of them; kept in `work` for the next call."""
    root = work / "raw"
    if not root.is_dir():
        # linked as they lie in the project: judge.json names files of its own folder
        shutil.copytree(data / "raw/sample", root)
        shutil.copytree(data / "raw/sample_judge", root, dirs_exist_ok=True)
    if not (work / "prepared").is_dir():
        settings = params.data.model_copy(
            update={"root": str(root), "judge": ("judge.json",), "test": None, "unlabeled": ()}
        )
        prepare(settings, params.split, work / "prepared")
    prepared = Prepared(work / "prepared", judge=True)
    indices = [*prepared.folds[FOLD].judge, *prepared.folds[FOLD].tune]
    for round_ in ROUNDS:
        for member in params.member_names:
            out = work / "predictions" / f"{round_}-{member}-{FOLD}"
            if not (out / "card.json").is_file():
                predict(params, prepared, indices, data / "models" / round_ / f"{member}-{FOLD}", out)
    stores = load_predictions(work / "predictions", params.member_names, (FOLD,))
    return Ensemble(prepared, stores, (FOLD,))


def predict(params: Params, prepared: Prepared, indices: list[int], model: Path, out: Path) -> None:
    """As stages/predict.py."""
    segmenter, card = load_segmenter(model)
    with PredictionWriter(out, str(model), list(card.classes.names), params.submission.size) as writer:
        flips, size = params.predict.flips, prepared.image_size
        for index, probs, _ in predict_probs(
            [segmenter], prepared.images, indices, padded_to=size, flips=flips, label=model.name
        ):
            writer.add(index, probs, (prepared.entries[index].height, prepared.entries[index].width))
        writer.finish(card.lineage, card.libraries)


def main() -> None:
    """Print the candidates' scores on all 300 images, then a table of regret for each size of the judge part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--judge", type=int, nargs="+", default=[24, 48, 96])
    arguments = parser.parse_args()
    params = load_params()
    set_threads(params.train.threads)
    decision = decide(predicted(params, arguments.data, arguments.work), params)
    for row in decision.selection["candidates"]:
        against, fitted = row["difference"], {key: row[key] for key in ("weights", "cleaning") if key in row}
        interval = f"({against['low']:+.4f} to {against['high']:+.4f}), p {against['p_holm']:.4f}"
        print(f"{row['name']:16} {row['miou']:.4f}  {against['difference']:+.4f} {interval} {fitted or ''}")
    for number in arguments.judge:
        print(f"\n{number} judge images, {arguments.splits} splits; regret in mIoU on the other {300 - number}")
        print("| rule | mean | worst | chosen |\n|---|---|---|---|")
        for rule, (regrets, chosen) in simulate(
            decision.candidates, decision.confusions, number, arguments.splits
        ).items():
            often = ", ".join(f"{name} {times}" for name, times in chosen.most_common())
            print(f"| {rule} | {np.mean(regrets):.4f} | {max(regrets):.4f} | {often} |")


def simulate(
    candidates: list[Candidate], confusions: dict[str, np.ndarray], number: int, splits: int
) -> dict[str, tuple[list[float], Counter]]:
    """For each rule the regret in each split, and how often it chose what.

    `highest` takes the highest score of all, fitted or not; `always NAME` looks at no score.
    """
    found: dict[str, tuple[list[float], Counter]] = {}
    total = len(confusions[candidates[0].name])
    for split in range(splits):
        order = np.random.default_rng(split).permutation(total)
        judge, rest = np.sort(order[:number]), np.sort(order[number:])
        rows = score_rows(candidates, {name: all_[judge] for name, all_ in confusions.items()}, judge.tolist())
        truth = {name: pooled_miou(all_[rest]) for name, all_ in confusions.items()}
        rules = {rule: choose(rule, rows)[0] for rule in ("best", "tested")}
        rules["highest"] = max(rows, key=lambda row: row["miou"])["name"]
        rules |= {f"always {name}": name for name in ("baseline-main", "mean-all", "weighted", "cleaned")}
        for rule, name in rules.items():
            regrets, chosen = found.setdefault(rule, ([], Counter()))
            regrets.append(max(truth.values()) - truth[name])
            chosen[name] += 1
    return found


if __name__ == "__main__":
    main()
