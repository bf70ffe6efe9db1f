"""Train one arm of a claim with one seed, and score it on judge images."""

import argparse
from pathlib import Path

from segpipe.claims.folder import FIRST
from segpipe.claims.load import load_plan
from segpipe.claims.run import check_arms, run_arm
from segpipe.claims.wiring import code_digests
from segpipe.stage import check_tree, run_stage


def main() -> None:
    """The prepared data set in, one result file out; every arm's names are checked before any training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claims", type=Path, default=FIRST, help="folder of claims.yaml")
    parser.add_argument("--run", required=True)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="folder in which the run's models stay, for a look at them")
    arguments = parser.parse_args()
    check_tree(__file__)
    plan = load_plan(arguments.claims)
    if arguments.run not in plan.runs:
        raise ValueError(
            f"{plan.folder.claims}: asks for no run {arguments.run!r}; run `{plan.folder.command}`, then "
            "`dvc repro` again"
        )
    check_arms(plan)
    code, labelling = code_digests()
    run = plan.runs[arguments.run]
    run_arm(plan, run, arguments.prepared, arguments.out, code=code, labelling=labelling, keep=arguments.keep)


if __name__ == "__main__":
    run_stage(main)
