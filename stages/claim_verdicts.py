"""Draw the verdicts of all claims from their runs: one JSON file, and a page."""

import argparse
from pathlib import Path

from segpipe.claims.folder import FIRST
from segpipe.claims.load import load_plan
from segpipe.claims.page import claims_page
from segpipe.claims.verdicts import draw_verdicts
from segpipe.claims.wiring import check_claims_wired
from segpipe.stage import check_tree, run_stage, write_json


def main() -> None:
    """claims.yaml and the results of its runs in, verdicts out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claims", type=Path, default=FIRST, help="folder of claims.yaml")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path, required=True)
    arguments = parser.parse_args()
    check_tree(__file__)
    plan = load_plan(arguments.claims)
    check_claims_wired(plan)
    verdicts = draw_verdicts(plan, arguments.runs)
    write_json(arguments.out, verdicts)
    arguments.page.write_text(claims_page(verdicts, plan.folder), encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
