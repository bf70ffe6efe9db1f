"""What passes between starting the training stage and the end of its first update, on the sample.

Each run is a process of its own, with the default params.yaml and prepared data of the sample's size. Medians of the
runs, in seconds; the first run, which may read libraries from the disk, is shown apart.

    PYTHONPATH=src python benchmarks/startup.py
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from segpipe.data.prepare.prepare import prepare
from segpipe.data.sample.write import write_sample
from segpipe.params import load_params

ROOT = Path(__file__).resolve().parents[1]

# what the child runs: the stage itself, left after its first update
CHILD = """
import json, os, sys, time
marks = {"interpreter": time.time()}
import train
marks["imports"] = time.time()
from segpipe.training.learner import Learner
update = Learner.update
def first_update(self, batches):
    marks["params, data, network, first batch"] = time.time()
    update(self, batches)
    marks["first update"] = time.time()
    print(json.dumps(marks), flush=True)
    os._exit(0)
Learner.update = first_update
train.main()
"""


def start_once(prepared: Path, scratch: Path, member: str) -> dict[str, float]:
    """Seconds of each part of one start, in order."""
    options = {"round": "baseline", "member": member, "fold": "0", "prepared": prepared, "out": scratch / "model"}
    options |= {"metrics": scratch / "metrics.json", "plots": scratch / "plots"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'stages'}", "DVC_ROOT": str(scratch)}
    before = time.time()
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    marks = json.loads(ended.stdout.splitlines()[-1])
    times = [before, *marks.values()]
    return {name: after - earlier for name, earlier, after in zip(marks, times, times[1:], strict=False)}


def main() -> None:
    """Prepare the sample, start the stage a few times, print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="after the first")
    arguments = parser.parse_args()
    params = load_params()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_sample(scratch / "raw", scratch / "judge", **params.sample.model_dump())
        prepare(params.data.model_copy(update={"root": str(scratch / "raw")}), params.split, scratch / "prepared")
        runs = [
            start_once(scratch / "prepared", scratch / str(number), params.member_names[0])
            for number in range(arguments.runs + 1)
        ]
    print(f"first run: {sum(runs[0].values()):.1f} s; median (least to most) of {arguments.runs} more:")
    for name in (*runs[0], "all"):
        times = [sum(run.values()) if name == "all" else run[name] for run in runs[1:]]
        print(f"  {name}: {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")


if __name__ == "__main__":
    main()
