"""One arm, one seed: trained for its number of updates and scored with its last weights. Nothing is chosen."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from segpipe.claims.plan import Plan, RunSpec
from segpipe.claims.results import Result, write_result
from segpipe.claims.wiring import DRAWN
from segpipe.data.paste import class_problems
from segpipe.data.prepared import Prepared
from segpipe.data.sample.scenes import KINDS
from segpipe.data.source.records import Category
from segpipe.labels import build_class_table
from segpipe.models.checkpoint import load_segmenter
from segpipe.params import DataParams, stop_on
from segpipe.training.check import check_members
from segpipe.training.evaluate import Tune, evaluate
from segpipe.training.job import Job
from segpipe.training.member import train_member
from segpipe.training.tracking.tracker import Tracker, describe_run

FOLD = 0


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
    stop_on("claims.yaml", list(dict.fromkeys(problems)))


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


def run_arm(plan: Plan, run: RunSpec, prepared_folder: Path, code: str, out: Path) -> None:
    """Train `run` on the prepared data set and write its confusion matrices of the judge images to `out`.

    `code` is the digest of the code that runs. All runs of one seed see the same images in the same order, unless
    an arm changes train.sampling; arms of one architecture start from the same weights.
    """
    params, prepared = plan.run_params(run), Prepared(prepared_folder, fold=FOLD)
    job_params, train = params.member(params.member_names[0]), prepared.folds[FOLD].train
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        job = Job(
            round="baseline",
            params=job_params,
            prepared=prepared,
            fold=FOLD,
            scored_size=params.submission.size,
            out=model,
        )
        described = describe_run("claim", run.arm, FOLD, {}, prepared.classes)
        train_member(job, Path(folder) / "plots", Tracker([], described))
        segmenter, card = load_segmenter(model, weights="last")
    judging = Prepared(prepared_folder, judge=True)
    judge = judging.folds[FOLD].judge
    card.lineage.refuse_judging_on(judging.named_hashes(judge), run.key)
    confusions, _ = evaluate(segmenter, Tune(judging, judge, params.submission.size), label="judge")
    entries = [judging.entries[index] for index in judge]
    result = Result(
        code=code,
        params=plan.fingerprint(run),
        libraries=card.libraries,
        updates=max(len(train) // job_params.train.batch_size, 1) * job_params.train.epochs,
        classes=judging.classes.names,
        images=tuple(entry.file_name for entry in entries),
        groups=tuple(entry.group for entry in entries),
        confusions=confusions,
    )
    write_result(result, out)
