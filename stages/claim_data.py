"""Prepare a data set of claims.yaml: base.yaml's sections `data` and `split` with the set's overrides."""

import argparse
from pathlib import Path

from segpipe.claims.folder import FIRST
from segpipe.claims.load import load_plan
from segpipe.data.prepare.prepare import prepare
from segpipe.stage import check_tree, run_stage


def main() -> None:
    """The data set's files in, the prepared folder out; all of claims.yaml is checked first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claims", type=Path, default=FIRST, help="folder of claims.yaml")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    check_tree(__file__)
    params = load_plan(arguments.claims).dataset_params(arguments.dataset)
    prepare(params.data, params.split, arguments.out)


if __name__ == "__main__":
    run_stage(main)
