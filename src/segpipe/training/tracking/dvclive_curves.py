"""DVCLive: curves in `dvclive/<stage>/` of the workspace, one row an epoch while training runs."""

import math
import re
from collections.abc import Sequence
from typing import Any

from segpipe.training.tracking.listener import Example, Row, Run


class DvcliveCurves:
    """Writes `plots/metrics/<name>.tsv` and `metrics.json` there, with epochs as steps.

    It touches no stage output and no dvc.yaml: the curves that count are the stage's own history.csv.
    """

    name = "DVCLive"
    images = 0

    def __init__(self) -> None:
        self._live: Any = None

    def start(self, run: Run) -> None:
        """Begin anew: curves of an earlier run of this stage are removed."""
        from dvclive import Live  # brings DVC along, so only where asked for

        folder = run.root / "dvclive" / re.sub(r"[^\w@.-]", "-", run.name)
        # each argument switches off a default that would write to the project: an experiment, dvc.yaml, a report
        self._live = Live(dir=str(folder), save_dvc_exp=False, dvcyaml=False, report=None)

    def show(self, epoch: int, examples: Sequence[Example]) -> None:
        """Nothing: images go to Weights & Biases only."""

    def log(self, row: Row) -> None:
        """One row in each curve; DVCLive would write NaN as text, so an epoch without a score leaves a gap."""
        self._live.step = int(row["epoch"])
        for name, value in row.items():
            if name != "epoch" and math.isfinite(value):
                self._live.log_metric(name, value)
        self._live.next_step()

    def finish(self, *, failed: bool) -> None:
        """Tell viewers that no more will come."""
        self._live.end()
