"""An epoch from the stores beside the naive loop's; called by data.py, on the data that it leaves."""

import argparse
import statistics
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from drawn import CODECS, SIDE
from loops import naive_loader
from turns import seconds, spread

from segpipe.data.augment import Augment
from segpipe.data.dataset import EpochBatches, make_loader
from segpipe.data.prepared import Prepared
from segpipe.params import load_params
from segpipe.training.job import labeled_part

BATCH = 16


def count(batches: Iterable) -> int:
    """How many there are; they are made for it."""
    return sum(1 for _ in batches)


def compare_epochs(folder: Path, turns: int) -> None:
    """Print how many times as many images a second come from the stores; by processor time."""
    member = load_params().member(load_params().member_names[0])
    update = {
        "train": member.train.model_copy(update={"batch_size": BATCH}),
        "augment": member.augment.model_copy(update={"train": []}),
    }
    member = member.model_copy(update=update)
    naive = naive_loader(folder / "drawn", "train.json", (SIDE, SIDE), Augment([], 0, "none"), BATCH)
    for codec in CODECS:
        rows = []
        for epoch in range(turns):
            prepared = Prepared(folder / codec, fold=0)
            train = prepared.folds[0].train
            part = labeled_part(prepared.images, prepared.target_store(train), train, member, prepared.image_size)
            batches = EpochBatches([part], 0)
            batches.epoch = epoch
            own = make_loader([part], batches, 0)
            turn = {"first": own, "later": own, "naive": naive}
            rows.append({name: seconds(partial(count, loader), time.process_time) for name, loader in turn.items()})
        rates = {name: batches.updates * BATCH / statistics.median(row[name] for row in rows) for name in rows[0]}
        print(
            f"an epoch from {codec}: {spread([row['naive'] / row['later'] for row in rows], 1)} x the naive loop "
            f"({rates['later']:.0f} and {rates['naive']:.0f} images/s); the first, with checksums, takes "
            f"{spread([row['first'] / row['later'] for row in rows])} x the time of a later one",
            flush=True,
        )


def main() -> None:
    """On the folder `drawn` and the prepared folders beside it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--turns", type=int, required=True)
    arguments = parser.parse_args()
    compare_epochs(arguments.folder, arguments.turns)


if __name__ == "__main__":
    main()
