"""One arm, one seed: trained for its number of updates and scored with its last weights. Nothing is chosen.

Where an arm asks for a second round, the baseline of the first labels the pool as the stages `teach` and `pseudo_label`
would, with the weights that its only scoring keeps: the last.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from segpipe.claims.plan import Plan, RunSpec
from segpipe.claims.results import Result, write_result
from segpipe.claims.wiring import DRAWN
from segpipe.data.paste import class_problems
from segpipe.data.prepared import Prepared
from segpipe.data.pseudo_labels import PseudoLabels
from segpipe.data.sample.scenes import KINDS
from segpipe.data.soft_labels import SoftLabels
from segpipe.data.source.records import Category
from segpipe.inference.fold import Work
from segpipe.inference.teach import teach
from segpipe.labels import build_class_table
from segpipe.models.checkpoint import load_segmenter
from segpipe.params import DataParams, Params, stop_on
from segpipe.pseudo.labels import make_pseudo_labels
from segpipe.training.check import check_members
from segpipe.training.evaluate import Tune, evaluate
from segpipe.training.job import Job
from segpipe.training.member import train_member
from segpipe.training.tracking.tracker import Tracker, describe_run

FOLD = 0
TEACHER_SEEDS = 1000  # between the seeds of a run's teachers: no two runs of a claim share one


def check_arms(plan: Plan) -> None:
    """Raise ValueError for every arm with a name that no library knows: a typo must not wait for its own run.

    The names of classes are held against the embedded sample, whose own are known; those of other data sets are not.
    """
    problems = []
    for arm in {run.arm: run for run in plan.runs.values()}.values():
        try:
            check_members(plan.run_params(arm))
        except ValueError as error:
            problems += [f"arms.{arm.arm}: {line.strip()}" for line in str(error).splitlines()[1:]]
    for dataset in plan.used_datasets:
        if (data := plan.dataset_params(dataset).data).root == DRAWN:
            arms = {run.arm: run for run in plan.runs.values() if run.dataset == dataset}
            problems += _class_problems(plan, arms, data)
    stop_on(str(plan.folder.claims), list(dict.fromkeys(problems)))


def _class_problems(plan: Plan, arms: Mapping[str, RunSpec], data: DataParams) -> Iterator[str]:
    """Of runs on the embedded sample, a line for each class that an arm pastes and the sample does not have."""
    categories = [Category(place, kind.name) for place, kind in enumerate(KINDS)]
    asked = {key: getattr(data, key) for key in ("background", "classes", "drop", "ignore")}
    try:
        names = build_class_table(categories, **asked).names
    except ValueError as error:
        yield f"datasets: {error}"
        return
    for name, run in arms.items():
        yield from (f"arms.{name}: {line}" for line in class_problems(plan.run_params(run).augment.paste, names))


def run_arm(
    plan: Plan,
    run: RunSpec,
    prepared_folder: Path,
    out: Path,
    *,
    code: str,
    labelling: str | None = None,
    keep: Path | None = None,
) -> None:
    """Train `run` on the prepared data set and write its confusion matrices of the judge images to `out`.

    `code` is the digest of the code that trains, `labelling` of that which labels the pool where the run asks for it.
    What was trained stays in a folder of the run's name in `keep`, and is thrown away without it.
    All runs of one seed see the same images in the same order, unless an arm changes train.sampling; arms of one
    architecture start from the same weights.
    """
    params, prepared = plan.run_params(run), Prepared(prepared_folder, fold=FOLD)
    with _work_folder(run, keep) as folder:
        model = _trained(plan, params, prepared, run, Path(folder))
        segmenter, card = load_segmenter(model, weights="last")
    judging = Prepared(prepared_folder, judge=True)
    judge = judging.folds[FOLD].judge
    card.lineage.refuse_judging_on(judging.named_hashes(judge), run.key)
    confusions, _ = evaluate(segmenter, Tune(judging, judge, params.submission.size), label="judge")
    entries = [judging.entries[index] for index in judge]
    updates = max(len(prepared.folds[FOLD].train) // params.train.batch_size, 1)
    result = Result(
        code=code,
        labelling=labelling if plan.is_retrained(run) else None,
        params=plan.fingerprint(run),
        libraries=card.libraries,
        updates=updates * run.epochs,
        classes=judging.classes.names,
        images=tuple(entry.file_name for entry in entries),
        groups=tuple(entry.group for entry in entries),
        confusions=confusions,
    )
    write_result(result, out)


def _work_folder(run: RunSpec, keep: Path | None) -> AbstractContextManager[str | Path]:
    """An empty folder for the run's models and labels: a passing one, or its own in `keep`."""
    if keep is None:
        return tempfile.TemporaryDirectory()
    shutil.rmtree(keep / run.key, ignore_errors=True)
    return nullcontext(keep / run.key)


def _trained(plan: Plan, params: Params, prepared: Prepared, run: RunSpec, folder: Path) -> Path:
    """The run's model folder: of its baseline, or of its retraining on what the teachers say of the pool.

    Raises ValueError where no pseudo label is kept: the baseline would stand for updates that were never made.
    """
    tracker = Tracker([], describe_run("claim", run.arm, FOLD, {}, prepared.classes))
    member, size = params.member(params.member_names[0]), params.submission.size
    baseline = Job("baseline", member, prepared, FOLD, size, folder / "baseline", run=run.key)
    train_member(baseline, folder / "plots" / "baseline", tracker)
    if not plan.is_retrained(run):
        return baseline.out
    teachers = [baseline.out]
    for number in range(1, plan.teachers(run)):
        another = member.model_copy(update={"seed": member.seed + number * TEACHER_SEEDS})
        name, out = f"{run.key} teacher-{number}", folder / f"teacher-{number}"
        train_member(Job("baseline", another, prepared, FOLD, size, out, run=name), folder / "plots" / name, tracker)
        teachers.append(out)
    taught, pseudo = folder / "taught", folder / "pseudo"
    looked = [*prepared.pool(), *prepared.folds[FOLD].tune]
    work = Work(f"{run.key} teach", prepared, looked, params.teach, params.train, taught)
    soft = folder / "soft" if params.teach.probs else None
    teach(work, FOLD, teachers, checkpoints=params.teach.checkpoints, soft=soft)
    make_pseudo_labels(prepared, FOLD, taught, params.pseudo_label, pseudo)
    labels = PseudoLabels(pseudo)
    if not labels.indices:
        raise ValueError(
            f"{run.key}: of the pool no pseudo label is kept ({json.dumps(params.pseudo_label.model_dump())}), so "
            f"there is nothing for a second round to learn from; change arms.{run.arm}.pseudo_label in claims.yaml"
        )
    whole = SoftLabels(soft) if soft is not None and member.retrain.labels == "soft" else None
    again = Job(
        "retrain", member, prepared, FOLD, size, folder / "retrain", labels, baseline.out, run=run.key, soft=whole
    )
    train_member(again, folder / "plots" / "retrain", tracker)
    return again.out
