"""Keep the teachers' confident pixels as labels of the pool; everything else becomes ignored."""

import argparse
from pathlib import Path

from segpipe.data.prepared import Prepared
from segpipe.data.split import fold_name
from segpipe.pseudo.labels import make_pseudo_labels
from segpipe.stage import open_stage, run_stage, write_json


def main() -> None:
    """The teachers' answers of one fold in, labels and their quality out; seconds, no inference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fold", type=fold_name, required=True)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--taught", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--plots", type=Path, required=True)
    arguments = parser.parse_args()
    params = open_stage(__file__)
    prepared = Prepared(arguments.prepared, fold=arguments.fold)
    made = make_pseudo_labels(prepared, arguments.fold, arguments.taught, params.pseudo_label, arguments.out)
    made.write(arguments.plots)
    write_json(arguments.metrics, {"kept": made.share_kept})


if __name__ == "__main__":
    run_stage(main)
