"""What each rule of `ensemble.rule` costs in regret, simulated on labelled judge images.

Of the sample: the models of a finished run (`data/models`) predict the 300 images of `data/raw/sample_judge` and all of
`val`, once. Of any data set, with --finished: what the runs in these folders predicted of their own judge images; give
several runs, which differ in the seed. As often as asked some scenes are drawn for judging; each rule chooses on them,
and the other scenes say what the choice is worth: regret is the highest mIoU of any candidate there minus that of the
chosen one.

    PYTHONPATH=src python benchmarks/selection.py --work /tmp/selection
    PYTHONPATH=src python benchmarks/selection.py --judge 16 --finished RUN...  # `prepared`, `predictions` in each
"""

import argparse
import shutil
from collections import Counter
from pathlib import Path

import numpy as np

from segpipe.data.prepare.prepare import prepare
from segpipe.data.prepared import Prepared
from segpipe.ensemble.average import Ensemble, load_predictions
from segpipe.ensemble.candidates import ROUNDS
from segpipe.ensemble.decide import Decision, decide
from segpipe.ensemble.selection import choose, score_rows
from segpipe.inference.fold import Work, predict_fold
from segpipe.inference.predict import set_threads
from segpipe.metrics.confusion import pooled_miou
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
    work = Work("predict", prepared, indices, params.predict, params.train, out)
    predict_fold(work, model, params.submission.size)


def finished(params: Params, folder: Path) -> Ensemble:
    """A run's own judge images, as its models predicted them."""
    folds = params.split.train_folds
    stores = load_predictions(folder / "predictions", params.member_names, folds)
    return Ensemble(Prepared(folder / "prepared", judge=True), stores, folds)


def main() -> None:
    """Print the candidates' scores on all judge images, then a table of regret for each size of the judge part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--work", type=Path, help="the sample: folder for what is predicted")
    source.add_argument("--finished", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--judge", type=int, nargs="+", default=[24, 48, 96], help="scenes that judge")
    arguments = parser.parse_args()
    params = load_params()
    set_threads(params.train.threads)
    runs = [finished(params, folder) for folder in arguments.finished or []]
    decisions = [decide(run, params) for run in runs or [predicted(params, arguments.data, arguments.work)]]
    print_candidates(decisions)
    for number in arguments.judge:
        scenes = len(set(decisions[0].groups))
        print(f"\n{number} scenes judge, {arguments.splits} splits; regret in mIoU on the other {scenes - number}")
        print("| rule | mean | worst | chosen |\n|---|---|---|---|")
        found = [simulate(decision, params.member_names, number, arguments.splits) for decision in decisions]
        for rule in found[0]:
            regrets = [regret for each in found for regret in each[rule][0]]
            chosen = sum((each[rule][1] for each in found), Counter())
            often = ", ".join(f"{name} {times}" for name, times in chosen.most_common())
            print(f"| {rule} | {np.mean(regrets):.4f} | {max(regrets):.4f} | {often} |")


def print_candidates(decisions: list[Decision]) -> None:
    """A row for each candidate: in each run its mIoU and the difference to the reference, with 95 % intervals."""
    runs = range(len(decisions))
    print("| candidate |" + "".join(f" run {run}: mIoU | difference to the reference |" for run in runs))
    print("|---|" + "---|---|" * len(decisions))
    for rows in zip(*(decision.selection["candidates"] for decision in decisions), strict=True):
        cells = []
        for row in rows:
            difference = row["difference"]
            cells += [
                f"{row['miou']:.3f} ({row['low']:.3f} to {row['high']:.3f})",
                f"{difference['difference']:+.3f} ({difference['low']:+.3f} to {difference['high']:+.3f}), "
                f"{difference['verdict']}",
            ]
        print(f"| `{rows[0]['name']}` | " + " | ".join(cells) + " |")
    for run, decision in zip(runs, decisions, strict=True):
        told = {
            key: row[key] for row in decision.selection["candidates"] for key in ("weights", "cleaning") if key in row
        }
        print(f"run {run}: {told}")
        for rule in ("best", "tested"):
            print(f"run {run}, rule {rule}: {choose(rule, decision.selection['candidates'])[0]}")


def simulate(
    decision: Decision, member_names: tuple[str, ...], number: int, splits: int
) -> dict[str, tuple[list[float], Counter]]:
    """For each rule the regret in each split of the scenes, and how often it chose what.

    `highest` takes the highest score of all, fitted or not; `always NAME` looks at no score.
    """
    found: dict[str, tuple[list[float], Counter]] = {}
    candidates, confusions, groups = decision.candidates, decision.confusions, np.array(decision.groups)
    names = [each.name for each in candidates]
    scenes = np.unique(groups)
    for split in range(splits):
        drawn = np.random.default_rng(split).permutation(scenes)[:number]
        judge = np.isin(groups, drawn)
        rows = score_rows(candidates, {name: all_[judge] for name, all_ in confusions.items()}, groups[judge].tolist())
        truth = {name: pooled_miou(all_[~judge]) for name, all_ in confusions.items()}
        rules = {rule: choose(rule, rows)[0] for rule in ("best", "tested")}
        rules["highest"] = max(rows, key=lambda row: row["miou"])["name"]
        fixed = (f"baseline-{member_names[0]}", f"retrain-{member_names[0]}", "mean-all", "weighted", "cleaned")
        rules |= {f"always {name}": name for name in fixed if name in names}
        for rule, name in rules.items():
            regrets, chosen = found.setdefault(rule, ([], Counter()))
            regrets.append(max(truth.values()) - truth[name])
            chosen[name] += 1
    return found


if __name__ == "__main__":
    main()
