"""Train one member of one fold: its baseline, or its retraining on labelled and pseudo-labelled images."""

import argparse
from pathlib import Path

from segpipe.data.prepared import Prepared
from segpipe.data.pseudo_labels import PseudoLabels
from segpipe.data.soft_labels import SoftLabels
from segpipe.data.split import fold_name
from segpipe.progress import first_process, say
from segpipe.stage import open_stage, run_stage, told_once, write_json
from segpipe.training.check import check_members, unlisted_weights
from segpipe.training.job import Job
from segpipe.training.member import train_member
from segpipe.training.tracking.tracker import Tracker, describe_run, make_listeners


def main() -> None:
    """Prepared data (for `retrain` also pseudo labels and the baseline) in; a model folder, score and plots out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--round", choices=("baseline", "retrain"), required=True)
    parser.add_argument("--member", required=True)
    parser.add_argument("--fold", type=fold_name, required=True)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--pseudo", type=Path)
    parser.add_argument("--soft", type=Path)
    parser.add_argument("--baseline", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--plots", type=Path, required=True)
    arguments = parser.parse_args()
    with told_once():
        params = open_stage(__file__)
        check_members(params)
        for line in unlisted_weights(params, arguments.round):
            say(f"warning: {line}")
        member = params.member(arguments.member)
        pseudo = PseudoLabels(arguments.pseudo) if arguments.pseudo else None
        takes_soft = pseudo is not None and pseudo.indices and member.retrain.labels == "soft"
        job = Job(
            round=arguments.round,
            params=member,
            prepared=Prepared(arguments.prepared, fold=arguments.fold),
            fold=arguments.fold,
            scored_size=params.submission.size,
            out=arguments.out,
            pseudo=pseudo,
            baseline=arguments.baseline,
            soft=SoftLabels(arguments.soft) if takes_soft else None,
        )
    if job.soft is not None:
        terms = " and ".join(name for name in ("ce", "soft_ce") if getattr(member.loss, name))
        say(
            f"retrain: learns from soft labels of {len(pseudo.indices)} images of the pool: {terms} ask kept pixels "
            "for the teachers' probabilities, all other terms for the class"
        )
    run = describe_run(job.round, arguments.member, job.fold, member.model_dump(mode="json"), job.prepared.classes)
    with Tracker(make_listeners(params.tracking), run) as tracker:
        miou = train_member(job, arguments.plots, tracker)
    if first_process():
        write_json(arguments.metrics, {} if miou is None else {"miou": miou})


if __name__ == "__main__":
    run_stage(main)
