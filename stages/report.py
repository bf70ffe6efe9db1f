"""Write the report: one self-contained page."""

import argparse
from pathlib import Path

from segpipe.report.page import write_report
from segpipe.stage import open_stage, run_stage
from segpipe.wire import check_wired


def main() -> None:
    """What the other stages left behind in, one HTML page out."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("prepared", "predictions", "pseudo", "submission", "metrics", "plots", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    params = open_stage(__file__)
    check_wired(params)
    write_report(
        params,
        prepared_folder=arguments.prepared,
        predictions_folder=arguments.predictions,
        pseudo_folder=arguments.pseudo,
        submission_folder=arguments.submission,
        metrics_folder=arguments.metrics,
        plots_folder=arguments.plots,
        out=arguments.out,
    )


if __name__ == "__main__":
    run_stage(main)
