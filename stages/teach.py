"""Let the baseline models of one fold label the pool: class and confidence of every pixel."""

import argparse
from pathlib import Path

from segpipe.data.prepared import Prepared
from segpipe.data.split import fold_name
from segpipe.inference.predict import set_threads
from segpipe.inference.teach import teach
from segpipe.stage import open_stage, run_stage
from segpipe.wire import check_wired


def main() -> None:
    """The fold's baseline models and the pool in, the teachers' answers out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fold", type=fold_name, required=True)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    params = open_stage(__file__)
    check_wired(params)
    set_threads(params.train.threads)
    teachers = [arguments.models / f"{member}-{arguments.fold}" for member in params.member_names]
    prepared = Prepared(arguments.prepared, fold=arguments.fold)
    flips, checkpoints = params.teach.flips, params.teach.checkpoints
    teach(prepared, arguments.fold, teachers, flips=flips, checkpoints=checkpoints, out=arguments.out)


if __name__ == "__main__":
    run_stage(main)
