"""Draw the embedded data set: a small contest of litter scenes, and labelled judge images outside it."""

import argparse
from pathlib import Path

from segpipe.data.sample.write import write_sample
from segpipe.stage import open_stage, run_stage


def main() -> None:
    """Section `sample` in, two folders out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--judge-out", type=Path, required=True)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="a file with a section `sample`")
    arguments = parser.parse_args()
    params = open_stage(__file__, arguments.params)
    write_sample(arguments.out, arguments.judge_out, **params.sample.model_dump())


if __name__ == "__main__":
    run_stage(main)
