"""Check, rasterise, resize and pack the data set; draw the folds."""

import argparse
from functools import partial
from pathlib import Path

from segpipe.data.prepare.prepare import prepare
from segpipe.stage import open_stage, run_stage
from segpipe.submission.fit import fit_problems


def main() -> None:
    """Sections `data` and `split` in, the prepared folder out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    params = open_stage(__file__)
    fits = partial(fit_problems, params.submission, Path(params.data.root))  # refuses only: no parameter of this stage
    prepare(params.data, params.split, arguments.out, objection=fits)


if __name__ == "__main__":
    run_stage(main)
