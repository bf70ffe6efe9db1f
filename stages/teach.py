"""Let the baseline models of one fold label the pool: class and confidence of every pixel, and all probabilities."""

import argparse
from pathlib import Path

from segpipe.data.prepared import Prepared
from segpipe.data.soft_labels import write_card
from segpipe.data.split import fold_name
from segpipe.inference.fold import Work
from segpipe.inference.teach import teach
from segpipe.progress import first_process
from segpipe.stage import open_stage, run_stage, told_once
from segpipe.wire import check_wired


def main() -> None:
    """The fold's baseline models and the pool in, the teachers' answers out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fold", type=fold_name, required=True)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--soft", type=Path, required=True)
    arguments = parser.parse_args()
    with told_once():
        params = open_stage(__file__)
        check_wired(params)
        teachers = [arguments.models / f"{member}-{arguments.fold}" for member in params.teachers]
        prepared = Prepared(arguments.prepared, fold=arguments.fold)
        indices = [*prepared.pool(), *prepared.folds[arguments.fold].tune]
        work = Work("teach", prepared, indices, params.teach, params.train, arguments.out)
    soft = arguments.soft if params.teach.probs else None
    teach(work, arguments.fold, teachers, checkpoints=params.teach.checkpoints, soft=soft)
    if soft is None and first_process():
        write_card(arguments.soft, [])  # DVC wants every output to be there


if __name__ == "__main__":
    run_stage(main)
